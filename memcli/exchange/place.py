"""Where what was read has its place in the database: files, sessions, messages, and the provenance of memories."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from memcli.exchange.feed import ReadBatch
from memcli.exchange.records import Member, SourceMessage, Star
from memcli.model import Cursor, Provenance
from memcli.store import exchange as rows
from memcli.store import messages as message_rows
from memcli.store.db import Store
from memcli.store.messages import NewMessage
from memcli.store.windows import KnownStatement
from memcli.text import content_hash, digest

_TRANSCRIPT = "unknown"


@dataclass(slots=True)
class Placed:
    """A memory to be with its sources in this database; `known` is the id it has there already, if it has one."""

    member: Member
    hash: bytes
    session_id: int
    sources: tuple[Provenance, ...]
    imported: frozenset[int]
    known: int | None = None


@dataclass(slots=True)
class Places:
    """What a batch adds beside memories, and its stars; a statement that stands twice in the batch is left out."""

    stars: list[list[Placed]] = field(default_factory=list)
    messages: list[NewMessage] = field(default_factory=list)
    records: list[tuple[bytes, int]] = field(default_factory=list)
    files: list[Cursor] = field(default_factory=list)
    new_sessions: list[tuple[int, str, str]] = field(default_factory=list)
    new_tags: list[tuple[int, str]] = field(default_factory=list)
    tags: dict[int, set[str]] = field(default_factory=dict)
    known_messages: int = 0
    known: int = 0


class Placer:
    """Places batches of one file. `differing` are stored messages with another text than the file says, by identity."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._differing: dict[bytes, str] = {}

    def place(self, batch: ReadBatch) -> Places:
        """Find what is stored already, and give what is new its ids. Reads the database, writes nothing."""
        result = Places()
        sessions = self._sessions(batch, result)
        ids = self._messages(batch, sessions, result)
        by_identity = self._add_messages(batch, ids, sessions, result)
        for star in batch.stars:
            result.stars.append([self._placed(member, by_identity, sessions) for member in star.members])
        self._find_known(result)
        return result

    def _sessions(self, batch: ReadBatch, result: Places) -> dict[tuple[str, str], int]:
        """Ids of all sessions of the batch, and the environment tags that they get."""
        tags: dict[tuple[str, str], set[str]] = {(each.agent, each.session): set() for each in batch.messages}
        for member in _members(batch.stars):
            tags.setdefault((member.agent, member.session), set()).update(member.tags)
        ids = message_rows.session_ids(self._store, list(tags))
        stored = message_rows.session_tags(self._store, list(ids.values()))
        next_id = self._store.next_id("sessions")
        for key in tags:
            if key not in ids:
                ids[key] = next_id + len(result.new_sessions)
                result.new_sessions.append((ids[key], *key))
        for key, found in tags.items():
            known = stored.get(ids[key], set())
            result.new_tags.extend((ids[key], tag) for tag in sorted(found - known))
            result.tags[ids[key]] = found | known
        return ids

    def _messages(self, batch: ReadBatch, sessions: dict[tuple[str, str], int], result: Places) -> _Ids:
        stored = rows.stored_texts(self._store, (each.identity for each in batch.messages))
        ids = _Ids(self._store.next_id("messages"))
        files = self._files(batch, result)
        for message in batch.messages:
            if message.identity in ids.lengths:
                result.known_messages += 1
            elif message.identity in stored:
                message_id, text = stored[message.identity]
                ids.lengths[message.identity] = message_id, len(text)
                result.known_messages += 1
                # A message may have grown since; then what was said in it stands where it stood.
                if not (text.startswith(message.text) or message.text.startswith(text)):
                    self._differing[message.identity] = text
            else:
                message_id = ids.new(message)
                session_id = sessions[message.agent, message.session]
                result.messages.append(_row(message, message_id, session_id, files[message.file]))
                result.records.extend((record, message_id) for record in message.records)
        return ids

    def _files(self, batch: ReadBatch, result: Places) -> dict[str, int]:
        """Ids of the files that the messages are from: of an export, the transcripts that were read elsewhere."""
        if not batch.decided:
            return {each.file: batch.cursor.file_id for each in batch.messages}
        paths = list(dict.fromkeys(each.file for each in batch.messages))
        ids = rows.file_ids(self._store, paths)
        next_id = max(self._store.next_id("files"), batch.cursor.file_id + 1)
        for path in paths:
            if path not in ids:
                ids[path] = next_id + len(result.files)
                result.files.append(Cursor(ids[path], path, _TRANSCRIPT))
        return ids

    def _add_messages(self, batch: ReadBatch, ids: _Ids, sessions: dict[tuple[str, str], int], result: Places) -> _Ids:
        """Know the messages of earlier batches too, and make those of memories that have lost theirs."""
        wanted = {source.message for member in _members(batch.stars) for source in member.sources}
        absent = [member for member in _members(batch.stars) if not member.sources]
        stored = rows.message_lengths(self._store, [*(wanted - ids.lengths.keys())])
        ids.lengths |= stored
        absent += [m for m in _members(batch.stars) if m.sources and not self._kept(m, ids)]
        made = {identity_of(member): member for member in absent}
        ids.lengths |= rows.message_lengths(self._store, made.keys() - ids.lengths.keys())
        for identity, member in made.items():
            if identity not in ids.lengths:
                message = SourceMessage(
                    identity, member.agent, member.session, "user", member.content, batch.cursor.path, 0, 0
                )
                session_id = sessions[member.agent, member.session]
                result.messages.append(_row(message, ids.new(message), session_id, batch.cursor.file_id))
        return ids

    def _kept(self, member: Member, ids: _Ids) -> dict[Provenance, str]:
        """The sources of a memory that stand in this database where the file says, with their kinds."""
        kept: dict[Provenance, str] = {}
        for source in member.sources:
            message_id, length = ids.lengths.get(source.message, (0, -1))
            text = self._differing.get(source.message)
            if source.end <= length and (text is None or text[source.start : source.end] == member.content):
                kept[Provenance(message_id, source.start, source.end)] = source.kind
        return kept

    def _placed(self, member: Member, ids: _Ids, sessions: dict[tuple[str, str], int]) -> Placed:
        kept = self._kept(member, ids)
        if not kept:
            message_id, length = ids.lengths[identity_of(member)]
            kept = {Provenance(message_id, 0, length): "import"}
        imported = frozenset(source.message_id for source, kind in kept.items() if kind == "import")
        session_id = sessions[member.agent, member.session]
        return Placed(member, content_hash(member.content), session_id, tuple(kept), imported)

    def _find_known(self, result: Places) -> None:
        new = {message.id for message in result.messages}
        every = [placed for star in result.stars for placed in star]
        stored = rows.statements(
            self._store,
            list(
                {
                    source.message_id: None
                    for placed in every
                    for source in placed.sources
                    if source.message_id not in new
                }
            ),
        )
        seen: set[KnownStatement] = set()
        stars = []
        for star in result.stars:
            left = []
            for placed in star:
                statement = _statement(placed)
                placed.known = stored.get(statement)
                result.known += placed.known is not None or statement in seen
                if statement not in seen:
                    left.append(placed)
                seen.add(statement)
            if left:
                stars.append(left)
        result.stars = stars


