"""Claude Code session files: which records are messages, whose they are, and which belong together.

What is noise in a message's text is not decided here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from memcli.model import Item, Line, Message, Origin, Record, Skipped
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
from memcli.readers.lines import MAX_LINE_BYTES
from memcli.text import digest

# So many other records may follow a message before it stops waiting for its next record: memory stays bounded.
MAX_HELD = 1000

# Records that say little of their session; taken for Claude Code's when a sessionId stands beside the type.
_KNOWN_TYPES = frozenset({
    "agent-name", "ai-title", "attachment", "custom-title", "last-prompt", "mode", "permission-mode", "progress",
    "queue-operation", "system", "worktree-state",
})  # fmt: skip


class ClaudeCodeReader:
    """Reads `~/.claude/projects/<project>/<session>.jsonl` and the subagent files beside it."""

    name = "claude-code"
    agent = "claude-code"

    def sniff(self, records: Sequence[object]) -> bool:
        """Tell whether any of the first records can only be Claude Code's; summaries and snapshots alone suffice."""
        return any(_is_own(record) for record in records)

    def read(self, source: Source) -> Iterator[Item]:
        """Yield everything from `source.position` on; consecutive records of one `message.id` become one Message.

        Reading may go on at `end` and `line` of any item without losing anything: what stands between two records of a
        message is reported with the position before that message. `source.state["session"]`, the last sessionId seen,
        is then at most one message ahead; that message is read again with the same result.
        """
        return _collapse(_items(source))


@dataclass(slots=True)
class _Turn:
    """One parsed record with what every kind of record tells: its session, its id and its surroundings.

    `named_session` is None when the record itself names none; `session_key` is then the file's last.
    """

    line: Line
    record: dict[str, object]
    session_key: str
    named_session: str | None
    id: str | None
    tags: TagSets

    def skipped(self, kind: str, model: str | None = None, tools: tuple[str, ...] = ()) -> Skipped:
        # Only the record's own session: a later run may read this record again when another session was the last.
        tags = self.surroundings(model, tools)
        return Skipped(kind, self.line.end, self.line.number, session_key=self.named_session, tags=tags)

    def user_message(self, text: str, origin: Origin) -> Message:
        line = self.line
        return Message(
            self.session_key, self.id, "user", text, line.start, line.end, line.number,
            self.timestamp(), origin, tags=self.surroundings(None, ()),
            records=(Record(self.id, text, self.timestamp()),) if self.id else (),
        )  # fmt: skip

    def surroundings(self, model: str | None, tools: tuple[str, ...]) -> tuple[str, ...]:
        return self.tags.of(self.record.get("cwd"), self.record.get("gitBranch"), model, tools)

    def timestamp(self) -> str | None:
        return normalise_timestamp(self.record.get("timestamp"))


def _items(source: Source) -> Iterator[Item]:
    """Yield one item per line, in file order."""
    tags = TagSets()
    # The session that is kept is the last one seen, which says nothing of a file's first records.
    for found in read_in_session(source, keeps=False):
        yield _item(_turn(*found, source.state, tags)) if isinstance(found, tuple) else found


def _turn(line: Line, record: dict[str, object], state: dict[str, str], tags: TagSets) -> _Turn:
    session = identifier(record.get("sessionId"))
    if session:
        state[SESSION_STATE] = session
    uuid = identifier(record.get("uuid"))
    # A fork copies its history under new ids; the copy goes by the identity of what it is a copy of.
    forked = record.get("forkedFrom")
    if isinstance(forked, dict):
        session = identifier(forked.get("sessionId")) or session
        uuid = identifier(forked.get("messageUuid")) or uuid
    return _Turn(line, record, session or state[SESSION_STATE], session, uuid, tags)


def _item(turn: _Turn) -> Message | Skipped:
    kind = turn.record.get("type")
    if kind == "user":
        return _user(turn)
    if kind == "assistant":
        return _assistant(turn)
    name = kind_name(kind, absent="untyped")
    subtype = turn.record.get("subtype")
    if name == "system" and subtype is not None:
        name = f"system/{kind_name(subtype, absent='')}"
    return turn.skipped(name)


def _user(turn: _Turn) -> Message | Skipped:
    blocks = _blocks(turn.record.get("message"))
    texts = texts_of(blocks)
    if texts:
        injected = turn.record.get("isMeta") or turn.record.get("isCompactSummary")
        return turn.user_message("\n\n".join(texts), "injected" if injected else "typed")
    results = [block for block in blocks if isinstance(block, dict) and block.get("type") == "tool_result"]
    if results:
        text = "\n\n".join(text for block in results for text in texts_of(listed(block.get("content"))))
        return turn.user_message(text[:RESULT_LENGTH], "tool_result")
    return turn.skipped(f"user/{first_kind(blocks)}")


