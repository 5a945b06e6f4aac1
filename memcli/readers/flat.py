"""Flat JSONL: one message per line, under the field names that are common or that the user maps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from memcli.errors import UsageError
from memcli.model import Item, Line, Message, Skipped
from memcli.protocols import Source
from memcli.readers.fields import (
    ROLE_NAMES,
    SESSION_STATE,
    TAG_LENGTH,
    identifier,
    nearest,
    normalise_timestamp,
    read_in_session,
    tag,
    text_of,
)
from memcli.readers.lines import reject

# The names a target goes by when the user maps none; the first that is there and not null counts.
TARGETS: dict[str, tuple[str, ...]] = {
    "role": ("role", "from", "speaker"),
    "content": ("content", "text", "value", "message"),
    "session_id": ("session_id",),
    "id": ("id",),
    "timestamp": ("timestamp", "ts", "created_at"),
    "agent_id": ("agent_id",),
    "model": ("model",),
}

# These mark the records of dialects that keep a whole session, or an envelope, in one line.
_FOREIGN = ("messages", "conversations", "payload")

_ABSENT = object()


class FlatReader:
    """Reads one message per line; `mapping` gives target -> source name, dots reaching into nested objects.

    Raises UsageError for a target that is not among `TARGETS`.
    """

    name = "flat"
    agent = "default"

    def __init__(self, mapping: Mapping[str, str] | None = None) -> None:
        mapping = mapping or {}
        _check_targets(mapping)
        self._names = TARGETS | {target: (source,) for target, source in mapping.items()}
        self._named_by_user = "role" in mapping or "content" in mapping

    def sniff(self, records: Sequence[object]) -> bool:
        """Tell whether at least half of the first records hold a role and content and are of no other dialect."""
        return bool(records) and 2 * sum(map(self._claims, records)) >= len(records)

    def read(self, source: Source) -> Iterator[Item]:
        """Yield one item per line, in file order. `source.state` keeps the session of records that name none."""
        for found in read_in_session(source):
            yield self._item(*found, source.state[SESSION_STATE]) if isinstance(found, tuple) else found

    def _item(self, line: Line, record: dict[str, object], first_session: str) -> Item:
        role, content = self._role(record), self._value(record, "content")
        name = identifier(role)
        if content is _ABSENT:
            if not (name and ("tool_calls" in record or "function_call" in record)):
                return reject(line, f"no text: {self._looked_for('content')}")
            content = None
        if name is None:
            problem = "no role" if role is _ABSENT or role is None or role == "" else "the role is not a name"
            return reject(line, f"{problem}: {self._looked_for('role')}")
        text = text_of(content)
        if text is None:
            return reject(line, f"the content is not text: {self._looked_for('content')}")
        session_key = identifier(self._value(record, "session_id")) or first_session
        agent = identifier(self._value(record, "agent_id"))
        if not text or text.isspace():
            return Skipped("no-text", line.end, line.number, session_key, agent)
        known = ROLE_NAMES.get(name.lower())
        model = identifier(self._value(record, "model"))
        return Message(
            session_key, identifier(self._value(record, "id")), known or "user", text,
            line.start, line.end, line.number, normalise_timestamp(self._value(record, "timestamp")),
            "tool_result" if known == "tool" else "typed", agent, None if known else name,
            model, _model_tags(model[:TAG_LENGTH]) if model else (),
        )  # fmt: skip

    def _role(self, record: dict[str, object]) -> object:
        """Give the role, which a `message` object may hold beside its content."""
        role = self._value(record, "role")
        if role is _ABSENT:
            content = self._value(record, "content")
            if isinstance(content, dict):
                return content.get("role", _ABSENT)
        return role

    def _value(self, record: dict[str, object], target: str) -> object:
        """Give the first value of the target's names that is not null; None if all are, `_ABSENT` if none is there."""
        found: object = _ABSENT
        for name in self._names[target]:
            value = record.get(name, _ABSENT)
            if value is _ABSENT and "." in name:
                value = _nested(record, name)
            if value is None:
                found = None
            elif value is not _ABSENT:
                return value
        return found

    def _looked_for(self, target: str) -> str:
        return f"none of {', '.join(self._names[target])} (name it with --map {target}=...)"

    def _claims(self, record: object) -> bool:
        if not isinstance(record, dict):
            return False
        content = self._value(record, "content")
        if content is _ABSENT or identifier(self._role(record)) is None:
            return False
        if self._named_by_user:
            return True
        if any(isinstance(record.get(name), list | dict) for name in _FOREIGN):
            return False
        # A type beside a message object is an envelope (pi, Claude Code); beside a list of parts a bare Codex item.
        return not ("type" in record and isinstance(content, dict | list))


def parse_map(text: str) -> dict[str, str]:
    """Parse `--map role=author,content=body` into target -> source name; UsageError on bad syntax or targets."""
    mapping: dict[str, str] = {}
    for pair in text.split(","):
        target, equals, source = (part.strip() for part in pair.partition("="))
        if not (target and equals and source):
            raise UsageError(
                f"--map: {pair.strip()!r} is not of the form field=name",
                "write it like --map role=author,content=body",
            )
        if target in mapping:
            raise UsageError(f"--map: {target!r} is mapped twice", "name every field once")
        mapping[target] = source
    _check_targets(mapping)
    return mapping


def _check_targets(mapping: Mapping[str, str]) -> None:
    for target in mapping:
        if target not in TARGETS:
            raise UsageError(
                f"--map: unknown field {target!r}{nearest(target, TARGETS)}",
                f"fields that can be mapped: {', '.join(TARGETS)}",
            )


def _nested(record: dict[str, object], name: str) -> object:
    value: object = record
    for part in name.split("."):
        if not isinstance(value, dict):
            return _ABSENT
        value = value.get(part, _ABSENT)
    return value


@lru_cache(maxsize=256)
def _model_tags(model: str) -> tuple[str, ...]:
    named = tag("model", model)
    return (named,) if named else ()