@dataclass(slots=True)
class _Ids:
    """Ids and lengths in characters of messages by identity; `next` is the next free id."""

    next: int
    lengths: dict[bytes, tuple[int, int]] = field(default_factory=dict)

    def new(self, message: SourceMessage) -> int:
        self.lengths[message.identity] = self.next, len(message.text)
        self.next += 1
        return self.next - 1


def _members(stars: Iterable[Star]) -> Iterable[Member]:
    return (member for star in stars for member in star.members)


def identity_of(member: Member) -> bytes:
    """That of a line of another program with this content and no id."""
    return digest("import", member.agent, member.session, "", member.type, content_hash(member.content).hex())


def _row(message: SourceMessage, message_id: int, session_id: int, file_id: int) -> NewMessage:
    return NewMessage(
        id=message_id,
        session_id=session_id,
        identity=message.identity,
        external_id=message.external_id,
        role=message.role,
        speaker=message.speaker,
        text=message.text,
        timestamp=message.timestamp,
        model=message.model,
        filter_reason=None,
        file_id=file_id,
        start=message.start,
        end=message.end,
    )


def _statement(placed: Placed) -> KnownStatement:
    spans = tuple(sorted((source.message_id, source.start, source.end) for source in placed.sources))
    return KnownStatement(placed.member.method.partition(":")[0], placed.member.type, placed.hash, spans)
