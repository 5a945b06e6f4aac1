"""Dialects with a whole conversation in one record: records from lines or from an array, messages from a record."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from memcli.model import Item, Message, Origin, Rejected, Skipped
from memcli.protocols import Source
from memcli.readers.arrays import WRAPPED_ARRAY, BrokenArrayError, Unread, array_kind, read_elements, read_head
from memcli.readers.fields import (
    MAX_TAG_SOURCE,
    RESULT_LENGTH,
    ROLE_NAMES,
    TagSets,
    identifier,
    normalise_timestamp,
    text_of,
)
from memcli.readers.lines import HEAD_BYTES, NOT_AN_OBJECT, read_records
from memcli.text import clean, digest

# Set while the file is an array: `source.position` counts its elements then, in `offset` and `line` alike.
ARRAY_STATE = "array"

_TIMESTAMPS = ("timestamp", "ts", "created_at", "create_time", "created")


@dataclass(frozen=True, slots=True)
class Entry:
    """One conversation: a line (`start` and `end` in bytes) or an element of an array (`start` and `end` count those).

    `head` are the first bytes of the line; None for an element.
    """

    start: int
    end: int
    number: int
    record: dict[str, object]
    head: bytes | None

    def reject(self, reason: str) -> Rejected:
        """Reject a conversation that could be parsed but not be understood."""
        head = json.dumps(self.record).encode()[:HEAD_BYTES] if self.head is None else self.head
        return Rejected(self.start, self.end, self.number, reason, head)

    def skipped(self, kind: str, session_key: str | None, *, more: bool = False, tags: tuple[str, ...] = ()) -> Skipped:
        """Count a part of the conversation that is no message; with `more` reading goes on before the conversation."""
        if more:
            return Skipped(kind, self.start, self.number - 1, session_key, tags=tags)
        return Skipped(kind, self.end, self.number, session_key, tags=tags)


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation as the record has it. `text` is None when its content is none."""

    said_by: str | None
    text: str | None
    id: str | None = None
    timestamp: str | None = None
    tools: tuple[str, ...] = ()


def read_entries(source: Source, *, wrapped: bool = False) -> Iterator[Entry | Skipped | Rejected]:
    """Yield the conversations from `source.position` on, out of JSON Lines or of one JSON array.

    The stream of an array stands at its beginning, wherever `position` is: the elements before it are parsed over.
    Where an array is damaged, a Rejected is the last item; its position is the one before it, so that reading again
    from there gives the same. `source.state` remembers that the file is an array. `wrapped`: see `array_kind`.
    """
    kind = source.state.get(ARRAY_STATE)
    stream = source.stream
    if source.position.offset == 0:
        head = read_head(stream, wrapped=wrapped)
        kind = array_kind(head, wrapped=wrapped)
        source.state.clear()
        # Only `read` is asked of it.
        stream = Unread(head, stream)  # type: ignore[assignment]
    if kind is not None:
        source.state[ARRAY_STATE] = kind
        yield from _elements(Source(stream, source.position), kind)
        return
    for found in read_records(Source(stream, source.position, source.final, source.state)):
        if isinstance(found, tuple):
            line, record = found
            yield Entry(line.start, line.end, line.number, record, line.raw[:HEAD_BYTES])
        else:
            yield found


def _elements(source: Source, kind: str) -> Iterator[Entry | Rejected]:
    count = 0
    try:
        for element in read_elements(source.stream, kind):
            count += 1
            if count <= source.position.offset:
                continue
            entry = Entry(count - 1, count, count, element if isinstance(element, dict) else {}, None)
            if isinstance(element, dict):
                yield entry
            else:
                head = json.dumps(element).encode()[:HEAD_BYTES]
                yield Rejected(count - 1, count, count, f"{NOT_AN_OBJECT[type(element)]}, not an object", head)
    except BrokenArrayError as error:
        yield Rejected(count, count, count + 1, f"behind {count} conversations: {error}", b"")
    else:
        if count == 0 and kind == WRAPPED_ARRAY:
            yield Rejected(0, 0, 1, "no array of conversations in it", b"")


