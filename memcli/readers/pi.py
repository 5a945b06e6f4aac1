"""pi coding agent sessions: a header, then messages, the results of tools, and changes of model or mode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from memcli.model import Item, Line, Message, Origin, Role, Skipped
from memcli.protocols import Source
from memcli.readers.blocks import first_kind, listed, texts_of
from memcli.readers.fields import (
    MAX_TAG_SOURCE,
    RESULT_LENGTH,
    SESSION_STATE,
    TagSets,
    identifier,
    kind_name,
    normalise_timestamp,
    read_in_session,
)

_CWD_STATE = "cwd"

_SPOKEN: dict[object, Role] = {"user": "user", "assistant": "assistant"}
_HEADER_FIELDS = ("cwd", "version", "modelId")


class PiReader:
    """Reads `~/.pi/agent/sessions/<cwd>/<time>_<id>.jsonl`."""

    name = "pi"
    agent = "pi"

    def sniff(self, records: Sequence[object]) -> bool:
        """Tell whether any of the first records can only be pi's."""
        return any(_is_own(record) for record in records)

    def read(self, source: Source) -> Iterator[Item]:
        """Yield one item per line, in file order. `source.state` keeps the header's session and folder."""
        tags = TagSets()
        for found in read_in_session(source):
            yield _Entry(*found, source.state, tags).item() if isinstance(found, tuple) else found


class _Entry:
    """One parsed line, with what the header left in `state`."""

    def __init__(self, line: Line, record: dict[str, object], state: dict[str, str], tags: TagSets) -> None:
        self._line = line
        self._record = record
        self._state = state
        self._tags = tags

    def item(self) -> Message | Skipped:
        kind = self._record.get("type")
        message = self._record.get("message")
        if kind == "message" and isinstance(message, dict):
            return self._message(message)
        if kind == "session":
            self._remember_header()
        return self._skipped(kind_name(kind, absent="untyped"))

    def _remember_header(self) -> None:
        session, cwd = identifier(self._record.get("id")), self._record.get("cwd")
        if session:
            self._state[SESSION_STATE] = session
        if isinstance(cwd, str):
            self._state[_CWD_STATE] = cwd[-MAX_TAG_SOURCE:]

    def _message(self, message: dict[str, object]) -> Message | Skipped:
        said_by = message.get("role")
        blocks = listed(message.get("content"))
        if said_by == "toolResult":
            return self._result(message, texts_of(blocks), message.get("toolName"))
        if said_by == "bashExecution":
            return self._result(message, texts_of([message.get("output")]), "bash")
        name = kind_name(said_by, absent="no-role")
        role = _SPOKEN.get(said_by) if isinstance(said_by, str) else None
        if role is None:
            return self._skipped(f"message/{name}")
        model = identifier(message.get("model"))
        tools = tuple(dict.fromkeys(tool for block in blocks if (tool := _tool(block))))
        texts = texts_of(blocks)
        if texts:
            return self._taken(message, role, "\n\n".join(texts), "typed", model, tools)
        if message.get("errorMessage"):
            return self._skipped(f"{name}/error", model, tools)
        return self._skipped(f"{name}/{'toolCall' if tools else first_kind(blocks)}", model, tools)

    def _result(self, message: dict[str, object], texts: list[str], tool: object) -> Message:
        tools = (tool[:MAX_TAG_SOURCE],) if isinstance(tool, str) else ()
        return self._taken(message, "tool", "\n\n".join(texts)[:RESULT_LENGTH], "tool_result", None, tools)

    def _taken(
        self,
        message: dict[str, object],
        role: Role,
        text: str,
        origin: Origin,
        model: str | None,
        tools: tuple[str, ...],
    ) -> Message:
        line, record = self._line, self._record
        return Message(
            self._state[SESSION_STATE], identifier(record.get("id")), role, text, line.start, line.end, line.number,
            normalise_timestamp(record.get("timestamp")) or normalise_timestamp(message.get("timestamp")), origin,
            model=model, tags=self._tags.of(self._state.get(_CWD_STATE), None, model, tools),
        )  # fmt: skip

    def _skipped(self, kind: str, model: str | None = None, tools: tuple[str, ...] = ()) -> Skipped:
        tags = self._tags.of(self._state.get(_CWD_STATE), None, model, tools)
        return Skipped(kind, self._line.end, self._line.number, self._state[SESSION_STATE], tags=tags)


def _tool(block: object) -> str | None:
    if not isinstance(block, dict) or block.get("type") != "toolCall":
        return None
    name = block.get("name")
    return name[:MAX_TAG_SOURCE] if isinstance(name, str) else None


def _is_own(record: object) -> bool:
    if not isinstance(record, dict):
        return False
    if record.get("type") == "session":
        return "id" in record and any(name in record for name in _HEADER_FIELDS)
    message = record.get("message")
    return record.get("type") == "message" and isinstance(message, dict) and "role" in message
