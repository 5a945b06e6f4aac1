"""Reading what a model answers: JSON as it was asked for, JSON in prose or fences, JSON that was cut off. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

from memcli.model import MemoryType
from memcli.text import PIECE_LIMIT, clean, normalise

IMPORTANCE = 0.5

_TYPES: tuple[str, ...] = get_args(MemoryType)
_LIST = "memories"
_MOST_CHARACTERS = 200_000
_MOST_KEYWORDS = 8
_LONGEST_KEYWORD = 40
_LIST_START = re.compile(rf'"{_LIST}"\s*:\s*\[')
_TRAILING_COMMA = re.compile(r",(\s*[\]}])")

MALFORMED = "malformed"
TOO_LONG = "too_long"


class UnreadableAnswerError(ValueError):
    """An answer that is not what was asked for; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement as the model made it, nothing of it checked against the messages yet."""

    number: int
    content: str
    type: MemoryType
    importance: float
    keywords: tuple[str, ...]
    messages: tuple[str, ...]
    quote: str
    relates_to: tuple[int, ...]


def schema(*, linked: bool) -> dict[str, Any]:
    """The JSON schema of an answer, strict as providers want it; `linked` with numbers and links of the statements."""
    one: dict[str, Any] = {
        "quote": {"type": "string"},
        "messages": {"type": "array", "items": {"type": "string"}},
        "statement": {"type": "string"},
        "type": {"type": "string", "enum": list(_TYPES)},
        "importance": {"type": "number"},
        "keywords": {"type": "array", "items": {"type": "string"}},
    }
    if linked:
        one = {"number": {"type": "integer"}, **one, "relates_to": {"type": "array", "items": {"type": "integer"}}}
    return _object({_LIST: {"type": "array", "items": _object(one)}})


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def statements(answer: str) -> list[Statement | str]:
    """The statements of an answer in order; in the place of one that is no use, the reason: MALFORMED or TOO_LONG.

    Raises:
        UnreadableAnswerError: there is no list of statements in it.
    """
    if len(answer) > _MOST_CHARACTERS:
        raise UnreadableAnswerError(f"it has more than {_MOST_CHARACTERS:,} characters")
    return [_statement(item, place) for place, item in enumerate(_items(answer), 1)]


def _items(answer: str) -> list[object]:
    """The list of statements, wherever in the answer it stands."""
    for text in dict.fromkeys((answer, _TRAILING_COMMA.sub(r"\1", answer))):
        for document in _documents(text):
            if isinstance(document, dict) and isinstance(document.get(_LIST), list):
                return list(document[_LIST])
            if isinstance(document, list) and all(isinstance(item, dict) for item in document):
                return document
    start = _LIST_START.search(answer)
    cut_off = list(_objects(answer, start.end())) if start is not None else []
    if not cut_off:
        raise UnreadableAnswerError(f'there is no JSON object with a list "{_LIST}" in it')
    return cut_off


def _documents(text: str) -> Iterator[object]:
    """The first JSON objects and lists of a text that no other one holds."""
    decoder, place = json.JSONDecoder(), 0
    for _ in range(5):
        start = min((found for mark in "{[" if (found := text.find(mark, place)) >= 0), default=-1)
        if start < 0:
            return
        try:
            document, place = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            place = start + 1
        else:
            yield document


def _objects(text: str, place: int) -> Iterator[object]:
    """The whole objects of a list that breaks off."""
    decoder = json.JSONDecoder()
    while (start := text.find("{", place)) >= 0 and not text[place:start].strip(" \t\r\n,"):
        try:
            item, place = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            return
        yield item


def _statement(item: object, place: int) -> Statement | str:
    if not isinstance(item, dict):
        return MALFORMED
    content, quote, kind = item.get("statement"), item.get("quote"), item.get("type", "semantic")
    if not isinstance(content, str) or not content.strip() or not isinstance(quote, str) or kind not in _TYPES:
        return MALFORMED
    content = normalise(clean(content))
    if len(content) > PIECE_LIMIT:
        return TOO_LONG
    number = item.get("number")
    return Statement(
        number=int(number) if isinstance(number, int) else place,
        content=content,
        type=kind,
        importance=_importance(item.get("importance")),
        keywords=_keywords(item.get("keywords")),
        messages=_ids(item.get("messages")),
        quote=clean(quote).strip(),
        relates_to=tuple(int(other) for other in _list(item.get("relates_to")) if isinstance(other, int)),
    )


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _ids(value: object) -> tuple[str, ...]:
    """Message ids, written as a list or as one; "[M1]" and "1" mean m1."""
    given = value if isinstance(value, list) else [value]
    names = (str(each).strip(" []\"'").casefold() for each in given if isinstance(each, str | int))
    return tuple(dict.fromkeys(f"m{name}" if name.isdecimal() else name for name in names))


def _importance(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return IMPORTANCE
    return min(max(float(value), 0.0), 1.0)


def _keywords(value: object) -> tuple[str, ...]:
    words = (normalise(clean(each))[:_LONGEST_KEYWORD] for each in _list(value) if isinstance(each, str))
    return tuple(dict.fromkeys(word for word in words if word))[:_MOST_KEYWORDS]
