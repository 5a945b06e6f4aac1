"""Words of one family: a verb, its forms and the noun for what it does, "deploy" and "deployment"."""

from __future__ import annotations

from functools import lru_cache

from memcli.dedup.gates.lexicon import entry, readings
from memcli.dedup.gates.words import MODERN

# How English makes the noun of an action from its verb: the verb's ending, and what takes its place.
_ENDINGS = (
    ("", "ment"),
    ("", "ion"),
    ("e", "ion"),
    ("e", "ation"),
    ("", "ation"),
    ("y", "ication"),
    ("de", "sion"),
    ("d", "sion"),
    ("se", "sion"),
    ("it", "ission"),
    ("ce", "ction"),
    ("ibe", "iption"),
    ("e", "al"),
    ("", "al"),
    ("", "ance"),
    ("", "ence"),
    ("e", "ance"),
    ("e", "ence"),
    ("", "y"),
    ("e", "ure"),
    ("", "ure"),
    ("", "age"),
)
# Their likeness to a verb is by chance, or long gone.
_STRANGERS = frozenset(
    """department apartment compartment commission station ration mission portion caution notion nation section party
    army city body story pity county entry manage personal final general capital total animal stage message passage
    courage cottage village image sentence science audience""".split()
)
_SHORTEST = 3


@lru_cache(maxsize=1 << 12)
def deed(noun: str) -> frozenset[str]:
    """Return the verbs that a noun, in any form, is the doing of; "decision" of "decide", "retries" of "retry"."""
    found: set[str] = set()
    for lemma, form in readings(noun):
        if form not in ("n", "ns"):
            continue
        if any(other == "v" for _, other in readings(lemma)):
            found.add(lemma)
        if lemma in _STRANGERS:
            continue
        for verb_end, noun_end in _ENDINGS:
            stem = lemma.removesuffix(noun_end)
            if (
                lemma.endswith(noun_end)
                and len(stem) >= _SHORTEST
                and any(form == "v" for _, form in readings(stem + verb_end))
            ):
                found.add(stem + verb_end)
    return frozenset(found)


@lru_cache(maxsize=1 << 12)
def verbs(word: str) -> frozenset[str]:
    """Return the verbs that a word can be a form of."""
    return frozenset(lemma for lemma, form in readings(word) if form[0] == "v")


@lru_cache(maxsize=1 << 12)
def mostly_verb(lemma: str) -> bool:
    """Whether a word is a verb in more senses than anything else."""
    found = entry(lemma)
    return found is not None and found.parts[:1] == "v"


@lru_cache(maxsize=1 << 12)
def one_deed(first: str, second: str) -> bool:
    """Whether two nouns are one: "the deploy" and "the deployment"; a "treat" is no "treatment"."""
    for short, long in ((first, second), (second, first)):
        found = entry(short)
        if found is not None and "n" not in found.parts and short in deed(long) and short in MODERN:
            return True
    return False
