"""Figures composed of several tokens: numerals, units, fractions, times, dates and ranges become one token each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date as calendar_date
from fractions import Fraction

from memcli.dedup.gates.figures import (
    CURRENCIES,
    NUMERALS,
    ORDINALS,
    RANGE,
    SCALES,
    SPELLED,
    added,
    clock,
    date,
    exact,
    name_clock,
    ranged,
    scaled,
    together,
    with_unit,
)
from memcli.dedup.gates.tokens import NUMBER, START, WORD, Token
from memcli.dedup.gates.words import CLOSED, MONTHS, PLAIN_WEEKDAYS, WEEKDAYS

_PERIODS = frozenset("second minute hour day night week month year".split())
_TELLS_TIME = frozenset("at by from until till before after to since around between than every".split())
_NO_NUMERAL = frozenset(("no", ",no", "this", "that", "which", "another", "any", "some", "every"))
_COUNTS: dict[str, tuple[tuple[str, str], ...]] = {
    word: ((NUMBER, value),) for word, value in ORDINALS.items() if word != "second"
}
_COUNTS |= {"noon": ((NUMBER, name_clock(12, "00")),), "midnight": ((NUMBER, name_clock(0, "00")),)}
_COUNTS |= {"twice": ((NUMBER, "2"), (WORD, "times")), "thrice": ((NUMBER, "3"), (WORD, "times"))}
_COUNTS |= {"decade": ((NUMBER, "10 year"),), "fortnight": ((NUMBER, "2 week"),)}
_COUNTS |= {"fortnightly": ((WORD, "every"), (NUMBER, "2 week"))}
_RENAMED = frozenset(("the", "second", *_COUNTS, *WEEKDAYS, *MONTHS))
# Behind these, "second" is no unit of time.
_BEFORE_ORDINAL = frozenset("the 's <i's> <user's> his her their our your its".split())
_CODES = frozenset(("USD", "EUR", "GBP", "JPY"))
# The words that a figure may begin with, and those behind the day of a month: "5 March", "5 of March".
_BEGINNINGS = frozenset(
    ("a", "half", "quarter", "other", *MONTHS, *NUMERALS, *ORDINALS, *CURRENCIES, *(code.lower() for code in _CODES))
)
_BEHIND_DAY = frozenset(("of", *MONTHS))
_DEGREES = {"celsius": "°C", "c": "°C", "fahrenheit": "°F", "f": "°F"}
_SPAN = ("from", "between", "for", "during", "at")
_PARTS = {"quarter": "4"} | {word: value[:-2] for word, value in ORDINALS.items() if int(value[:-2]) in range(3, 11)}
_PARTS_OF = {f"{word}s": value for word, value in _PARTS.items()}
_FRACTION = re.compile(r"([1-9])/([2-9]|1\d)")
_MINUTES = {"quarter": 15, "half": 30, "five": 5, "ten": 10, "twenty": 20, "twenty-five": 25}
# "a litre" is one litre; "a cup" and "a foot" may be no measure.
_MEASURES = frozenset(
    """tablespoon teaspoon tbsp tsp kilo kilogram kilometre kilometer litre liter mile gallon""".split()
)
_LONG = frozenset("decade fortnight century".split())
_LEADS_HOUR = frozenset(("per", "a", "an", "/", "every", "each"))
_HOURS = frozenset(("hour", "h", "hr"))
_SPEEDS = {"mi": "mph", "km": "km/h"}
_NOON = 12
_DATED = re.compile(r"\d{4}-\d\d-\d\d")
_DAY_NAMED = re.compile(r"(?:\d{4}|-)-\d\d-\d\d")
_MARKS = {"lb": "lb", "lbs": "lb", "gbp": "£", "£": "£"}


def composed(tokens: list[Token]) -> list[Token]:
    """Join numerals, figures, units, dates and ranges: "twenty", "five", "min" is one figure."""
    result: list[Token] = []
    keys = [token.key for token in tokens]
    at, end, days = 0, len(tokens), False
    while at < end:
        token, key = tokens[at], keys[at]
        begins = key in _BEGINNINGS or token.kind is NUMBER or (at + 1 < end and keys[at + 1] in _BEHIND_DAY)
        if not (begins or key in _RENAMED or key.endswith("days")):
            result.append(token)
            at += 1
            continue
        value, taken = _amount(tokens, at, result) if begins else ("", 0)
        if not taken:
            following = tokens[at + 1] if at + 1 < end and not token.stop else None
            result += _as_word(token, tokens[at - 1].key if at else "the", following)
            days = days or key in WEEKDAYS or key[-4:] == "days"
            at += 1
            continue
        stop = tokens[at + taken - 1].stop
        case = _pound(tokens[at : at + taken]) if value.endswith(" pound") else ""
        at += taken
        while result and _leads(result[-1], value):
            result.pop()
        result.append(Token(NUMBER, value, case, stop))
    return _weekdays(result) if days else result


def _pound(span: Sequence[Token]) -> str:
    """Return "£" or "lb" where the text tells which pounds these are."""
    return next((mark for token in span if (mark := token.case or _MARKS.get(token.key, "")) in ("£", "lb")), "")


def _weekdays(tokens: list[Token]) -> list[Token]:
    """Drop a weekday that its date implies, and name spans of days one way: "Monday through Friday"."""
    result: list[Token] = []
    for at, token in enumerate(tokens):
        near = [*tokens[at + 1 : at + 2], *tokens[max(at - 1, 0) : at]]
        if token.key in PLAIN_WEEKDAYS and any(_falls_on(each, token.key) for each in near):
            if result and token.stop and not result[-1].stop and at and tokens[at - 1].kind is NUMBER:
                result[-1] = result[-1]._replace(stop=token.stop)
            continue
        spans = len(near) > 1 and all(each.key in PLAIN_WEEKDAYS for each in near)
        if spans and token.key in ("through", "-", "till", "until"):
            result.append(Token(WORD, "to"))
            continue
        begins = at + 2 < len(tokens) and tokens[at + 2].key in ("to", "through", "-", "till", "until")
        if token.key == "from" and begins and tokens[at + 1].key in PLAIN_WEEKDAYS:
            continue
        result.append(token)
    return result


def _falls_on(token: Token, weekday: str) -> bool:
    if token.kind is not NUMBER or not _DATED.fullmatch(token.key):
        return False
    try:
        day = calendar_date.fromisoformat(token.key)
    except ValueError:
        return False
    return f"{day:%A}".lower() == weekday


def _leads(token: Token, value: str) -> bool:
    """Whether a word only leads to the span of time or figures behind it: "from" 9 to 5."""
    return token.kind is WORD and ".." in value and token.key in _SPAN and not token.stop


def _as_word(token: Token, before: str, following: Token | None) -> Sequence[Token]:
    """Return a word that is no part of a figure; days of the week by their one name."""
    key, stop = token.key, token.stop
    if token.kind is not WORD or not (key in _RENAMED or key.endswith("days")):
        return (token,)
    plain = token.case in ("", START)
    found: Sequence[Token] = [token._replace(case="")] if key in MONTHS else [token]
    if key == "the" and plain:
        found = ()
    elif key == "second":
        thing = following is not None and following.kind is WORD and following.key not in CLOSED
        if plain and (before in _BEFORE_ORDINAL or (before == "a" and thing)):
            found = [Token(NUMBER, "2nd", "", stop)]
    elif key in _COUNTS:
        found = [Token(*each, "", stop) for each in _COUNTS[key]]
    elif key in WEEKDAYS and (not plain or key in PLAIN_WEEKDAYS):
        found = [Token(WORD, WEEKDAYS[key], "", stop)]
    elif key.endswith("days") and key[:-1] in WEEKDAYS:
        found = [Token(WORD, "every"), Token(WORD, key[:-1], "", stop)]
    return found


def _amount(tokens: list[Token], at: int, before: list[Token]) -> tuple[str, int]:
    """Return the figure that begins at that token and how many tokens it takes; ("", 0) where there is none."""
    keys = [token.key for token in tokens[at : at + 5]] + [""] * 4
    if keys[0] in MONTHS or keys[1] in MONTHS or (keys[1] == "of" and keys[2] in MONTHS):
        value, taken = _dated(keys)
        if taken:
            return _spanned(value, taken, tokens, at)
    value, taken = _by_words(tokens, at, keys, before) if tokens[at].kind is WORD else ("", 0)
    if taken:
        return value, taken
    value, taken = _numeral(tokens, at, before)
    if not taken:
        return "", 0
    if keys[taken] in _PARTS_OF or (keys[taken] in _PARTS and keys[taken + 1] == "of" and value == "1"):
        return f"{value}/{(_PARTS_OF | _PARTS)[keys[taken]]}", taken + 1
    return _summed(*_spanned(value, taken, tokens, at, _lead(before)), tokens, at)


def _by_words(tokens: list[Token], at: int, keys: list[str], before: list[Token]) -> tuple[str, int]:
    """Return the figure that words without a numeral make: "half past three", "half a cup", "every other day"."""
    first, skip = keys[0], int(keys[0] == "a")
    if keys[skip] in _MINUTES and keys[skip + 1] in ("past", "to"):
        time = _hour(keys[skip], keys[skip + 1], str(NUMERALS.get(keys[skip + 2], keys[skip + 2])))
        if time:
            return _measured(time, skip + 3, tokens, at, "at")
    if _lead(before) == "every" and keys[1] in _PERIODS and (first == "other" or first in ORDINALS):
        return with_unit(ORDINALS.get(first, "2nd")[:-2], keys[1]) or "", 2
    if first == "half":
        return _halved(tokens, at, keys)
    return _single_one(keys, before) if first == "a" else ("", 0)


def _halved(tokens: list[Token], at: int, keys: list[str]) -> tuple[str, int]:
    unit = 2 if keys[1] == "a" else 1
    half = scaled("0.5", keys[unit]) if keys[unit] in SCALES else None
    if half:
        return _measured(half, unit + 1, tokens, at)
    half = with_unit("1/2", keys[unit]) if keys[unit] in SPELLED or keys[unit] in _PERIODS else None
    return (half, unit + 1) if half else ("", 0)


def _single_one(keys: list[str], before: list[Token]) -> tuple[str, int]:
    """Return what "a" makes one of: "a third of", "an hour and a half", "a litre"."""
    value, taken = "", 2
    if keys[1] in _PARTS and keys[2] == "of":
        value = f"1/{_PARTS[keys[1]]}"
    elif keys[1] in _PERIODS and keys[2:5] == ["and", "a", "half"]:
        value, taken = with_unit("1.5", keys[1]) or "", 5
    elif keys[1] in _LONG or (keys[1] in _MEASURES and not any(token.kind is NUMBER for token in before[-4:])):
        value = with_unit("1", keys[1]) or ""
    return (value, taken) if value else ("", 0)


def _hour(part: str, relation: str, hour: str) -> str:
    """Return "3:30" for half past three, "4:45" for a quarter to five; "" for what is no time of day."""
    if not hour.isdigit() or not 1 <= int(hour) <= _NOON or (part == "half" and relation == "to"):
        return ""
    if relation == "past":
        return f"{hour}:{_MINUTES[part]:02}"
    return f"{(int(hour) - 2) % _NOON + 1}:45" if part == "quarter" else ""


def _summed(value: str, taken: int, tokens: list[Token], at: int) -> tuple[str, int]:
    """Add the smaller measure behind a greater one: 1 hour "30 minutes"."""
    end = at + taken
    if end >= len(tokens) or tokens[end - 1].stop not in ("", ",") or " " not in value or RANGE in value:
        return value, taken
    end += tokens[end].key == "and"
    more, width = _single(tokens, end) if end < len(tokens) else ("", 0)
    if not width:
        return value, taken
    more, width = _measured(more, width, tokens, end)
    both = together(value, more)
    return (both, end - at + width) if both else (value, taken)


def _lead(before: list[Token]) -> str:
    return before[-1].key if before else ""


def _dated(keys: list[str]) -> tuple[str, int]:
    if keys[0] in MONTHS and keys[1] == "of":
        value, taken = date(keys[0], keys[2], "")
        return (value, 3) if taken and len(value) == len("2026-03") else ("", 0)
    if keys[1] == "of" and keys[2] in MONTHS:
        value, taken = date(keys[0], *keys[2:4])
        return value, taken + 1 if taken else 0
    return date(*keys[:3])


def _spanned(value: str, taken: int, tokens: list[Token], at: int, lead: str = "") -> tuple[str, int]:
    """Take the unit behind a number, and the second number of a range: 10 "to" 15 "minutes"."""
    first, width = _measured(value, taken, tokens, at, lead)
    end = at + width
    if end < len(tokens) - 1 and not tokens[end - 1].stop:
        joins = tokens[end].key in ("to", "-", "through") or (tokens[end].key == "and" and lead == "between")
        plain, more = _single(tokens, end + 1) if joins and RANGE not in first else ("", 0)
        more = 0 if RANGE in plain else more
        if more:
            if width == taken and first == value and " " not in first:
                return _measured(ranged(first, plain), width + 1 + more, tokens, at, lead)
            last, breadth = _measured(plain, more, tokens, end + 1, "to")
            return ranged(first, last), width + 1 + breadth
    return first, width


def _single(tokens: list[Token], at: int) -> tuple[str, int]:
    """Return the number or date at that token without the unit behind it."""
    keys = [token.key for token in tokens[at : at + 4]] + [""] * 3
    value, taken = _dated(keys)
    if taken:
        return value, taken
    if keys[0] in ("noon", "midnight"):
        return _COUNTS[keys[0]][0][1], 1
    return _numeral(tokens, at, [])


def _numeral(tokens: list[Token], at: int, before: list[Token]) -> tuple[str, int]:
    """Return the plain number at that token: a figure, or one in words, "two hundred and five"."""
    token = tokens[at]
    following = tokens[at + 1] if at + 1 < len(tokens) else Token("", "")
    if token.kind is NUMBER:
        more, taken = _fraction(tokens, at + 1) if token.key.isdigit() and not token.stop else (0, 0)
        if taken:
            return exact(Fraction(token.key) + more), 1 + taken
        grown = scaled(token.key, following.key) if following.key in SCALES else None
        return (grown, 2) if grown else (token.key, 1)
    if token.key == "a" and following.key in SCALES:
        return scaled("1", following.key) or "", 2
    if following.kind is NUMBER and (token.key in CURRENCIES or surface(token) in _CODES):
        named = with_unit(following.key, surface(token))
        return (named, 2) if named else ("", 0)
    is_pronoun = token.key == "one" and before and before[-1].key in _NO_NUMERAL
    if token.key not in NUMERALS or is_pronoun or token.case not in ("", START):
        return "", 0
    value, taken = _in_words(tokens, at)
    more, width = _fraction(tokens, at + taken) if value.isdigit() and not tokens[at + taken - 1].stop else (0, 0)
    return (exact(Fraction(value) + more), taken + width) if width else (value, taken)


def _fraction(tokens: list[Token], at: int) -> tuple[Fraction | int, int]:
    """Return the fraction behind a whole number, "1/2" or "and a half", and how many tokens it takes."""
    if [token.key for token in tokens[at : at + 3]] == ["and", "a", "half"]:
        return Fraction(1, 2), 3
    part = _FRACTION.fullmatch(tokens[at].key) if at < len(tokens) and tokens[at].kind is NUMBER else None
    return (Fraction(part[0]), 1) if part and int(part[1]) < int(part[2]) else (0, 0)


def _in_words(tokens: list[Token], at: int) -> tuple[str, int]:
    """Return the number whose first word stands there, and how many words it takes."""
    value, taken = str(NUMERALS[tokens[at].key]), 1
    while True:
        rest = [each.key for each in tokens[at + taken : at + taken + 2]] + ["", ""]
        skip = 1 if rest[0] == "and" else 0
        if rest[0] in SCALES and (grown := scaled(value, rest[0])):
            value, taken = grown, taken + 1
        elif rest[skip] in NUMERALS and (total := added(value, str(NUMERALS[rest[skip]]))):
            value, taken = total, taken + 1 + skip
        else:
            return value, taken


def _measured(value: str, taken: int, tokens: list[Token], at: int, lead: str = "") -> tuple[str, int]:
    """Take the unit behind a number, or read "7:40" behind "at" as a time of day."""
    end = at + taken
    if end < len(tokens) and not tokens[end - 1].stop and value[-1:].isdigit():
        named, width = _unit(value, tokens, end)
        if named:
            return named, taken + width
    if ":" in value and ".." in value:
        return ranged(*(clock(each) or each for each in value.split("..", 1))), taken
    if (
        lead in _TELLS_TIME
        or lead in WEEKDAYS
        or _DAY_NAMED.fullmatch(lead)
        or (value[:1] == "0" and len(value) == len("07:40"))
    ):
        return clock(value) or value, taken
    return value, taken


def _unit(value: str, tokens: list[Token], at: int) -> tuple[str, int]:
    """Return a number with the unit at that place and how many tokens the unit takes; ("", 0) where there is none."""
    unit, following = tokens[at], tokens[at + 1] if at + 1 < len(tokens) else Token("", "")
    named, taken = "", 1
    if unit.kind is NUMBER or unit.key == "in":
        return "", 0
    if unit.key == "o'clock":
        named = name_clock(int(value), "00") if value.isdigit() and 1 <= int(value) <= _NOON else ""
    elif unit.key == "per" and following.key == "cent":
        named, taken = with_unit(value, "%") or "", 2
    elif unit.key in ("square", "sq") and following.key and with_unit("1", surface(following)):
        named, taken = with_unit(value, f"{SPELLED.get(following.key, following.key)}^2") or "", 2
    elif unit.key in ("degree", "degrees", "°") and following.key:
        named, taken = with_unit(value, _DEGREES.get(following.key, "")) or "", 2
    else:
        named = with_unit(value, surface(unit)) or ""
        speed = _SPEEDS.get(named.rpartition(" ")[2]) if following.key in _LEADS_HOUR and not unit.stop else None
        if speed and at + 2 < len(tokens) and tokens[at + 2].key in _HOURS:
            named, taken = with_unit(value, speed) or "", 3
    return (named, taken) if named else ("", 0)


def surface(token: Token) -> str:
    """Return a token as it was written, except for the capital of a sentence."""
    return token.case if token.case not in ("", START) else token.key