def read_conversations(
    source: Source, field: str, turns_of: Callable[[dict[str, object], list[object]], Sequence[Turn | str]]
) -> Iterator[Item]:
    """Yield one item per turn of every record; the last of a conversation carries the position behind it.

    `turns_of` takes a record and the list in its `field`. All items of a record have its byte span. See `messages_of`
    for the identities, `read_entries` for arrays.
    """
    tags = TagSets()
    for entry in read_entries(source):
        if not isinstance(entry, Entry):
            yield entry
            continue
        record = entry.record
        listed = record.get(field)
        if isinstance(listed, list):
            yield from messages_of(entry, turns_of(record, listed), tags, tool_names(record.get("tools")))
        else:
            yield entry.reject(f"no conversation: {field} is missing or no list")


def messages_of(
    entry: Entry, turns: Sequence[Turn | str], tags: TagSets, tools: tuple[str, ...] = ()
) -> Iterator[Message | Skipped]:
    """Yield one item per turn; a turn that is a string is skipped by that name.

    The session is the record's own id, else a digest of all its turns. A message without an id of its own goes by its
    place and a digest of its text, so that a conversation that is read again, or by half, gives the same messages.
    """
    record = entry.record
    marks = ["" if isinstance(turn, str) else digest(turn.said_by or "", turn.text or "").hex() for turn in turns]
    session_key = identifier(record.get("id")) or identifier(record.get("conversation_id")) or digest(*marks).hex()
    model = identifier(record.get("model"))
    common = tags.of(None, None, model, tools)
    if not turns:
        yield entry.skipped("empty-conversation", session_key, tags=common)
    ids: set[str] = set()
    last = len(turns) - 1
    for place, turn in enumerate(turns):
        more = place < last
        if isinstance(turn, str):
            yield entry.skipped(turn, session_key, more=more, tags=common)
            continue
        found = tags.of(None, None, model, tools + turn.tools) if turn.tools else common
        skip = _no_message(turn)
        if skip is not None:
            yield entry.skipped(skip, session_key, more=more, tags=found)
            continue
        key = turn.id if turn.id and turn.id not in ids else f"{place}:{marks[place]}"
        ids.add(key)
        yield _message(entry, turn, session_key, key, model, found, more=more)


def _message(
    entry: Entry, turn: Turn, session_key: str, key: str, model: str | None, tags: tuple[str, ...], *, more: bool
) -> Message:
    said_by, text = turn.said_by or "", turn.text or ""
    known = ROLE_NAMES.get(said_by.lower())
    origin: Origin = "tool_result" if known == "tool" else "typed"
    return Message(
        session_key, key, known or "user", clean(text[:RESULT_LENGTH] if known == "tool" else text),
        entry.start, entry.end, entry.number, turn.timestamp or timestamp_of(entry.record), origin,
        speaker=None if known else said_by, model=model if known == "assistant" else None, tags=tags, more=more,
    )  # fmt: skip


def _no_message(turn: Turn) -> str | None:
    """Why a turn is no message, as the kind it is counted by."""
    if turn.said_by is None:
        return "turn/no-role"
    name = ROLE_NAMES.get(turn.said_by.lower(), "user")
    if turn.text is None:
        return f"{name}/not-text"
    if not turn.text or turn.text.isspace():
        return f"{name}/{'tool_calls' if turn.tools else 'empty'}"
    return None


def timestamp_of(record: dict[str, object]) -> str | None:
    """Give the moment of a turn or of a conversation, under the common names."""
    return next((moment for name in _TIMESTAMPS if (moment := normalise_timestamp(record.get(name)))), None)


def content_text(record: dict[str, object], names: Sequence[str]) -> str | None:
    """Give the text of the first of the fields that is there and not null; "" when none is, None when it is no text."""
    return text_of(next((record[name] for name in names if record.get(name) is not None), None))


def tool_names(value: object) -> tuple[str, ...]:
    """Give the names in a list of tools or tool calls, which may be written as a string of JSON; each once."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return ()
    listed = value if isinstance(value, list) else [value]
    names: dict[str, None] = {}
    for tool in listed:
        if isinstance(tool, dict):
            inner = tool.get("function")
            name = inner.get("name") if isinstance(inner, dict) else tool.get("name")
            if isinstance(name, str):
                names[clean(name[:MAX_TAG_SOURCE])] = None
    return tuple(names)
