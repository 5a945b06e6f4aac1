"""What a query asks for: the words to look up, the names in it, the dates it speaks of. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date

_WORD = re.compile(r"\w+")
STOP_WORDS = frozenset(
    _WORD.findall(
        "a about am an and any are as at be been but by can could did do does for from had has have he her "
        "him his how i if in into is it its just me my no not of on or our out she should so some than that "
        "the their them then there these they this those to us was we were what when where which while who "
        "whom whose why will with would you your ain aren couldn didn doesn don hadn hasn haven isn shouldn wasn weren "
        "won wouldn"
    )
)
_CONTRACTED = re.compile(r"(?<=\w)['’](?:s|t|re|ve|ll|d|m)\b", re.IGNORECASE)
_NAME_WORDS = 3
_NAMES_FROM = 64
_MONTHS = "january february march april may june july august september october november december".split()
_MONTH = "|".join(f"{name}|{name[:3]}" for name in _MONTHS) + "|sept"
_DATE = re.compile(
    r"\b(?:(?P<iso>\d{4})-(?P<iso_month>\d\d)(?:-(?P<iso_day>\d\d))?"
    rf"|(?:(?P<before>\d{{1,2}})(?:st|nd|rd|th)?(?: of)? )?(?P<month>{_MONTH})\b\.?"
    r"(?: (?P<behind>\d{1,2})(?:st|nd|rd|th)?\b)?(?:,? (?P<year>(?:19|20)\d\d)\b)?"
    r"|(?P<only>(?:19|20)\d\d))\b",
    re.IGNORECASE,
)
_NEAR_DAYS = 7
_MONTH_SHARE, _SAME_MONTH_SHARE, _YEAR_SHARE = 0.6, 0.5, 0.2


@dataclass(frozen=True, slots=True)
class Day:
    """A date as far as a query gives it."""

    year: int | None = None
    month: int | None = None
    day: int | None = None


def words_of(query: str) -> list[str]:
    """All words of a query, as they are written; without what an apostrophe ties to them."""
    return _WORD.findall(_CONTRACTED.sub("", query))


def telling(words: Iterable[str], without: Collection[str] = ()) -> list[str]:
    """The words to look up, in lower case, each once: no stop words and none of `without`, unless nothing is left."""
    # Not casefold(): that writes ß as ss, which the keyword index does not.
    all_words = list(dict.fromkeys(word.lower() for word in words))
    left = [word for word in all_words if word not in STOP_WORDS]
    return [word for word in left if word not in without] or left or all_words


def any_of(words: Iterable[str]) -> str:
    """An FTS5 query that asks for any of the words. Every word is quoted: nothing in it is syntax."""
    return " OR ".join(f'"{word}"' for word in words)


def possible_names(words: list[str]) -> list[str]:
    """Up to three words in a row that could be somebody's name."""
    some = words[:_NAMES_FROM]
    found = [" ".join(some[at : at + size]) for size in range(1, _NAME_WORDS + 1) for at in range(len(some) - size + 1)]
    return [name for name in dict.fromkeys(found) if name.casefold() not in STOP_WORDS]


def dates_of(query: str) -> list[Day]:
    """The dates of a query: 2023-05-08, 8 May 2023, May 8th, May 2023, 2023. English months.

    A month without any number must have a capital: "may" and "march" are verbs too.
    """
    found = []
    for match in _DATE.finditer(query):
        if match["iso"]:
            parts = (match["iso"], match["iso_month"], match["iso_day"])
            numbers = [None if part is None else int(part) for part in parts]
        elif match["only"]:
            numbers = [int(match["only"]), None, None]
        else:
            day, year = match["before"] or match["behind"], match["year"]
            if not day and not year and not match["month"][0].isupper():
                continue
            month = next(n for n, name in enumerate(_MONTHS, 1) if name[:3] == match["month"][:3].lower())
            numbers = [int(year) if year else None, month, int(day) if day else None]
        found.append(Day(*numbers))
    return found


def closeness(asked: Iterable[Day], timestamp: str | None) -> float:
    """How well a time, as messages have it, answers to the best of the dates: 0 to 1."""
    if timestamp is None:
        return 0.0
    return max((_closeness(each, timestamp) for each in asked), default=0.0)


def _closeness(asked: Day, timestamp: str) -> float:
    year, month = int(timestamp[:4]), int(timestamp[5:7])
    if asked.day is not None and asked.month is not None:
        try:
            wanted = date(asked.year or year, asked.month, asked.day)
            found = date(year, month, int(timestamp[8:10]))
        except ValueError:
            return 0.0
        if abs((found - wanted).days) <= _NEAR_DAYS:
            return 1.0
        return _SAME_MONTH_SHARE if (found.year, found.month) == (wanted.year, wanted.month) else 0.0
    if asked.year not in {None, year} or asked.month not in {None, month}:
        return 0.0
    return _YEAR_SHARE if asked.month is None else _MONTH_SHARE
