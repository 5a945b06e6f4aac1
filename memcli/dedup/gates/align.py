"""Two sequences of tokens, piece by piece: is every difference explained as harmless?

The search goes from the first difference on along explained steps only, so a pair that differs in a fact ends at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from memcli.dedup.gates.lexicon import common, entry, known, mistyped, readings, synonymous
from memcli.dedup.gates.tokens import START, WORD, Token
from memcli.dedup.gates.words import CLOSED, EMPTY, GROUPS, LIGHT, MODERN, MONTHS, SHORT_FORMS, WEEKDAYS

_LONGEST_PHRASE = 3
_SHORTEST_JOINED = 6
_SHORTEST_SHORT, _LONGEST_SHORT = 3, 6
_LONGEST_ACRONYM = 5
_LONG_START = 6
_VOWELS = frozenset("aeiou")
_THEY = {
    "<speaker>": frozenset("they them".split()),
    "<speaker's>": frozenset("their theirs".split()),
    "<speaker self>": frozenset("themselves themself".split()),
}


@dataclass(frozen=True, slots=True)
class Context:
    """What of two whole texts bears on single words: no capitals in one of them, and two views of one speaker."""

    lowered: bool
    views_differ: bool


def aligned(first: Sequence[Token], second: Sequence[Token], context: Context, spare: int = 0) -> bool:
    """Whether each token of one sequence is explained by the other in the same order.

    `spare` is how many light words may stand on one side only.
    """
    return _explained(first, second, 0, 0, context, spare, set())


def _explained(
    first: Sequence[Token],
    second: Sequence[Token],
    at: int,
    to: int,
    context: Context,
    spare: int,
    dead: set[tuple[int, int, int]],
) -> bool:
    ends = len(first), len(second)
    while at < ends[0] and to < ends[1] and first[at] == second[to]:
        at, to = at + 1, to + 1
    if (at, to) == ends:
        return True
    if (at, to, spare) in dead:
        return False
    for taken, other, cost in _steps(first, second, at, to, context):
        if cost <= spare and _explained(first, second, at + taken, to + other, context, spare - cost, dead):
            return True
    dead.add((at, to, spare))
    return False


def _steps(
    first: Sequence[Token], second: Sequence[Token], at: int, to: int, context: Context
) -> list[tuple[int, int, int]]:
    """Return the explained steps from two places: how many tokens of each, and how many light words that costs."""
    steps = []
    left = first[at] if at < len(first) else None
    right = second[to] if to < len(second) else None
    if left and right:
        if alike(left, right, context):
            steps.append((1, 1, 0))
        for taken in range(1, _LONGEST_PHRASE + 1):
            for other in range(1, _LONGEST_PHRASE + 1):
                if taken + other > 2 and _same_phrase(first[at : at + taken], second[to : to + other], (taken, other), context):
                    steps.append((taken, other, 0))
    for token, step in ((left, (1, 0)), (right, (0, 1))):
        if token and token.kind is WORD:
            if token.key in EMPTY:
                steps.append((*step, 0))
            elif token.key in LIGHT and not token.case.isupper():
                steps.append((*step, 1))
    return steps


def alike(left: Token, right: Token, context: Context) -> bool:
    """Whether one token may stand for another in its place."""
    if left.kind is not right.kind:
        return False
    if left.key == right.key:
        return left.kind is not WORD or same_case(left, right, context)
    if left.kind is not WORD:
        return False
    one, other = left.key, right.key
    if context.views_differ:
        if one in _THEY.get(other, ()) or other in _THEY.get(one, ()) or _agree(one, other):
            return True
    if _is_name(left, context) or _is_name(right, context):
        return _slipped_name(one, other) or _short_name(one, other)
    if mistyped(one, other):
        # A name may begin a sentence: "Robyn" is no slip of "Robin".
        return START not in (left.case, right.case) or min(len(one), len(other)) >= _LONG_START
    return interchangeable(one, other)


def same_case(left: Token, right: Token, context: Context) -> bool:
    """Whether two ways to write one word with or without capitals are one: "Postgres", "postgres" but not "US", "us"."""
    one, other = left.case, right.case
    if one == other or START in (one, other) and all(case in ("", START) or case[1:] == left.key[1:] for case in (one, other)):
        return True
    if left.key in CLOSED or not (one == "" or other == "" or START in (one, other)):
        return False
    written = one if one not in ("", START) else other
    title = written[1:] == left.key[1:]
    if not title and not (context.lowered and written[0].isupper()):
        return False
    # A word that is also a common one means something else with a capital: "Polish", "Max".
    return context.lowered or not common(left.key) or left.key in MODERN


@lru_cache(maxsize=1 << 14)
def interchangeable(one: str, other: str) -> bool:
    """Whether two lower-case words mean the same: synonyms in one form, or a short form."""
    return (
        _grouped(one, other)
        or synonymous(one, other)
        or other in SHORT_FORMS.get(one, ())
        or one in SHORT_FORMS.get(other, ())
        or _shortened(one, other)
        or _shortened(other, one)
    )


def _grouped(one: str, other: str) -> bool:
    if other in GROUPS.get(one, ()):
        return True
    forms = {(lemma, form) for lemma, form in readings(other)}
    return any(
        (member, form) in forms for lemma, form in readings(one) for member in GROUPS.get(lemma, ()) if member != lemma
    )


def _shortened(short: str, long: str) -> bool:
    """Whether a word that is none is the beginning or the consonants of a common one: "conn", "img"."""
    if not _SHORTEST_SHORT <= len(short) <= _LONGEST_SHORT or len(long) < len(short) + 2 or short[0] != long[0]:
        return False
    if known(short) or not common(long) or long in CLOSED or not short.isalpha():
        return False
    if long.startswith(short):
        return short[-1] not in _VOWELS
    if not _VOWELS.isdisjoint(short[1:]):
        return False
    rest = iter(long)
    return all(letter in rest for letter in short)


def _agree(one: str, other: str) -> bool:
    """Whether two words are one verb with and without the ending of the third person."""
    forms = dict(readings(one)), dict(readings(other))
    return any(
        (lemma, "v") in readings(base) and (lemma, "vs") in readings(third)
        for base, third in ((one, other), (other, one))
        for lemma in (forms[0] if base == one else forms[1])
    )


def _is_name(token: Token, context: Context) -> bool:
    return token.case not in ("", START) and not context.lowered


def _slipped_name(one: str, other: str) -> bool:
    """Whether one is a slip of the name of a month, a day or a product: no other name is safe from being another."""
    named = any(word in MONTHS or word in WEEKDAYS or word in MODERN for word in (one, other))
    return named and mistyped(one, other)


def _short_name(one: str, other: str) -> bool:
    """Whether one name is the other's usual short form: "Postgres", "PostgreSQL"."""
    return other in SHORT_FORMS.get(one, ()) or one in SHORT_FORMS.get(other, ())