def _assistant(turn: _Turn) -> Message | Skipped:
    message = turn.record.get("message")
    fields = message if isinstance(message, dict) else {}
    model = identifier(fields.get("model"))
    # "<synthetic>" marks what the client wrote itself, such as the text of an API error.
    model = None if model == "<synthetic>" else model
    blocks = _blocks(message)
    tools = _tools(blocks)
    texts = texts_of(blocks)
    if not texts:
        return turn.skipped(f"assistant/{'tool_use' if tools else first_kind(blocks)}", model, tools)
    text = "\n\n".join(texts)
    timestamp = turn.timestamp()
    message_id = identifier(fields.get("id"))
    key = message_id or turn.id
    record_id = turn.id or digest(message_id or "", timestamp or "", text).hex()
    line = turn.line
    return Message(
        turn.session_key, key, "assistant", text, line.start, line.end, line.number, timestamp,
        "injected" if turn.record.get("isApiErrorMessage") else "typed",
        model=model, tags=turn.surroundings(model, tools),
        # Without any id of the format's own a repetition cannot be told from a copy; the ingest counts those instead.
        records=(Record(record_id, text, timestamp),) if key else (),
    )  # fmt: skip


def _blocks(message: object) -> list[object]:
    """Content blocks of a record's `message`, which may also be a bare string."""
    if isinstance(message, dict):
        return listed(message.get("content"))
    return [message] if isinstance(message, str) else []


def _tools(blocks: list[object]) -> tuple[str, ...]:
    """Names of the tools used, each once; `server_tool_use` and the like count too."""
    names: dict[str, None] = {}
    for block in blocks:
        if isinstance(block, dict):
            kind, name = block.get("type"), block.get("name")
            if isinstance(kind, str) and kind.endswith("tool_use") and isinstance(name, str):
                names[name[:MAX_TAG_SOURCE]] = None
    return tuple(names)


@dataclass(slots=True)
class _Group:
    """The records of one assistant message seen so far, and what followed them."""

    messages: list[Message] = field(default_factory=list)
    known: set[str] = field(default_factory=set)
    held: list[Skipped] = field(default_factory=list)

    def continued_by(self, item: Message) -> bool:
        if not (self.messages and item.role == "assistant" and item.key == self.messages[0].key):
            return False
        first = self.messages[0]
        same = item.session_key == first.session_key and item.origin == first.origin
        return same and item.end - first.start <= MAX_LINE_BYTES

    def add(self, item: Message) -> Iterator[Skipped]:
        """Take one more record; yield what stood before it, now known to be inside of the message."""
        record = item.records[0].id
        if record in self.known:
            self.held.append(Skipped("repeated-record", item.end, item.line, item.session_key))
            return
        if self.held:
            first = self.messages[0]
            yield from (replace(held, end=first.start, line=first.line - 1) for held in self.held)
            self.held.clear()
        self.messages.append(item)
        self.known.add(record)

    def close(self) -> Iterator[Item]:
        """Yield the message and what stood behind it; the group is empty then."""
        if self.messages:
            yield _merged(self.messages)
            yield from self.held
            self.messages, self.known, self.held = [], set(), []


def _collapse(items: Iterator[Item]) -> Iterator[Item]:
    """Put records of one assistant message that follow one another together; other items keep their order."""
    group = _Group()
    for item in items:
        if isinstance(item, Skipped) and group.messages:
            group.held.append(item)
        elif isinstance(item, Message) and group.continued_by(item):
            yield from group.add(item)
        else:
            yield from group.close()
            if isinstance(item, Message) and item.role == "assistant" and item.key:
                yield from group.add(item)
            else:
                yield item
        if len(group.held) >= MAX_HELD:
            yield from group.close()
    yield from group.close()


def _merged(messages: list[Message]) -> Message:
    first, last = messages[0], messages[-1]
    if first is last:
        return first
    return replace(
        first,
        text="\n\n".join(message.text for message in messages),
        end=last.end,
        line=last.line,
        timestamp=next((message.timestamp for message in messages if message.timestamp), None),
        model=next((message.model for message in messages if message.model), None),
        tags=tuple(dict.fromkeys(each for message in messages for each in message.tags)),
        records=tuple(record for message in messages for record in message.records),
    )


def _is_own(record: object) -> bool:
    if not isinstance(record, dict):
        return False
    kind = record.get("type")
    if kind in ("user", "assistant"):
        return "message" in record and ("sessionId" in record or "uuid" in record)
    if kind == "summary":
        return "leafUuid" in record
    if kind == "file-history-snapshot":
        return "snapshot" in record
    if "sessionId" not in record:
        return False
    # Assistant records name their type behind the message, where it may be cut off.
    return ("parentUuid" in record and "isSidechain" in record) or (isinstance(kind, str) and kind in _KNOWN_TYPES)
