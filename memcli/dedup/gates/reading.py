"""What a text says, in the one form in which texts are compared: figures composed, phrases unified, persons told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from memcli.dedup.gates.composing import composed
from memcli.dedup.gates.figures import NUMERALS, ORDINALS, SPELLED, is_clock, with_unit
from memcli.dedup.gates.lexicon import known, mistyped, readings
from memcli.dedup.gates.tokens import IDENTIFIER, NUMBER, START, WORD, Scanner, Token, prepared, quotes
from memcli.dedup.gates.words import CLOSED, MONTHS, PEOPLE, PHRASES, PLAIN_WEEKDAYS, PRONOUNS, WEEKDAYS

_SPEAKER = {"<i>": "<speaker>", "<user>": "<speaker>", "<i's>": "<speaker's>", "<user's>": "<speaker's>"}
_SPEAKER |= {"<i self>": "<speaker self>"}
# Whom the user speaks to.
_ASSISTANT = {"assistant": "you", "claude": "you", "chatgpt": "you"}
_POSSESSIVES = frozenset(("<i's>", "<user's>"))
_USER = frozenset(("<user>", "<user's>"))
_FIRST_PERSON = frozenset(("<i>", "<i's>", "<i self>", "we", "us", "our", "ours", "ourselves"))
_NEGATIONS = frozenset(
    before + word + after
    for word in "not no never none nobody nothing nowhere neither nor without need-not".split()
    for before in ("", ",")
    for after in ("", ",")
) | {"no longer"}
_PERIODS = frozenset("second minute hour day night week month year".split())
_LEADS_SPAN = frozenset("for in within after over during about".split())
_MEASURABLE = frozenset("minute hour day week month year".split())
_TIMES = frozenset("once twice times time thrice".split())
_BEFORE_TIME = frozenset("on at in".split())
_HEDGES = {
    "about": "about-n",
    "around": "about-n",
    "roughly": "about-n",
    "approximately": "about-n",
    "approx": "about-n",
}
_HEDGES |= {"over": "over-n", "above": "over-n", "exceeding": "over-n", "under": "under-n", "below": "under-n"}
_HEDGES |= {"maximum": "at-most", "max": "at-most", "minimum": "at-least", "min": "at-least", "circa": "about-n"}
_COMPARED = {"more": "over-n", "greater": "over-n", "less": "under-n", "fewer": "under-n"}
_TIMING = frozenset((*_BEFORE_TIME, *_HEDGES, "a", "than", "/", "'d"))
# What leads to a statement and is no part of it.
_LEAD_IN = re.compile(
    r"^\W*(?:(?:note|nb|fyi|n\.b\.|remember|reminder)\s*:|(?:please )?note that|fyi,?(?= ))\s*(?=\S)", re.IGNORECASE
)
_TITLED = 4
_CAPITALISED = re.compile(r"(?<![\w`/.-])[A-Z][a-z]")
# Not "m^2", which is a unit behind a figure.
_DESIGNATION = re.compile(r"(?![a-z]{1,2}\^[23]$)[^\W\d_].*\d", re.DOTALL)
_PLACES = frozenset("to in at from near into".split())
_BEFORE_VERB = frozenset((("plan-to",), ("planned-to",), ("will",)))
_SHORTEST_SLIP = 5
_MENDED = tuple(
    sorted(
        {word for heads in PHRASES.values() for rows in heads.values() for words, _ in rows for word in words}
        | CLOSED.union(
            PLAIN_WEEKDAYS,
            (f"{day}s" for day in WEEKDAYS.values()),
            _HEDGES,
            _COMPARED,
            ORDINALS,
            ("times", "twice", "percent"),
        )
        | {word for word in NUMERALS if "-" not in word}
    )
)
_MEASURES = tuple(sorted({*_MENDED, *MONTHS, *SPELLED}))


@dataclass(frozen=True, slots=True)
class Signature:
    """The evidence that must be equal, whatever else is: two texts may merge only if their signatures are equal.

    `numbers` and `identifiers` are sorted; `negations` and `questions` are counts, together the gate "negation".
    """

    numbers: tuple[str, ...]
    identifiers: tuple[str, ...]
    negations: int
    questions: int


@dataclass(frozen=True, slots=True)
class Reading:
    """A text as evidence.

    `caseless` says that its capitals tell nothing (none begins a word, or nearly every one), `view` whether its speaker
    is "first" or "third" person, "" when there is none or both are there.
    """

    text: str
    quoted: tuple[str, ...]
    tokens: tuple[Token, ...]
    caseless: bool
    view: str
    signature: Signature


# The same text is read once for its signature and again for each pair that it is judged in.
@lru_cache(maxsize=1 << 10)
def read(text: str) -> Reading:
    """Return the evidence in a text."""
    plain, caseless, scanner = _scanned(text)
    joined = _timed(composed(_spelled(scanner.tokens)))
    phrased = _phrased(joined)
    unified, view = _persons(_allergic(phrased) if "allergy" in text.lower() else phrased)
    tokens = tuple(_without_articles(unified))
    return Reading(
        text=" ".join(plain.split()),
        quoted=quotes(plain),
        tokens=tokens,
        caseless=caseless,
        view=view,
        signature=Signature(
            numbers=tuple(sorted([token.key for token in tokens if token.kind is NUMBER])),
            identifiers=tuple(sorted([token.key for token in tokens if token.kind is IDENTIFIER])),
            negations=len([token for token in tokens if token.kind is WORD and token.key in _NEGATIONS]),
            questions=scanner.questions,
        ),
    )


@lru_cache(maxsize=1 << 13)
def designated(text: str) -> tuple[str, ...]:
    """Return those identifiers of a text, sorted, that no figure can take in: letters first, then a digit ("sup-717").

    They are a part of its signature, and found in a small part of the time that the whole takes.
    """
    mixed = [chunk for chunk in prepared(text).split() if not chunk.isalpha()]
    return tuple(sorted([key for chunk in mixed for key in _designations(chunk)]))


@lru_cache(maxsize=1 << 12)
def _designations(chunk: str) -> tuple[str, ...]:
    tokens = Scanner(chunk).tokens
    return tuple(token.key for token in tokens if token.kind is IDENTIFIER and _DESIGNATION.match(token.key))


def _scanned(text: str) -> tuple[str, bool, Scanner]:
    """Return a text as it is prepared, whether it is caseless, and what it was cut into."""
    plain = prepared(text)
    if plain[:1] in "nNfFrRpP":
        plain = _LEAD_IN.sub("", plain, count=1)
    caseless = _caseless(plain)
    return plain, caseless, Scanner(plain.lower() if caseless and not plain[:1].islower() else plain)


def _caseless(text: str) -> bool:
    words = [word for word in text.split() if len(word) >= _TITLED and word.isalpha()]
    capitals = sum(word[0].isupper() for word in words)
    # Written in small letters but for "PR", "SUP-717", "MAX_SIZE".
    small = text[:1].islower() and not _CAPITALISED.search(text)
    return small or text in (text.lower(), text.upper()) or (len(words) >= _TITLED and capitals >= len(words) - 1)


def _spelled(tokens: list[Token]) -> list[Token]:
    """Mend slips in what must be equal: "witout", "thrity", and next to a figure months and units, "Febuary 20"."""
    for at, token in enumerate(tokens):
        if token.kind is not WORD or len(token.key) < _SHORTEST_SLIP or known(token.key):
            continue
        near = (*tokens[max(at - 1, 0) : at], *tokens[at + 1 : at + 2])
        figures = any(each.kind is NUMBER or each.key in NUMERALS for each in near)
        mended = _mended(token.key, figures=figures)
        if mended and (token.case == "" or len(token.key) > _SHORTEST_SLIP):
            tokens[at] = token._replace(key=mended, case="")
    return tokens


@lru_cache(maxsize=4096)
def _mended(word: str, *, figures: bool) -> str:
    vocabulary = _MEASURES if figures else _MENDED
    return next((right for right in vocabulary if len(right) >= _SHORTEST_SLIP and mistyped(right, word)), "")


def _timed(tokens: list[Token]) -> list[Token]:
    """Unify what leads to times and amounts: "on Fridays", "a minute", "more than 5", "~5"."""
    result: list[Token] = []
    at = 0
    while at < len(tokens):
        token = tokens[at]
        at += 1
        if token.key not in _TIMING or token.kind is not WORD or token.stop:
            result.append(token)
            continue
        following = tokens[at] if at < len(tokens) else Token("", "")
        if token.key in _BEFORE_TIME and _is_time(following):
            continue
        if token.key == "a" and following.kind is WORD and following.key in _PERIODS:
            led = bool(result) and result[-1].key in _LEADS_SPAN
            if not led and any(each.kind is NUMBER or each.key in _TIMES for each in result[-4:]):
                result.append(Token(WORD, "every"))
            elif following.key in _MEASURABLE:
                result.append(Token(NUMBER, with_unit("1", following.key) or "1", "", following.stop))
                at += 1
        elif _compares(token, following, result):
            result[-1] = Token(WORD, _COMPARED[result[-1].key])
        else:
            result.append(_leading(token, following))
    return result


def _compares(token: Token, following: Token, before: list[Token]) -> bool:
    """Whether a word is the "than" of "more than 5", but not of "no more than 5"."""
    if token.key != "than" or following.kind is not NUMBER or not before or before[-1].key not in _COMPARED:
        return False
    return not before[:-1] or before[-2].key not in ("no", "not")


def _leading(token: Token, following: Token) -> Token:
    """Return a word by the one name that it has before what follows it."""
    if following.kind is NUMBER and token.key in _HEDGES:
        return Token(WORD, _HEDGES[token.key])
    if token.key == "/" and following.key in _PERIODS:
        return Token(WORD, "every")
    if token.key == "'d":
        past = any(form == "vd" for _, form in readings(following.key))
        return token._replace(key="had" if past else "would")
    return token


def _is_time(token: Token) -> bool:
    if token.kind is NUMBER:
        key = token.key
        return is_clock(key) or (
            len(key) >= len("2026-03") and key[:1] in "-12" and key.count("-") >= 1 and " " not in key
        )
    return token.kind is WORD and (token.key in PLAIN_WEEKDAYS or token.key == "every")


def _phrased(tokens: list[Token]) -> list[Token]:
    """Replace phrases by what they mean: "in order to" by "to"."""
    result: list[Token] = []
    at = 0
    while at < len(tokens):
        found = _phrase(tokens, at) if tokens[at].key in PHRASES else None
        if found is None:
            result.append(tokens[at])
            at += 1
            continue
        taken, words = found
        result += [Token(WORD, word) for word in words]
        if words:
            result[-1] = result[-1]._replace(stop=tokens[at + taken - 1].stop)
        at += taken
    return result


def _phrase(tokens: list[Token], at: int) -> tuple[int, tuple[str, ...]] | None:
    rows = PHRASES[tokens[at].key]
    longer = rows.get(tokens[at + 1].key, ()) if at + 1 < len(tokens) else ()
    for words, kept in (*longer, *rows.get("", ())):
        span = tokens[at : at + len(words)]
        if (
            tuple(token.key for token in span) == words
            and all(token.kind is WORD and token.case in ("", START) for token in span)
            and not any(token.stop for token in span[:-1])
            and (kept[-1:] not in _BEFORE_VERB or _may_be_verb(tokens, at + len(words)))
        ):
            return len(words), kept
    return None


def _allergic(tokens: list[Token]) -> list[Token]:
    """Read "have a nut allergy" as "be allergic to nut"."""
    at = next((at for at, token in enumerate(tokens) if token.key == "allergy"), 0)
    begin = next((place for place in range(at - 1, max(at - 5, -1), -1) if tokens[place].key == "have"), -1)
    what = [token for token in tokens[begin + 1 : at] if token.key != "a"]
    if begin < 0 or not what or any(token.stop or token.kind is not WORD for token in what):
        return tokens
    kind = [*what[:-1], what[-1]._replace(stop=tokens[at].stop)]
    return [*tokens[:begin], *(Token(WORD, key) for key in ("be", "allergic", "to")), *kind, *tokens[at + 1 :]]


def _may_be_verb(tokens: list[Token], at: int) -> bool:
    """Whether a verb may stand there: "plan to move", but not the Basic "plan to the Pro plan"."""
    if at >= len(tokens) or tokens[at].kind is not WORD or tokens[at].case not in ("", START):
        return False
    return any(form == "v" for _, form in readings(tokens[at].key)) or tokens[at].key in CLOSED - {"the", "a"}


def _persons(tokens: list[Token]) -> tuple[list[Token], str]:
    """Make "I" and "the user" one, unless the text holds both: then they are two."""
    keys = {token.key for token in tokens}
    if not _POSSESSIVES.isdisjoint(keys):
        tokens = list(_first_person(tokens))
        keys = {token.key for token in tokens}
    third, first = not _USER.isdisjoint(keys), not _FIRST_PERSON.isdisjoint(keys)
    if _SPEAKER.keys().isdisjoint(keys) or (third and first):
        return tokens, ""
    if third:
        tokens = [token._replace(key=_ASSISTANT.get(token.key, token.key)) for token in tokens]
    unified = [token._replace(key=_SPEAKER[token.key]) if token.key in _SPEAKER else token for token in tokens]
    return (_marked(unified), "third") if third else (unified, "first")


def _first_person(tokens: list[Token]) -> Iterator[Token]:
    """Put "I" before "my wife" where it comes last, and read "the user's moving" as "the user is moving"."""
    at = 0
    while at < len(tokens):
        keys = [token.key for token in tokens[at : at + 4]]
        if keys[:1] == ["<i's>"] and keys[2:] == ["and", "<i>"]:
            yield from (tokens[at + 3], tokens[at + 2], *tokens[at : at + 2])
            at += 4
            continue
        if keys[0] == "<user's>" and len(keys) > 1 and _predicated(keys[1]):
            yield tokens[at]._replace(key="<user>")
            yield Token(WORD, "be")
        else:
            yield tokens[at]
        at += 1


def _predicated(word: str) -> bool:
    """Whether a word behind "user's" is what the user is or does, and nothing that one may own."""
    forms = {form for _, form in readings(word)}
    return word in ("not", "going") or bool(forms and not forms & {"n", "ns"} and forms & {"a", "vg"})


def _marked(tokens: list[Token]) -> list[Token]:
    """Mark the pronouns that may be about the user: behind "the user", "he" and "she" only before anybody else."""
    spoken = others = False
    for at, token in enumerate(tokens):
        if token.key in _SPEAKER.values():
            spoken = True
        elif token.key in PEOPLE or token.case not in ("", START):
            others = others or token.key in PEOPLE or tokens[at - 1].key not in _PLACES
        elif spoken and token.key in PRONOUNS and (not others or token.key.startswith("the")):
            tokens[at] = token._replace(key=token.key + "~")
    return tokens


def _without_articles(tokens: list[Token]) -> Iterator[Token]:
    """Drop "the" and "a"; "few" is nearly none, "a few" is some."""
    for at, token in enumerate(tokens):
        if token.kind is WORD and token.key == "a" and token.case in ("", START):
            continue
        if token.key in ("few", "little") and at and tokens[at - 1].key == "a":
            yield token._replace(key="a-" + token.key)
        else:
            yield token
