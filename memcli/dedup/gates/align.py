"""Two sequences of tokens, piece by piece: is every difference explained as harmless?

The search goes from the first difference on along explained steps only, so a pair that differs in a fact ends at once.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from memcli.dedup.gates.implied import begins, implied, untold_subject
from memcli.dedup.gates.lexicon import agree, common, distance, entry, known, mistyped, named, readings, synonymous
from memcli.dedup.gates.tokens import NUMBER, START, WORD, Token
from memcli.dedup.gates.words import (
    CLOSED,
    EMPTY,
    FOLLOWING,
    GROUPS,
    INTRANSITIVE,
    LIGHT,
    MODERN,
    MONTHS,
    PRONOUNS,
    RUNS,
    SHORT_FORMS,
    WEEKDAYS,
)

_LONGEST_PHRASE = 3
_PAIR = 2
_SHORTEST_JOINED = 4
_SWAPPED_NAME = 5
_SHORTEST_SHORT, _LONGEST_SHORT = 3, 6
_LONGEST_ACRONYM = 5
_SMALL = frozenset("of and for in to on the".split())
_LONG_NAME = 8
_LONG_START = 6
_STAND_FOR = {"->": ("to",), "+": ("and",), "/": ("and", "or"), "instead-of": ("over",)}
# What a stop may stand for.
_STOPPED = frozenset(("be", "-", "and"))
# Prepositions that are one before anything but a figure; "over" is "to" behind "prefer".
_PREPOSITIONS = {"within": "in", "onto": "on", "beside": "near", "throughout": "during"}
_COSTING = (("costs", "be"), ("cost", "was"))
_VOWELS = frozenset("aeiou")


@dataclass(frozen=True, slots=True)
class Context:
    """What of two whole texts bears on words: capitals that tell nothing in one of them, two views of one speaker.

    `shared` are the words that both texts have: two of them may have changed places.
    """

    caseless: bool
    views_differ: bool
    shared: frozenset[str] = frozenset()


def aligned(first: Sequence[Token], second: Sequence[Token], context: Context, spare: int = 0) -> bool:
    """Whether each token of one sequence is explained by the other in the same order.

    `spare` is how many light words may stand on one side only.
    """
    ends = len(first), len(second)
    seen: set[tuple[int, int, int]] = set()
    ways = [(0, 0, spare)]
    while ways:
        at, to, left = ways.pop()
        while at < ends[0] and to < ends[1] and first[at] == second[to]:
            at, to = at + 1, to + 1
        if (at, to) == ends:
            return True
        if (at, to, left) in seen:
            continue
        seen.add((at, to, left))
        # Of the steps from one place the first is tried first.
        steps = _steps(first, second, at, to, context)
        ways += [(at + taken, to + other, left - cost) for taken, other, cost in reversed(steps) if cost <= left]
    return False


def _steps(
    first: Sequence[Token], second: Sequence[Token], at: int, to: int, context: Context
) -> list[tuple[int, int, int]]:
    """Return the explained steps from two places: how many tokens of each, and how many light words that costs."""
    steps: list[tuple[int, int, int]] = []
    left = first[at] if at < len(first) else None
    right = second[to] if to < len(second) else None
    if left and right:
        if (
            (alike(left, right, context) and _both_fit(first, second, at, to))
            or _agreeing(first, second, at, to)
            or _same_preposition(first, second, at, to)
            or _allergens(first, second, at, to)
        ):
            steps.append((1, 1, 0))
        if left.kind is right.kind is WORD and left.key != right.key:
            steps += _special(first, second, at, to, context)
            steps += [
                (taken, other, 0)
                for taken, one in _runs(first, at)
                for other, two in _runs(second, to)
                if taken + other > _PAIR and _same_phrase(one, two)
            ]
    for token, step in ((left, (1, 0)), (right, (0, 1))):
        if token and token.kind is WORD:
            stopped = token.key in _STOPPED and _stopped(token.key, first, second, at, to)
            # No more than what is asked: to copy the rest for each token would take the square of its length.
            next_two = first[at : at + 2], second[to : to + 2]
            one, other = next_two if step[0] else next_two[::-1]
            untold = begins(first, at) and begins(second, to) and untold_subject(one, other)
            mine, theirs = ((first, at), (second, to)) if step[0] else ((second, to), (first, at))
            if token.key in EMPTY or stopped or untold or implied(*mine, *theirs):
                steps.append((*step, 0))
            elif token.key in LIGHT and not token.case.isupper():
                steps.append((*step, 1))
    return steps


def _stopped(key: str, first: Sequence[Token], second: Sequence[Token], at: int, to: int) -> bool:
    """Whether a stop on either side stands for the word: a colon for "is", a comma for "and", any for a dash."""
    if not (at and to):
        return False
    stops = first[at - 1].stop + second[to - 1].stop
    return ":" in stops if key == "be" else bool(set(stops) & set(",;")) if key == "and" else bool(stops)


def _allergens(first: Sequence[Token], second: Sequence[Token], at: int, to: int) -> bool:
    """Whether a kind is told by one or by many of it: "allergic to peanut(s)"."""
    if any(
        [token.key for token in side[max(here - 2, 0) : here]] != ["allergic", "to"]
        for side, here in ((first, at), (second, to))
    ):
        return False
    forms = [set(readings(token.key)) if token.case in ("", START) else set() for token in (first[at], second[to])]
    return any((lemma, "ns") in other for one, other in (forms, forms[::-1]) for lemma, form in one if form == "n")


def _same_preposition(first: Sequence[Token], second: Sequence[Token], at: int, to: int) -> bool:
    one, other = first[at].key, second[to].key
    if (one, other) in _COSTING or (other, one) in _COSTING:
        return (
            all(
                (token.kind is NUMBER and token.key[-1:] in ("$", "€", "¥")) or token.key.endswith(" pound")
                for token in (*first[at + 1 : at + 2], *second[to + 1 : to + 2])
            )
            and at + 1 < len(first)
            and to + 1 < len(second)
        )
    if _PREPOSITIONS.get(one) == other or _PREPOSITIONS.get(other) == one:
        return not any(token.kind is NUMBER for token in (*first[at + 1 : at + 2], *second[to + 1 : to + 2]))
    if not {one, other} <= {"over", "to", "instead-of"}:
        return False
    return all(any(token.key.startswith("prefer") for token in side) for side in (first[:at], second[:to]))


def _special(
    first: Sequence[Token], second: Sequence[Token], at: int, to: int, context: Context
) -> Iterator[tuple[int, int, int]]:
    """Yield the steps over acronyms, "all tests pass" for "every test passes", "may" for "are allowed to"."""
    for one, other, place, there, turned in ((first, second, at, to, False), (second, first, to, at, True)):
        found = [_spelled_out(one, other, place, there, context), _distributed(one, other, place, there)]
        if one[place].key == "may" and [token.key for token in other[there : there + 3]] == ["be", "allowed", "to"]:
            found.append((1, 3) if place and _is_plural(one[place - 1]) else (0, 0))
        found.append((1, 0) if _called(one, other, place, there) else (0, 0))
        if one[place].key == "never" and [token.key for token in other[there : there + 2]] == ["do", "not"]:
            # Of what somebody does, "never" says more.
            ordered = all(not to or tokens[to - 1].stop for tokens, to in ((one, place), (other, there)))
            found.append((1, 2) if ordered else (0, 0))
        if place == there == 0 and [token.key for token in one[:2]] == ["there", "be"] != [t.key for t in other[:2]]:
            found.append((2, 0))
        yield from ((step[1], step[0], 0) if turned else (*step, 0) for step in found if any(step))


def _called(one: Sequence[Token], other: Sequence[Token], at: int, to: int) -> bool:
    """Whether "called" may be left out before a name: "her dog is called Rex", "her dog is Rex"."""
    if one[at].key not in ("called", "named") or not (at and to) or at + 1 == len(one):
        return False
    names = [token.case not in ("", START) and token.kind is WORD for token in (one[at + 1], other[to])]
    return all(names) and one[at - 1].key == other[to - 1].key == "be"


def _is_plural(token: Token) -> bool:
    """Whether a word can only be the plural of a noun."""
    forms = {form for _, form in readings(token.key)}
    return token.case in ("", START) and "ns" in forms and "n" not in forms


def _spelled_out(short: Sequence[Token], long: Sequence[Token], at: int, to: int, context: Context) -> tuple[int, int]:
    """Return how many tokens an acronym and its words take: "D&D", "ETA"; (0, 0) for anything else."""
    key, case = short[at].key, short[at].case
    letters = [token.key for token in short[at : at + 3]]
    if len(letters) == 3 and letters[1] == "and" and len(letters[0]) == len(letters[2]) == 1:  # noqa: PLR2004 - "R&D"
        words = [token.key for token in long[to : to + 3]]
        same = len(words) == 3 and words[1] == "and" and [word[0] for word in words] == [word[0] for word in letters]  # noqa: PLR2004
        return (3, 3) if same and len(words[0]) > 1 < len(words[2]) else (0, 0)
    if not 1 < len(key) <= _LONGEST_ACRONYM or not (case.isupper() or context.caseless) or not key.isalpha():
        return 0, 0
    end, found = to, 0
    while end < len(long) and found < len(key) and long[end].kind is WORD:
        if long[end].key[0] == key[found] and long[end].key not in CLOSED:
            found += 1
        elif long[end].key not in _SMALL or not found:
            return 0, 0
        end += 1
        if long[end - 1].stop:
            break
    return (1, end - to) if found == len(key) else (0, 0)


def _distributed(one: Sequence[Token], other: Sequence[Token], at: int, to: int) -> tuple[int, int]:
    """Return how many tokens "all tests pass" and "every test passes" take; (0, 0) where it is not the same.

    Not where a figure follows: all may have together what each has not.
    """
    if one[at].key != "all" or other[to].key not in ("every", "each"):
        return 0, 0
    if any(token.kind is NUMBER for token in one[at + 1 :]):
        return 0, 0
    taken = 0
    for place, (mine, theirs) in enumerate(zip(one[at + 1 :], other[to + 1 :], strict=False), start=2):
        if mine.key == theirs.key:
            continue
        forms = set(readings(theirs.key))
        if not taken and any((lemma, "n") in forms for lemma, form in readings(mine.key) if form == "ns"):
            taken = place
        elif taken and agree(mine.key, theirs.key):
            return place, place
        else:
            break
    return taken, taken


def _both_fit(first: Sequence[Token], second: Sequence[Token], at: int, to: int) -> bool:
    """Whether no object follows two different verbs of which one takes none: "leaves at 9", not "leaves the keys"."""
    if first[at].key == second[to].key or INTRANSITIVE.isdisjoint((first[at].key, second[to].key)):
        return True
    following = first[at + 1 : at + 2]
    return not following or bool(first[at].stop) or following[0].kind is NUMBER or following[0].key in FOLLOWING


def _agreeing(first: Sequence[Token], second: Sequence[Token], at: int, to: int) -> bool:
    """Whether a subject changes its number along with its verb: "the window is", "the windows are"."""
    if any(len(tokens) <= place + 1 or tokens[place + 1].key != "be" for tokens, place in ((first, at), (second, to))):
        return False
    forms = [set(readings(token.key)) if token.case in ("", START) else set() for token in (first[at], second[to])]
    return any((lemma, "ns") in other for one, other in (forms, forms[::-1]) for lemma, form in one if form == "n")


def alike(left: Token, right: Token, context: Context) -> bool:
    """Whether one token may stand for another in its place."""
    if left.kind is not right.kind or (left.kind is not WORD and left.key != right.key):
        return False
    if left.kind is NUMBER:
        return left.case == right.case or "" in (left.case, right.case)
    if left.kind is not WORD:
        return left.case == right.case or (context.caseless and "" in (left.case, right.case))
    return same_case(left, right, context) if left.key == right.key else _same_word(left, right, context)


def _same_word(left: Token, right: Token, context: Context) -> bool:
    one, other = left.key, right.key
    if _rewritten(one, other) or (context.views_differ and _other_view(one, other)):
        return True
    if _is_name(left, context) or _is_name(right, context):
        return _slipped_name(one, other) or _short_name(one, other)
    if context.caseless and (named(one) or named(other)):
        return _slipped_name(one, other)  # "marta" is no slip of "maria"
    if mistyped(one, other):
        # A name may begin a sentence: "Robyn" is no slip of "Robin".
        return START not in (left.case, right.case) or min(len(one), len(other)) >= _LONG_START
    return not (one in context.shared and other in context.shared) and interchangeable(one, other)


@lru_cache(maxsize=1 << 12)
def _rewritten(one: str, other: str) -> bool:
    """Whether two words are one with and without accents, or one is a sign for the other: "+", "and"."""
    if other in _STAND_FOR.get(one, ()) or one in _STAND_FOR.get(other, ()):
        return True
    # Accents are left out, not exchanged: "avô" is no slip of "avó".
    return one.isascii() != other.isascii() and _unaccented(one) == _unaccented(other)


def _other_view(one: str, other: str) -> bool:
    """Whether two words are one as the user and as somebody else would say it: "like", "likes"; "my", "their"."""
    return _same_person(one, other) or _same_person(other, one) or agree(one, other)


def _unaccented(word: str) -> str:
    return "".join(mark for mark in unicodedata.normalize("NFD", word) if not unicodedata.combining(mark))


def _same_person(marked: str, other: str) -> bool:
    """Whether a pronoun marked as perhaps about the user is that of the other text: "their~" is "their" or "my"."""
    return marked.endswith("~") and other in (marked[:-1], PRONOUNS[marked[:-1]])


def same_case(left: Token, right: Token, context: Context) -> bool:
    """Whether two ways to write a word with or without capitals are one: "Postgres", "postgres"; not "US", "us"."""
    one, other = left.case, right.case
    titled = all(case in ("", START) or case[1:] == left.key[1:] for case in (one, other))
    if one == other or (START in (one, other) and titled):
        return True
    if left.key in CLOSED or not (one == "" or other == "" or START in (one, other)):
        return False
    written = one if one not in ("", START) else other
    if not titled and not (context.caseless and written[0].isupper()):
        # "api" is "API" whatever else has capitals; "us" is not "US".
        return left.key in MODERN and written.isupper()
    # A common word that is also a name means something else with a capital: "Polish".
    return (
        context.caseless
        or not common(left.key)
        or left.key in MODERN
        or not (named(left.key) or len(left.key) < _LONG_START)
    )


@lru_cache(maxsize=1 << 12)
def interchangeable(one: str, other: str) -> bool:
    """Whether two lower-case words mean the same: synonyms in one form, or a short form."""
    forms = [{(lemma, form) for lemma, form in readings(word) if form[0] == "v"} for word in (one, other)]
    if {lemma for lemma, _ in forms[0]} & {lemma for lemma, _ in forms[1]} and not forms[0] & forms[1]:
        return False  # "open" and "opened" are synonyms as adjectives
    return (
        _grouped(one, other)
        or synonymous(one, other)
        or _short_form(one, other)
        or _short_form(other, one)
        or _shortened(one, other)
        or _shortened(other, one)
    )


def _short_form(short: str, long: str) -> bool:
    """Whether a word is the usual short form of another, both in one number: "admins" of "administrators"."""
    if long in SHORT_FORMS.get(short, ()):
        return True
    return short.endswith("s") and long.endswith("s") and long[:-1] in SHORT_FORMS.get(short[:-1], ())


def _grouped(one: str, other: str) -> bool:
    """Whether two words are in one group, or one word in two spellings of one form: "canceled", "cancelled"."""
    if other in GROUPS.get(one, ()):
        return True
    forms = {(lemma, form) for lemma, form in readings(other)}
    return any((member, form) in forms for lemma, form in readings(one) for member in (lemma, *GROUPS.get(lemma, ())))


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


def _is_name(token: Token, context: Context) -> bool:
    return token.case not in ("", START) and not context.caseless


def _slipped_name(one: str, other: str) -> bool:
    """Whether one name is a slip of the other: of a month, a day, a product; letters swapped; one left out."""
    named = any(word in MONTHS or word in WEEKDAYS or word in MODERN for word in (one, other))
    if named and mistyped(one, other):
        return True
    if (known(one) and known(other)) or distance(one, other) != 1 or one[0] != other[0]:
        return False
    longer, shorter = sorted((one, other), key=len, reverse=True)
    if len(shorter) < len(longer) >= _LONG_START and longer[-1] == shorter[-1] and known(longer):
        return not any(one == other for one, other in pairwise(longer) if one + other not in shorter)
    if len(one) == len(other):
        return len(one) >= _SWAPPED_NAME and sorted(one) == sorted(other)
    return min(len(one), len(other)) >= _LONG_NAME and one[-1] == other[-1]


def _short_name(one: str, other: str) -> bool:
    """Whether one name is the other's usual short form: "Postgres", "PostgreSQL"."""
    return other in SHORT_FORMS.get(one, ()) or one in SHORT_FORMS.get(other, ())


