"""The words that are known, how they inflect, and what may stand for them: looked up in a small file that ships.

The file is kept as the sorted text that it is and searched by bisection: quicker to load and smaller than any table of
Python objects, and a text has few words.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from memcli.dedup.gates.words import CLOSED, MODERN, UNCHANGED

_FILE = Path(__file__).parents[1] / "lexicon.tsv.gz"
_CACHED = 1 << 12
_SHORTEST_STEM = 2
_SHORT, _LONG = 4, 7
_MOST_SLIPS = 2
_VOWELS = frozenset("aeiou")


@dataclass(frozen=True, slots=True)
class Entry:
    """What the lexicon says of a word: parts of speech (of n v a r, N for a name) and related words, "v:begin"."""

    parts: str
    synonyms: frozenset[str]
    antonyms: frozenset[str]
    lemmas: tuple[str, ...]


@cache
def _table() -> bytes:
    packed = gzip.decompress(_FILE.read_bytes())
    return packed[packed.index(b"\n", packed.rindex(b"\n#") + 1) :]


@lru_cache(maxsize=_CACHED)
def entry(word: str) -> Entry | None:
    """Return what the lexicon says of a lower-case word, None when it is not there."""
    table, wanted = _table(), word.encode()
    low, high = 0, len(table) - 1
    while low < high:
        begin = table.rindex(b"\n", 0, (low + high) // 2 + 1) + 1
        end = table.index(b"\n", begin)
        line = table[begin:end]
        found = line[: line.find(b"\t")] if b"\t" in line else line
        if found == wanted:
            fields = (line.decode().split("\t") + [""] * 4)[1:5]
            synonyms, antonyms, lemmas = (field.split(",") if field else () for field in fields[1:])
            return Entry(fields[0], frozenset(synonyms), frozenset(antonyms), tuple(lemmas))
        if found < wanted:
            low = end
        else:
            high = begin - 1
    return None


@lru_cache(maxsize=_CACHED)
def readings(word: str) -> tuple[tuple[str, str], ...]:
    """Return what a lower-case word can be, (lemma, form): "started" is ("start", "vd").

    Forms: n, ns (plural), v, vs (third person), vd (past or participle), vg (-ing), a, ar (comparative), at
    (superlative), r. Empty for a word that the lexicon does not have.
    """
    found = {(word, part) for part in _parts(word)}
    if word in UNCHANGED:
        found.add((word, "vd"))
    own = entry(word)
    for each in own.lemmas if own else ():
        part, lemma = each.split(":")
        found.update((lemma, form) for form in _irregular(part, word))
    for ending, forms in _ENDINGS.items():
        if word.endswith(ending):
            for lemma in _stems(word, ending):
                found.update((lemma, form) for form in forms if form[0] in _parts(lemma))
    return tuple(sorted(found))


_ENDINGS = {"s": ("ns", "vs"), "ed": ("vd",), "ing": ("vg",), "er": ("ar",), "est": ("at",)}


def _irregular(part: str, word: str) -> tuple[str, ...]:
    if part == "v":
        return ("vg",) if word.endswith("ing") else ("vs",) if word.endswith("s") else ("vd",)
    return {"n": ("ns",), "a": ("at",) if word.endswith("st") else ("ar",)}.get(part, ("r",))


def _stems(word: str, ending: str) -> list[str]:
    """Return what the regular rules let the ending be added to."""
    base = word[: -len(ending)]
    if len(base) < _SHORTEST_STEM or (ending == "s" and base.endswith(("s", "u", "i"))):
        return []
    stems = [base]
    if ending == "s":
        if base.endswith("ie"):
            stems = [base, base[:-2] + "y"]
        elif base.endswith(("se", "she", "che", "xe", "ze", "oe")):
            stems = [base, base[:-1]]
    else:
        stems.append(base + "e")
        if base.endswith("i"):
            stems.append(base[:-1] + "y")
        if base[-1] == base[-2] and base[-1] not in _VOWELS:
            stems.append(base[:-1])
    return stems


def _parts(word: str) -> str:
    found = entry(word)
    return (found.parts.replace("N", "") if found else "") or ("nv" if word in MODERN else "")


@lru_cache(maxsize=_CACHED)
def known(word: str) -> bool:
    """Whether a lower-case word is one of the language, in any form; names that the lexicon has count."""
    return word in CLOSED or entry(word) is not None or bool(readings(word))


@lru_cache(maxsize=_CACHED)
def common(word: str) -> bool:
    """Whether a lower-case word is one of the language and not only a name."""
    return word in CLOSED or bool(readings(word))


@lru_cache(maxsize=_CACHED)
def named(word: str) -> bool:
    """Whether a lower-case word is with a capital a name that the lexicon has: "polish"."""
    found = entry(word)
    return found is not None and "N" in found.parts


@lru_cache(maxsize=_CACHED)
def synonymous(first: str, second: str) -> bool:
    """Whether one word (or short phrase) may stand for the other, both in the same form: "began", "started"."""
    mine = _uses(first)
    return bool(mine) and any(
        form == other and f"{form[0]}:{lemma}" in _synonyms(base)
        for base, form in mine
        for lemma, other in _uses(second)
    )


def _synonyms(word: str) -> frozenset[str]:
    found = entry(word)
    return found.synonyms if found else frozenset()


@lru_cache(maxsize=_CACHED)
def _uses(words: str) -> tuple[tuple[str, str], ...]:
    """Return the readings of a word or of a phrase that inflects at its first (verb) or last word (noun)."""
    if " " not in words:
        return readings(words)
    head, rest = words.split(" ", 1)
    front, last = words.rsplit(" ", 1)
    found = [(f"{lemma} {rest}", form) for lemma, form in readings(head) if form[0] == "v"]
    found += [(f"{front} {lemma}", form) for lemma, form in readings(last) if form[0] == "n"]
    return tuple((phrase, form) for phrase, form in found if entry(phrase) is not None)


@lru_cache(maxsize=_CACHED)
def opposite(first: str, second: str) -> bool:
    """Whether two words are antonyms: "early" and "late", "arrives" and "departed"."""
    mine = {lemma for lemma, _ in readings(first)} | {first}
    others = {lemma for lemma, _ in readings(second)} | {second}
    return any((found := entry(lemma)) is not None and not found.antonyms.isdisjoint(others) for lemma in mine)


@lru_cache(maxsize=_CACHED)
def same_lemma(first: str, second: str) -> bool:
    """Whether two words are forms of one: "manage" and "managed"."""
    return not {lemma for lemma, _ in readings(first)}.isdisjoint(lemma for lemma, _ in readings(second))


@lru_cache(maxsize=_CACHED)
def mistyped(first: str, second: str) -> bool:
    """Whether one of two lower-case words is common and the other, no word nor name, a slip of the keys away."""
    if abs(len(first) - len(second)) > _MOST_SLIPS:
        return False
    right, wrong = (first, second) if common(first) else (second, first)
    if not common(right) or known(wrong):
        return False
    if len(wrong) < _SHORT:
        # Of short words only a transposition is told from another word, or from an abbreviation.
        return right in CLOSED and sorted(right) == sorted(wrong) and right != wrong
    if not wrong.isalpha() or min(len(right), len(wrong)) < _SHORT - 1 or _derived(right, wrong):
        return False
    if len(right) >= _LONG and len(wrong) >= _LONG and right[0] == wrong[0]:
        return distance(right, wrong) <= 1 + (len(right) > _LONG)
    return right[0] == wrong[0] and distance(right, wrong) == 1


def _derived(right: str, wrong: str) -> bool:
    """Whether the unknown word may be another form of the known one, or made of it, rather than a slip."""
    if wrong.startswith(right) or wrong.endswith(right):
        # A doubled letter is a slip: "limmit", "limitt".
        return not (len(wrong) == len(right) + 1 and (wrong[-1] == wrong[-2] and wrong[-1] not in "sd"))
    return right == wrong + "s" or (right.endswith("d") and wrong.endswith("s"))


@lru_cache(maxsize=_CACHED)
def distance(first: str, second: str) -> int:
    """Return the edit distance of two words: letters added, dropped, replaced, neighbours swapped."""
    before: list[int] = []
    row = list(range(len(second) + 1))
    for at, letter in enumerate(first, 1):
        older, before, row = before, row, [at]
        for to, other in enumerate(second, 1):
            cost = min(before[to] + 1, row[to - 1] + 1, before[to - 1] + (letter != other))
            if at > 1 and to > 1 and letter == second[to - 2] and first[at - 2] == other:
                cost = min(cost, older[to - 2] + 1)
            row.append(cost)
    return row[-1]


@lru_cache(maxsize=_CACHED)
def agree(one: str, other: str) -> bool:
    """Whether two words are one verb with and without the ending of the third person."""
    forms = dict(readings(one)), dict(readings(other))
    return any(
        (lemma, "v") in readings(base) and (lemma, "vs") in readings(third)
        for base, third in ((one, other), (other, one))
        for lemma in (forms[0] if base == one else forms[1])
    )
