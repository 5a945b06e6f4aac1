"""Codex CLI rollouts: response items and events that tell the same turns twice, their envelope, and the older forms."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from memcli.model import Item, Line, Message, Origin, Role, Skipped
from memcli.protocols import Source
from memcli.readers.blocks import first_kind, listed, texts_of
from memcli.readers.fields import (
    MAX_TAG_SOURCE,
    RESULT_LENGTH,
    ROLE_NAMES,
    SESSION_STATE,
    TagSets,
    identifier,
    kind_name,
    normalise_timestamp,
    read_in_session,
    text_of,
)
from memcli.text import digest, normalise

# A turn's event and its response item lie a few records apart; so many turns wait for their other copy.
MAX_UNPAIRED = 16

# What `source.state` keeps from earlier lines.
_HEADER_STATE, _CWD_STATE, _BRANCH_STATE, _MODEL_STATE, _UNPAIRED_STATE = "header", "cwd", "branch", "model", "unpaired"

_ENVELOPES = frozenset({"session_meta", "turn_context", "response_item", "event_msg", "compacted", "world_state"})
_EVENT_ROLES: dict[object, Role] = {"user_message": "user", "agent_message": "assistant"}
_INJECTED = re.compile(r"(?:\s*<(environment_context|user_instructions)>.*?</\1>)+\s*", re.DOTALL)


class CodexReader:
    """Reads `~/.codex/sessions/YYYY/MM/DD/rollout-*.jsonl`, of today's form and of the two before it."""

    name = "codex"
    agent = "codex"

    def sniff(self, records: Sequence[object]) -> bool:
        """Tell whether any of the first records can only be of a rollout."""
        return any(_is_own(record) for record in records)

    def read(self, source: Source) -> Iterator[Item]:
        """Yield one item per line, in file order.

        A turn may stand in the file as an event, as a response item, or as both in either order. The first that comes
        is the message; the other one, with the same role and text, is skipped as its copy. So a file of events only, or
        one that changes its habit, loses nothing, and no line has to wait for a later one. `source.state` holds the
        turns whose other copy has not come, and what earlier lines said of the session, its folder and its model.
        """
        tags = TagSets()
        for found in read_in_session(source):
            yield _Rollout(found[0], source.state, tags).item(found[1]) if isinstance(found, tuple) else found