def _runs(tokens: Sequence[Token], at: int) -> list[tuple[int, str]]:
    """Return the words from a place on, and the runs of two and three that no stop cuts."""
    runs = [(1, tokens[at].key)]
    for end in range(at + 1, min(at + _LONGEST_PHRASE, len(tokens))):
        if tokens[end].kind is not WORD or tokens[end - 1].stop:
            break
        runs.append((end - at + 1, f"{runs[-1][1]} {tokens[end].key}"))
    return runs


def _same_phrase(one: str, two: str) -> bool:
    """Whether two short runs of words are one: "data base" and "database", "PR" and "pull request"."""
    if one[0] == two[0] and (" " not in one or " " not in two):
        whole, parts = (one, two) if " " not in one else (two, one)
        if len(whole) >= _SHORTEST_JOINED and whole == parts.replace(" ", "").replace("'", ""):
            return True
    if two in RUNS.get(one, ()):
        return True
    return (" " not in one or entry_of(one)) and (" " not in two or entry_of(two)) and synonymous(one, two)


@lru_cache(maxsize=1 << 12)
def entry_of(phrase: str) -> bool:
    """Whether the lexicon has a phrase, its verb or noun in any form."""
    head, rest = phrase.split(" ", 1)
    front, last = phrase.rsplit(" ", 1)
    return any(entry(f"{lemma} {rest}") for lemma, form in readings(head) if form[0] == "v") or any(
        entry(f"{front} {lemma}") for lemma, form in readings(last) if form[0] == "n"
    )
