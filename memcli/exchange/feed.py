"""Reading what is to be imported, in batches: exports, lines of other programs, other databases."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, cast

from memcli.errors import MismatchError, UsageError
from memcli.exchange import export
from memcli.exchange.plain import parse_plain
from memcli.exchange.records import (
    FORMAT,
    MEMORY,
    MESSAGE,
    PARTED,
    REVIEW,
    VERSION,
    Member,
    Parted,
    Record,
    SourceMessage,
    Star,
    Undecided,
    parse_message,
    parse_parted,
    parse_star,
    parse_undecided,
)
from memcli.exchange.records import Source as MemberSource
from memcli.ingest.inputs import STDIN, CursorIndex, Found, proof, storable_path
from memcli.model import Cursor, Line, Position, Rejected
from memcli.protocols import Source
from memcli.readers.archives import COMPRESSED, open_stream
from memcli.readers.lines import parse, read_lines, reject
from memcli.redact import Redactor, redact
from memcli.redact.names import Names
from memcli.store.db import Store
from memcli.store.files import IMPORT

_NAME_ONE = "name an export, or a database of memcli"
_TAKEN = "import takes files of memcli export, databases of memcli and JSON Lines; transcripts are for memcli ingest"
_SQLITE = b"SQLite format 3\0"
_AGENT, _GENERATION = "agent", "generation"
_WORDS = 1 << 12


@dataclass(slots=True)
class ReadBatch:
    """What was read for one transaction, and the cursor that says how far.

    `decided` says that it comes from a memcli database, with vectors of `model_id`: what that one says of its memories
    among themselves holds. `done` says that it is the last of its file.
    """

    cursor: Cursor
    decided: bool = False
    model_id: str | None = None
    done: bool = False
    messages: list[SourceMessage] = field(default_factory=list)
    stars: list[Star] = field(default_factory=list)
    parted: list[Parted] = field(default_factory=list)
    undecided: list[Undecided] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    redacted: Counter[str] = field(default_factory=Counter)
    lines: int = 0
    bytes: int = 0

    @property
    def size(self) -> int:
        """What counts towards the batch size."""
        members = sum(len(star.members) for star in self.stars)
        return len(self.messages) + members + len(self.parted) + len(self.undecided) + len(self.rejected)


@dataclass(slots=True)
class Files:
    """What happened to the files of a run."""

    read: int = 0
    unchanged: int = 0
    notes: list[str] = field(default_factory=list)


class Feed:
    """Reads one file or database after another."""

    def __init__(
        self,
        found: list[Found],
        cursors: list[Cursor],
        *,
        batch_size: int,
        next_file_id: int,
        agent: str | None,
        redactor: Redactor = redact,
        names: Names | None = None,
    ) -> None:
        self.files = Files()
        self._found = found
        self._names = names or Names()
        self._cursors = CursorIndex(cursors, found, self._names)
        self._batch_size = batch_size
        self._next_file_id = next_file_id
        self._agent = agent
        self._redact = redactor
        # The same few stand at very many memories.
        self._redact_word = lru_cache(_WORDS)(lambda word: redactor(word)[0])
        self._changed: dict[bytes, str] = {}

    def total_bytes(self) -> int | None:
        """How much there is to read at most; None where that cannot be told."""
        if any(found.stat is None or found.path.lower().endswith(COMPRESSED) for found in self._found):
            return None
        return sum(found.stat.st_size for found in self._found if found.stat is not None)

    def batches(self) -> Iterator[ReadBatch]:
        """Yield everything that is new, in batches.

        Raises:
            UsageError: a file cannot be read, or there is no JSON object in a stream.
            MismatchError: an export or a database of a newer memcli.
        """
        for found in self._found:
            if is_database(found):
                yield from self._database(found)
            else:
                yield from self._lines(found)

    def _database(self, found: Found) -> Iterator[ReadBatch]:
        with Store.open(Path(found.path)) as other, other.snapshot():
            state = {_GENERATION: str(other.generation()), **self._state()}
            known = self._cursors.rewritten(found)
            inode = found.stat.st_ino if found.stat else None
            # Where its last commits are in the write-ahead log, the file itself has not changed.
            if known is not None and (known.inode, known.state) == (inode, state) and known.size >= 0:
                self.files.unchanged += 1
                return
            self.files.read += 1
            cursor = Cursor(self._file_id(known), self._names.of_path(storable_path(found.path)), IMPORT, inode)
            model_id = other.meta("model_id")
            batch = ReadBatch(cursor, decided=True, model_id=model_id)
            for record in export.records(other, None):
                self._add(batch, record)
                if batch.size >= self._batch_size:
                    yield batch
                    batch = ReadBatch(cursor, decided=True, model_id=model_id)
            batch.cursor = replace(cursor, size=found.stat.st_size if found.stat else 0, state=state)
            batch.done = True
            yield batch

    def _lines(self, found: Found) -> Iterator[ReadBatch]:
        unchanged = self._cursors.unchanged(found)
        if unchanged is not None and self._is_as_named(unchanged):
            self.files.unchanged += 1
            return
        try:
            with _stream(found) as stream:
                yield from self._read(found, stream)
        except OSError as error:
            raise UsageError(f"cannot read {found.path}: {error.strerror or error}", _NAME_ONE) from error

    def _read(self, found: Found, stream: BinaryIO) -> Iterator[ReadBatch]:
        self.files.read += 1
        status = os.fstat(stream.fileno()) if found.stat and stream.seekable() else None
        resumed = self._resumed(found, stream) if status else None
        known = resumed or self._cursors.rewritten(found)
        inode = found.stat.st_ino if found.stat else None
        cursor = Cursor(self._file_id(known), self._names.of_path(storable_path(found.path)), IMPORT, inode)
        position = resumed.position if resumed else Position()
        batch = ReadBatch(cursor)
        expected = seen = 0
        is_rubbish = found.stat is None
        for line in _lines(Source(stream, position, final=True)):
            record = parse(line) if isinstance(line, Line) else line
            is_first = position.line == 0
            batch.lines += 1
            batch.bytes += line.end - position.offset
            position = Position(line.end, line.line if isinstance(line, Rejected) else line.number)
            is_rubbish = is_rubbish and not isinstance(record, dict)
            if is_first and isinstance(record, dict) and "memcli" in record:
                expected = _check_header(found.path, record)
                batch.decided, batch.model_id = True, str(record.get("model_id"))
            elif isinstance(record, dict):
                seen += batch.decided and record.get("kind") == MEMORY
                self._take(batch, cast("Line", line), record)
            else:
                batch.rejected.append(record)
            if batch.size >= self._batch_size:
                _check_stream(found.path, batch, is_rubbish=is_rubbish)
                yield self._marked(batch, found, stream, position, status)
                batch, is_rubbish = ReadBatch(cursor, batch.decided, batch.model_id), False
        _check_stream(found.path, batch, is_rubbish=is_rubbish)
        if expected > seen:
            self.files.notes.append(
                f"{cursor.path} should hold {expected:,} memories, but holds {seen:,}: it was cut off, or is damaged"
            )
        yield self._marked(batch, found, stream, position, status, done=True)

    def _resumed(self, found: Found, stream: BinaryIO) -> Cursor | None:
        """Where to go on in lines of another program; an export is read from its start, as its decisions are one."""
        cursor = self._cursors.resumable(found, stream.fileno())
        if cursor is None or not self._is_as_named(cursor):
            return None
        is_export = "memcli" in (next(_objects(stream), None) or {})
        stream.seek(0 if is_export else cursor.position.offset)
        return None if is_export else cursor

    def _take(self, batch: ReadBatch, line: Line, record: dict[str, object]) -> None:
        try:
            if not batch.decided:
                found = parse_plain(record, batch.cursor.path, (line.start, line.end), self._agent, self._redact)
                batch.messages.append(self._named(found[0], batch.redacted))
                batch.stars.extend(Star(tuple(map(self._member, star.members))) for star in found[1])
                batch.redacted.update(found[2])
            elif record.get("kind") == MESSAGE:
                self._add(batch, parse_message(record))
            elif record.get("kind") == MEMORY:
                self._add(batch, parse_star(record))
            elif record.get("kind") == PARTED:
                self._add(batch, parse_parted(record))
            elif record.get("kind") == REVIEW:
                self._add(batch, parse_undecided(record))
            else:
                raise ValueError("kind is none of message, memory, parted, review")
        except ValueError as error:
            batch.rejected.append(reject(line, redact(str(error))[0]))

    def _add(self, batch: ReadBatch, record: Record) -> None:
        """Put a record of a memcli database into a batch: redacted once more, whoever made the file."""
        if isinstance(record, SourceMessage):
            text, redacted = self._redact(record.text)
            batch.redacted.update(redacted)
            if redacted:
                self._changed[record.identity] = text
            batch.messages.append(self._named(replace(record, text=text), batch.redacted))
        elif isinstance(record, Star):
            members = []
            for member in record.members:
                content, redacted = self._redact(member.content)
                batch.redacted.update(redacted)
                sources = self._moved(member.sources, content)
                members.append(self._member(replace(member, content=content, sources=sources)))
            batch.stars.append(Star(tuple(members)))
        else:
            one, other = ((self._owner(agent), found) for agent, found in (record.one, record.other))
            gates = tuple(map(self._redact_word, record.gates_failed))
            if isinstance(record, Parted):
                batch.parted.append(replace(record, one=one, other=other, gates_failed=gates))
            else:
                told = {self._redact_word(gate): self._redact(said)[0] for gate, said in record.differences.items()}
                pair = replace(record, one=one, other=other, gates_failed=gates, differences=told)
                batch.undecided.append(pair)

    def _owner(self, agent: str) -> str:
        return self._names.of(self._agent or agent)

    def _named(self, message: SourceMessage, redacted: Counter[str]) -> SourceMessage:
        """A message without credentials in what stands beside its text; its identity stays."""
        own_id, speaker, model = message.external_id, message.speaker, message.model
        if own_id is not None:
            own_id, kinds = self._names.redact(own_id)
            redacted.update(kinds)
        if speaker is not None:
            speaker, kinds = self._redact(speaker)
            redacted.update(kinds)
        return replace(
            message,
            agent=self._owner(message.agent),
            session=self._names.of(message.session),
            file=self._names.of_path(message.file),
            external_id=own_id,
            speaker=speaker,
            model=None if model is None else self._redact_word(model),
        )

    def _member(self, member: Member) -> Member:
        """A memory without credentials in what stands beside its content."""
        merge = member.merge
        if merge is not None:
            merge = replace(merge, gates_passed=tuple(map(self._redact_word, merge.gates_passed)))
        return replace(
            member,
            agent=self._owner(member.agent),
            session=self._names.of(member.session),
            method=self._redact_word(member.method),
            keywords=tuple(map(self._redact_word, member.keywords)),
            tags=tuple(sorted(set(map(self._redact_word, member.tags)))),
            merge=merge,
        )

    def _moved(self, sources: tuple[MemberSource, ...], content: str) -> tuple[MemberSource, ...]:
        """The sources of a memory; in a message that was changed by redaction, where its text stands now."""
        moved = []
        for source in sources:
            text = self._changed.get(source.message)
            if text is None:
                moved.append(source)
            elif (start := text.find(content)) >= 0:
                moved.append(replace(source, start=start, end=start + len(content)))
        return tuple(moved)

    def _marked(
        self,
        batch: ReadBatch,
        found: Found,
        stream: BinaryIO,
        position: Position,
        status: os.stat_result | None,
        *,
        done: bool = False,
    ) -> ReadBatch:
        batch.cursor = replace(batch.cursor, position=position, state=self._state())
        if status is not None:
            head, tail = proof(stream.fileno(), position.offset)
            batch.cursor = replace(batch.cursor, mtime_ns=status.st_mtime_ns, head_hash=head, tail_hash=tail)
        elif found.stat is not None:
            batch.cursor = replace(batch.cursor, mtime_ns=found.stat.st_mtime_ns)
        batch.done = done
        if done and found.stat is not None and position.offset:
            batch.cursor = replace(batch.cursor, size=found.stat.st_size)
        return batch

    def _state(self) -> dict[str, str]:
        return {} if self._agent is None else {_AGENT: self._names.of(self._agent)}

    def _is_as_named(self, cursor: Cursor) -> bool:
        """Whether a file was read for the agent that the user names now."""
        return cursor.state.get(_AGENT) in {self._agent, self._state().get(_AGENT)}

    def _file_id(self, known: Cursor | None) -> int:
        if known is not None:
            return known.file_id
        self._next_file_id += 1
        return self._next_file_id - 1


def is_database(found: Found) -> bool:
    """Whether a file is an SQLite database.

    Raises:
        UsageError: it cannot be read.
    """
    if found.stat is None:
        return False
    try:
        with Path(found.path).open("rb") as file:
            return file.read(len(_SQLITE)) == _SQLITE
    except OSError as error:
        raise UsageError(f"cannot read {found.path}: {error.strerror}", _NAME_ONE) from error


def check(found: Found) -> None:
    """See whether a file can be imported by this memcli, before anything is written. A stream is not looked at.

    Raises:
        UsageError: the file cannot be read, is another file of memcli, or has lines but no JSON object in any of them.
        MismatchError: it was written by a newer memcli.
    """
    if found.stat is None or is_database(found):
        return
    try:
        with _stream(found) as stream:
            kinds = _objects(stream)
            record = next(kinds, {})
            has_objects = record is not None or any(each is not None for each in kinds)
    except OSError as error:
        raise UsageError(f"cannot read {found.path}: {error.strerror or error}", _NAME_ONE) from error
    if not has_objects:
        raise UsageError(f"{found.path} is neither a database nor lines of JSON, one object each", _TAKEN)
    if record and "memcli" in record:
        _check_header(found.path, record)


def _objects(stream: BinaryIO) -> Iterator[dict[str, object] | None]:
    """The objects of a stream, line by line; None for a line that holds anything else."""
    for line in _lines(Source(stream, final=True)):
        record = parse(line) if isinstance(line, Line) else None
        yield record if isinstance(record, dict) else None


def _check_stream(path: str, batch: ReadBatch, *, is_rubbish: bool) -> None:
    """`check` cannot look at a stream beforehand: this is done before the first lines of it are stored."""
    if is_rubbish and batch.rejected:
        raise UsageError(f"{path} is no lines of JSON, one object each", _TAKEN)


def _check_header(path: str, record: dict[str, object]) -> int:
    """How many memories an export says that it holds."""
    version = record.get("version")
    if record["memcli"] != FORMAT or not isinstance(version, int):
        raise UsageError(f"{path} begins as a file of memcli, but is no export", "name a file of memcli export")
    if version > VERSION:
        raise MismatchError(f"{path} was written by a newer memcli (format {version})", "upgrade memcli")
    count = record.get("memories")
    return count if isinstance(count, int) else 0


def _lines(source: Source) -> Iterator[Line | Rejected]:
    return (line for line in read_lines(source) if isinstance(line, Line | Rejected))


def _stream(found: Found) -> BinaryIO:
    if found.path == STDIN and found.stat is None:
        return open(0, "rb", buffering=0, closefd=False)
    return open_stream(found.path)