def _same_phrase(
    first: Sequence[Token], second: Sequence[Token], lengths: tuple[int, int], context: Context
) -> bool:
    """Whether two short runs of words are one: "data base" and "database", "PR" and "pull request"."""
    taken, other = lengths
    if len(first) < taken or len(second) < other:
        return False
    if any(token.kind is not WORD for token in (*first, *second)) or any(token.stop for token in (*first[:-1], *second[:-1])):
        return False
    left, right = [token.key for token in first], [token.key for token in second]
    if taken == 1 or other == 1:
        whole, parts = (left[0], right) if taken == 1 else (right[0], left)
        if whole == "".join(parts) and len(whole) >= _SHORTEST_JOINED:
            return True
        short = first[0] if taken == 1 else second[0]
        if (short.case.isupper() or context.lowered) and len(parts) > 1 and len(whole) <= _LONGEST_ACRONYM:
            if whole == "".join(part[0] for part in parts) and not any(part in CLOSED for part in parts):
                return True
    one, two = " ".join(left), " ".join(right)
    if not ((taken == 1 or entry_of(one)) and (other == 1 or entry_of(two))):
        return False
    return synonymous(one, two)


@lru_cache(maxsize=1 << 14)
def entry_of(phrase: str) -> bool:
    """Whether the lexicon has a phrase, its verb or noun in any form."""
    head, rest = phrase.split(" ", 1)
    front, last = phrase.rsplit(" ", 1)
    return any(entry(f"{lemma} {rest}") for lemma, form in readings(head) if form[0] == "v") or any(
        entry(f"{front} {lemma}") for lemma, form in readings(last) if form[0] == "n"
    )
