"""The gates: what a difference between two texts is evidence of, and the judgement on a pair."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

from memcli.dedup.gates.align import Context, aligned, alike, same_case
from memcli.dedup.gates.clauses import reordered
from memcli.dedup.gates.composing import surface
from memcli.dedup.gates.lexicon import opposite, same_lemma
from memcli.dedup.gates.reading import Reading, Signature, designated, read
from memcli.dedup.gates.roles import same_roles
from memcli.dedup.gates.tokens import IDENTIFIER, START, WORD, Token, stands_in
from memcli.dedup.gates.words import EMPTY, MODALS, NEGATIONS, QUANTIFIERS, STATES
from memcli.model import Judgement

GATE_VERSION = "4"

_EXTRA_SHARE = 0.1
# A quarter of the words in common: texts with fewer are never one, and most candidates are such.
_LEAST_SHARE = 4
_SHOWN = 80
_MOST_APART, _MOST_PAIRED = 24, 6


@dataclass(frozen=True, slots=True)
class Difference:
    """What is left of two texts that are not the same when all that is alike or explained is taken away.

    Words only: the other tokens are in the readings' signatures.
    """

    first: Reading
    second: Reading
    left: tuple[Token, ...]
    right: tuple[Token, ...]
    context: Context


def numbers(found: Difference) -> str:
    """The same figures, amounts, times and dates, however they are written.

    Same: "1,000 calls" | "one thousand calls"; "Wait 300 s" | "Wait 5 min"; "at 3pm" | "at 15:00"
    Other: "Wait 5 ms" | "Wait 5 s"; "Budget: $500" | "Budget: $5000"; "March 5, 2026" | "2026-03-15"
    """
    return apart(found.first.signature.numbers, found.second.signature.numbers)


def identifiers(found: Difference) -> str:
    """The same tickets, versions, hashes, paths, addresses, flags, variables, and other things with their own form.

    Same: "Ticket SUP-717 is open" | "ticket sup-717 is open"
    Other: "PR #260 is in" | "PR #480 is in"; "Set MAX_SIZE first" | "Set MIN_SIZE first"
    """
    context = found.context
    first, second = (
        sorted(token.key if context.caseless else surface(token) for token in side.tokens if token.kind is IDENTIFIER)
        for side in (found.first, found.second)
    )
    return apart(first, second)


def negation(found: Difference) -> str:
    """As many negations and questions, and no word that denies on one side only.

    Same: "I don't eat fish" | "I do not eat fish"; "She is unable to swim" | "She can't swim"
    Other: "She likes tea" | "She does not like tea"; "with a tub" | "without a tub"; "runs if set" | "fails if set"
    """
    sides = [f"{side.signature.negations} negations" for side in (found.first, found.second)]
    asked = [f"{side.signature.questions} questions" for side in (found.first, found.second)]
    if sides[0] != sides[1] or asked[0] != asked[1]:
        return f"{sides[0]}, {asked[0]} | {sides[1]}, {asked[1]}"
    return _among(found, NEGATIONS)


def quantifiers(found: Difference) -> str:
    """The same words for how much, how many and how often.

    Same: "takes up to 6 weeks" | "takes at most six weeks"; "each morning" | "every morning"
    Other: "at most 5 calls" | "at least 5 calls"; "all servers" | "some servers"
    """
    return _among(found, QUANTIFIERS)


def modality(found: Difference) -> str:
    """What must be, may be, is planned or was done stays so.

    Same: "It has to be merged" | "It must be merged"; "We intend to move" | "We plan to move"
    Other: "It must be merged" | "It may be merged"; "She booked a cabin" | "She wants to book a cabin"
    """
    return _among(found, MODALS)


def tense(found: Difference) -> str:
    """What was, is and will be stay apart.

    Same: "She is in Rome" | "she's in Rome"
    Other: "He works at Acme" | "He worked at Acme"; "He manages it" | "He used to manage it"
    """
    pairs = [
        (one.key, other.key)
        for one, other in product(found.left[:_MOST_PAIRED], found.right[:_MOST_PAIRED])
        if one.key != other.key and same_lemma(one.key, other.key)
    ]
    if pairs:
        return " | ".join(", ".join(sorted(side)) for side in zip(*pairs, strict=True))
    return _among(found, STATES)


def antonyms(found: Difference) -> str:
    """No word stands against its opposite.

    Same: "It was quick" | "It was fast"
    Other: "It was paid early" | "It was paid late"; "It opens at 9" | "It closes at 9"
    """
    sides = found.left[:_MOST_PAIRED], found.right[:_MOST_PAIRED]
    pairs = [(one.key, other.key) for one, other in product(*sides) if opposite(one.key, other.key)]
    return " | ".join(", ".join(sorted(side)) for side in zip(*pairs, strict=True)) if pairs else ""


def names(found: Difference) -> str:
    """The same names; a capital within a sentence makes one.

    Same: "rahul manages dana" | "Rahul manages Dana"
    Other: "I met Mia" | "I met Leo"; "We like Polish food" | "We like polish food"
    """
    left, right = (
        sorted(token.case for token in side if token.kind is WORD and token.case not in ("", START))
        for side in (found.left, found.right)
    )
    return apart(left, right)


def quotation(found: Difference) -> str:
    """What one side quotes or sets as code stands letter for letter in the other.

    Same: "Run `make test`" | "Run make test"
    Other: 'Set "the tags"' | 'Set "the tag"'
    """
    return _misquoted(found.first, found.second)


def extra(found: Difference) -> str:
    """Neither side tells something more.

    Same: "She said that it works" | "She said it works"
    Other: "He lives in Rome" | "He lives in Rome and keeps bees"
    """
    return _told(found.left, found.right) if bool(found.left) != bool(found.right) else ""


def overlap(found: Difference) -> str:
    """No word is replaced by one that may mean something else.

    Same: "She began to run" | "She started to run"; "Orders svc is up" | "Orders service is up"
    Other: "He has a cat" | "He has a dog"; "She left the door open" | "She permitted the door open"
    """
    return _told(found.left, found.right) if found.left and found.right else ""


def order(found: Difference) -> str:
    """Who does what to whom, and what belongs to what, stay the same.

    Same: "Rahul manages Dana" | "Dana is managed by Rahul"; "Unless X is set, Y fails" | "Y fails unless X is set"
    Other: "Ann manages Bob" | "Bob manages Ann"; "It flies from Rome to Oslo" | "It flies from Oslo to Rome"
    """
    if found.left or found.right or found.first.signature != found.second.signature:
        return ""
    pairs = zip(found.first.tokens, found.second.tokens, strict=False)
    return next((f"{x.key} | {y.key}"[: 2 * _SHOWN] for x, y in pairs if x.key != y.key), "another order")


_GATES: dict[str, Callable[[Difference], str]] = {
    "numbers": numbers,
    "identifiers": identifiers,
    "negation": negation,
    "quantifiers": quantifiers,
    "modality": modality,
    "tense": tense,
    "antonyms": antonyms,
    "names": names,
    "quotation": quotation,
    "extra": extra,
    "overlap": overlap,
    "order": order,
}
GATES = tuple(_GATES)


@lru_cache(maxsize=1 << 13)
def signature(text: str) -> Signature:
    """Return the numbers, identifiers and negations of `text`: cheap to compare, and to group templated texts by."""
    return read(text).signature


def same_signature(a: str, b: str) -> bool:
    """Whether two texts have one signature; what is found in the least time is compared first."""
    return designated(a) == designated(b) and signature(a) == signature(b)


def merge_key(text: str) -> int:
    """A number of 64 bits that two texts have in common wherever `judge` can let them merge; it may be stored.

    It covers what `judge` wants equal before anything else: the signature.
    """
    evidence = repr(signature(text)).encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(evidence, digest_size=8).digest(), "little", signed=True)


def judge(a: str, b: str, cosine: float, threshold: float) -> Judgement:
    """Weigh the evidence about two texts of cosine `cosine` under a model whose near threshold is `threshold`.

    The gates are the functions of this module. Light words ("and", "also") may stand on one side only where the cosine
    is at least half-way from the threshold to 1, at most a tenth of the words; from there on the same heads and roles
    will do where the words do not line up (`roles`). `Judgement.overlap` is the Jaccard
    overlap of the two multisets of words, 0 to 1.

    Symmetric but for the sides of `differences`, deterministic, and all gates pass for a text and its re-formatting.
    """
    first, second = read(a), read(b)
    words = [Counter(token.key for token in side.tokens if token.kind is WORD) for side in (first, second)]
    shared = (words[0] & words[1]).total()
    union = words[0].total() + words[1].total() - shared
    is_close = cosine >= (threshold + 1) / 2
    spare = int(_EXTRA_SHARE * max(each.total() for each in words)) if is_close else 0
    context = Context(
        first.caseless or second.caseless,
        first.view != second.view and "" not in (first.view, second.view),
        frozenset(words[0].keys() & words[1].keys()),
    )
    differences = (
        {}
        if _same(first, second, context, spare, is_close=is_close and _LEAST_SHARE * shared >= union)
        else _differences(first, second, context)
    )
    return Judgement(
        passed=tuple(gate for gate in GATES if gate not in differences),
        failed=tuple(gate for gate in GATES if gate in differences),
        overlap=shared / union if union else 1.0,
        differences=differences,
    )


def _same(first: Reading, second: Reading, context: Context, spare: int, *, is_close: bool) -> bool:
    if first.signature != second.signature or (first.quoted + second.quoted and _misquoted(first, second)):
        return False
    if aligned(first.tokens, second.tokens, context, spare) or reordered(first.tokens, second.tokens, context):
        return True
    both = (first.tokens, second.tokens), (second.tokens, first.tokens)
    return is_close and all(same_roles(one, other, context) for one, other in both)


def _differences(first: Reading, second: Reading, context: Context) -> dict[str, str]:
    left, right = _remaining(first.tokens, second.tokens, context)
    found = Difference(first, second, left, right, context)
    differences = {gate: told for gate, weigh in _GATES.items() if (told := weigh(found))}
    return differences or {"order": "-"}


def _remaining(
    first: Sequence[Token], second: Sequence[Token], context: Context
) -> tuple[tuple[Token, ...], tuple[Token, ...]]:
    """Take away the words that both sides have or that explain one another, wherever they stand."""
    left = [token for token in first if token.kind is WORD and token.key not in EMPTY]
    right = [token for token in second if token.kind is WORD and token.key not in EMPTY]
    unmatched = []
    for token in left:
        equal = next(
            (at for at, other in enumerate(right) if other.key == token.key and same_case(token, other, context)), None
        )
        if equal is None:
            unmatched.append(token)
        else:
            del right[equal]
    # Texts that are so far apart are told by what only one has; which word may stand for which is then of no interest.
    if len(unmatched) + len(right) > _MOST_APART:
        return tuple(unmatched), tuple(right)
    remaining = []
    for token in unmatched:
        close = next((at for at, other in enumerate(right) if alike(token, other, context)), None)
        if close is None:
            remaining.append(token)
        else:
            del right[close]
    return tuple(remaining), tuple(right)


def apart(first: Sequence[str], second: Sequence[str]) -> str:
    """Say what only one side has, "260 | 480"; empty when both have the same. Both are sorted."""
    if first == second:
        return ""
    left, right = Counter(first), Counter(second)
    only = [", ".join(sorted(side.elements()))[:_SHOWN] or "-" for side in (left - right, right - left)]
    return " | ".join(only)


def _among(found: Difference, words: frozenset[str]) -> str:
    """Say which of the words stand on one side only."""
    sides = [[token.key.strip(",") for token in side] for side in (found.left, found.right)]
    left, right = (sorted([key for key in side if key in words]) for side in sides)
    return apart(left, right)


def _told(left: Sequence[Token], right: Sequence[Token]) -> str:
    sides = [", ".join(sorted(surface(token) for token in side))[:_SHOWN] or "-" for side in (left, right)]
    return " | ".join(sides)


def _quotes(quote: str, one: Reading, other: Reading) -> bool:
    """Whether a text has the other's quote, without its capitals where the texts differ in those all along."""
    if stands_in(quote, other.text):
        return True
    if one.text[:1] == other.text[:1] or one.text[:1].lower() != other.text[:1].lower():
        return False
    return (one.caseless or other.caseless) and stands_in(quote.lower(), other.text.lower())


def _misquoted(first: Reading, second: Reading) -> str:
    """Say what one side quotes or sets as code and the other does not have letter for letter."""
    missing = [
        sorted({quote for quote in one.quoted if not _quotes(quote, one, other)})
        for one, other in ((first, second), (second, first))
    ]
    return " | ".join(", ".join(side)[:_SHOWN] or "-" for side in missing) if any(missing) else ""