class _Rollout:
    """One line of a rollout, with what earlier lines left in `state`."""

    def __init__(self, line: Line, state: dict[str, str], tags: TagSets) -> None:
        self._line = line
        self._state = state
        self._tags = tags
        self._timestamp: str | None = None

    def item(self, record: dict[str, object]) -> Message | Skipped:
        kind, payload = record.get("type"), record.get("payload")
        self._timestamp = normalise_timestamp(record.get("timestamp"))
        if isinstance(payload, dict):
            return self._enveloped(kind, payload)
        if _is_header(record):
            return self._enveloped("session_meta", record)
        if isinstance(kind, str) and kind in _ENVELOPES:
            return self._skipped(kind)
        if kind is None and "role" not in record:
            return self._skipped(kind_name(record.get("record_type"), absent="untyped"))
        return self._response_item(record)

    def _enveloped(self, kind: object, payload: dict[str, object]) -> Message | Skipped:
        if kind == "response_item":
            return self._response_item(payload)
        if kind == "event_msg":
            return self._event(payload)
        if kind == "session_meta":
            self._remember_header(payload)
        elif kind == "turn_context":
            self._remember_turn(payload)
        return self._skipped(kind_name(kind, absent="untyped"))

    def _remember_header(self, meta: dict[str, object]) -> None:
        # A fork repeats its parent's records, header and all, behind its own: the first one is the file's.
        session = identifier(meta.get("id"))
        if session is None or _HEADER_STATE in self._state:
            return
        self._state[_HEADER_STATE] = self._state[SESSION_STATE] = session
        git = meta.get("git")
        self._remember(_BRANCH_STATE, git.get("branch") if isinstance(git, dict) else None)
        self._remember_turn(meta)

    def _remember_turn(self, context: dict[str, object]) -> None:
        self._remember(_CWD_STATE, context.get("cwd"))
        self._remember(_MODEL_STATE, identifier(context.get("model")))

    def _remember(self, name: str, value: object) -> None:
        if isinstance(value, str):
            self._state[name] = value[-MAX_TAG_SOURCE:]

    def _response_item(self, payload: dict[str, object]) -> Message | Skipped:
        kind = payload.get("type", "message")
        name = f"response_item/{kind_name(kind, absent='untyped')}"
        if kind == "message":
            return self._message(payload, name)
        if isinstance(kind, str) and kind.endswith("_output"):
            output = payload.get("output")
            text = text_of(output) or ""
            return self._taken(None, "tool", text[:RESULT_LENGTH], "tool_result")
        if isinstance(kind, str) and kind.endswith("_call"):
            tool = payload.get("name")
            return self._skipped(name, tool if isinstance(tool, str) else kind.removesuffix("_call"))
        return self._skipped(name)

    def _message(self, payload: dict[str, object], name: str) -> Message | Skipped:
        blocks = listed(payload.get("content"))
        texts = texts_of(blocks)
        said_by = identifier(payload.get("role"))
        if not texts or said_by is None:
            return self._skipped(f"{name}/{first_kind(blocks) if said_by else 'no-role'}")
        role = ROLE_NAMES.get(said_by.lower())
        text = "\n\n".join(texts)
        # An image puts its own text parts around what was typed, and only that is in the event.
        if self._is_copy("item", role, {text, *texts}):
            return self._skipped(f"{name}/copy")
        return self._taken(
            identifier(payload.get("id")), role or "user", text, _origin(role, text), None if role else said_by
        )

    def _event(self, payload: dict[str, object]) -> Message | Skipped:
        kind = payload.get("type")
        name = f"event_msg/{kind_name(kind, absent='untyped')}"
        role = _EVENT_ROLES.get(kind) if isinstance(kind, str) else None
        text = payload.get("message")
        if role is None or not isinstance(text, str) or not text.strip() or self._is_copy("event", role, {text}):
            return self._skipped(name)
        return self._taken(None, role, text, _origin(role, text))

    def _is_copy(self, kind: str, role: Role | None, texts: set[str]) -> bool:
        """Tell whether a turn is the other copy of one that was taken before; otherwise remember that it was taken."""
        mine = {digest(role or "", normalise(text)).hex()[:16] for text in texts}
        waiting = self._state.get(_UNPAIRED_STATE, "").split()
        for place, other in enumerate(waiting):
            other_kind, *its = other.split(":")
            if other_kind != kind and not mine.isdisjoint(its):
                # Both kinds tell the turns in the same order: what stands before a pair waits in vain.
                self._state[_UNPAIRED_STATE] = " ".join(waiting[place + 1 :])
                return True
        waiting.append(":".join((kind, *sorted(mine))))
        self._state[_UNPAIRED_STATE] = " ".join(waiting[-MAX_UNPAIRED:])
        return False

    def _taken(self, key: str | None, role: Role, text: str, origin: Origin, speaker: str | None = None) -> Message:
        line = self._line
        model = self._state.get(_MODEL_STATE) if role == "assistant" else None
        return Message(
            self._state[SESSION_STATE], key, role, text, line.start, line.end, line.number, self._timestamp, origin,
            speaker=speaker, model=model, tags=self._surroundings(model, ()),
        )  # fmt: skip

    def _skipped(self, kind: str, tool: str | None = None) -> Skipped:
        tools = (tool[:MAX_TAG_SOURCE],) if tool else ()
        line = self._line
        return Skipped(kind, line.end, line.number, self._state[SESSION_STATE], tags=self._surroundings(None, tools))

    def _surroundings(self, model: str | None, tools: tuple[str, ...]) -> tuple[str, ...]:
        return self._tags.of(self._state.get(_CWD_STATE), self._state.get(_BRANCH_STATE), model, tools)


def _origin(role: Role | None, text: str) -> Origin:
    if role == "tool":
        return "tool_result"
    return "injected" if role != "assistant" and _INJECTED.fullmatch(text) else "typed"


def _is_header(record: dict[str, object]) -> bool:
    return "id" in record and "timestamp" in record and "instructions" in record and "role" not in record


def _is_own(record: object) -> bool:
    if not isinstance(record, dict):
        return False
    kind = record.get("type")
    if isinstance(kind, str) and kind in _ENVELOPES and isinstance(record.get("payload"), dict):
        return True
    if kind == "message" and "role" in record and isinstance(record.get("content"), list):
        return True
    return (kind is None and _is_header(record)) or (kind is None and record.get("record_type") == "state")
