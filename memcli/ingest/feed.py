"""Reading transcripts from their cursors on, and cutting what the readers yield into batches."""

from __future__ import annotations

import os
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import BinaryIO, cast

from memcli.errors import UsageError
from memcli.ingest.inputs import STDIN, ZIP, CursorIndex, Found, proof, storable_path
from memcli.model import Cursor, Item, Message, Position, Rejected, Skipped
from memcli.protocols import Reader, Source
from memcli.readers import is_array
from memcli.readers.archives import ArchiveError, open_stream, skip, zip_members
from memcli.readers.arrays import Unread
from memcli.readers.conversations import ARRAY_STATE
from memcli.readers.fields import KEPT_SESSION_STATE, SESSION_STATE
from memcli.redact import redact
from memcli.redact.names import Names

SNIFFED_BYTES = 1 << 16
# Where a cursor keeps the field names that its file was read with, and the agent that the user named for it.
MAP_STATE = "map"
AGENT_STATE = "agent"
# Says that a reader's state held a credential.
UNSTORABLE_STATE = "unstorable"
_LINE_END = b"\r\n"
_KINDS = 1 << 10
_EXPORT = re.compile(rb'\s*\{\s*"memcli"\s*:\s*"export"')
_SQLITE = b"SQLite format 3\0"


@dataclass(slots=True)
class Files:
    """What happened to the files of a run.

    `failed` holds (path, why), `unknown` the files of folders that are no transcripts, `formats` what files were taken
    for.
    """

    seen: int = 0
    read: int = 0
    unchanged: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    formats: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message with the file it came from and whose memory it feeds."""

    file_id: int
    agent: str
    message: Message


@dataclass(slots=True)
class ReadBatch:
    """What was read for one batch: up to `batch_size` messages, and the cursors that say how far."""

    messages: list[Incoming] = field(default_factory=list)
    rejected: list[tuple[int, Rejected]] = field(default_factory=list)
    tags: list[tuple[str, str, tuple[str, ...]]] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    lines: int = 0
    bytes: int = 0
    cursors: dict[int, Cursor] = field(default_factory=dict)
    restarted: set[int] = field(default_factory=set)

    @property
    def size(self) -> int:
        """What counts towards the batch size: rejected lines do too, so that a file of rubbish stays bounded."""
        return len(self.messages) + len(self.rejected)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to commit."""
        return not (self.messages or self.rejected or self.cursors)


@dataclass(slots=True)
class _OnDisk:
    """How much was read of a file on disk, whatever its bytes become: `size` bytes, `counted` of them so far."""

    descriptor: int
    size: int
    counted: int = 0

    def more(self, *, done: bool = False) -> int:
        """Bytes read since this was asked last; with `done` all that are left."""
        place = self.size if done else min(self.size, os.lseek(self.descriptor, 0, os.SEEK_CUR))
        found = max(0, place - self.counted)
        self.counted += found
        return found


@dataclass(slots=True)
class _Open:
    """The transcript that is being read. `plain` says that positions in it are bytes of the file itself.

    `disk` is the file that bytes are counted of where they are not, None for a pipe. What ends by `passed` was taken
    by an earlier run.
    """

    cursor: Cursor
    source: Source
    agent: str
    status: os.stat_result | None
    disk: _OnDisk | None
    plain: bool
    position: Position
    counted: Position
    passed: int = 0


class Feed:
    """Reads transcripts one after another, each from its cursor on, in batches."""

    def __init__(
        self,
        found: Sequence[Found],
        cursors: CursorIndex,
        choose_reader: Callable[[Cursor | None, bytes], Reader | None],
        *,
        batch_size: int,
        next_file_id: int,
        limit: int | None = None,
        agent: str | None = None,
        note: Callable[[str], None] = lambda _: None,
        format_name: str | None = None,
        mapping: str | None = None,
        names: Names | None = None,
    ) -> None:
        """Prepare to read.

        Args:
            found: the transcripts.
            cursors: how far they were read before.
            choose_reader: takes the cursor to go on from (or None) and the first bytes of the file; gives a reader, or
                None when it does not know the format.
            batch_size: messages per batch.
            next_file_id: the first free file id.
            limit: stop after so many messages.
            agent: whose memory all this feeds, where the user said so.
            note: is told what the user should know of a file.
            format_name: the format the user named, if any; a file that was read as another one is read again.
            mapping: the same of the field names.
            names: what the database calls paths, and what else tells things apart.
        """
        self.files = Files(seen=len(found))
        self.exhausted = False
        self._found = found
        self._cursors = cursors
        self._choose_reader = choose_reader
        self._batch_size = batch_size
        self._next_file_id = next_file_id
        self._left = limit
        self._agent = agent
        self._note = note
        self._format = format_name
        self._names = names or Names()
        self._redact_kind = lru_cache(_KINDS)(lambda kind: redact(kind)[0])
        named = {MAP_STATE: mapping, AGENT_STATE: None if agent is None else self._names.of(agent)}
        self._named = {key: value for key, value in named.items() if value is not None}
        self._mapping = mapping
        self._batch = ReadBatch()

    def total_bytes(self) -> int | None:
        """About how many bytes there are to read; None where a stream is among the input."""
        if any(found.stat is None for found in self._found):
            return None
        return sum(self._cursors.unread_bytes(found) for found in self._found)

    def batches(self) -> Iterator[ReadBatch]:
        """Yield full batches and then what is left; `exhausted` tells afterwards whether all input was read."""
        for found in self._found:
            unchanged = self._cursors.unchanged(found)
            if unchanged is not None and self._is_as_named(unchanged):
                self.files.unchanged += 1
                # Of very many files: a path that is stored as it is needs no second look.
                if unchanged.path != storable_path(found.path) and unchanged.path != (path := self._path(found)):
                    self._batch.cursors[unchanged.file_id] = replace(unchanged, path=path)
                continue
            try:
                if found.stat is not None and found.path.lower().endswith(ZIP):
                    yield from self._zip(found)
                else:
                    with _stream(found) as stream:
                        status = found.stat and os.fstat(stream.fileno())
                        disk = _OnDisk(stream.fileno(), status.st_size) if status else None
                        yield from self._read(found, stream, status, disk)
            except (ArchiveError, UsageError) as error:
                # What is wrong with a member of a zip begins with the member's own path.
                why = error.message.removeprefix(found.path).lstrip("/: ")
                self.files.failed.append((self._names.of_path(found.path), self._names.of(why)))
            except OSError as error:
                self.files.failed.append((self._names.of_path(found.path), error.strerror or str(error)))
            if self._left == 0:
                return
        self.exhausted = True
        if not self._batch.empty:
            yield self._cut()

    def _zip(self, found: Found) -> Iterator[ReadBatch]:
        """Read the transcripts in a zip: each has a cursor, and the zip one that says that it was read to its end."""
        read = self.files.read
        disk: _OnDisk | None = None
        is_empty = True
        for name, stream in zip_members(found.path):
            is_empty = False
            member = Found(f"{found.path}/{name}", None)
            known = self._cursors.rewritten(member)
            if known and found.stat and (known.size, known.mtime_ns) == (found.stat.st_size, found.stat.st_mtime_ns):
                continue
            if disk is None and found.stat is not None:
                disk = _OnDisk(stream.fileno(), found.stat.st_size)
            yield from self._read(member, stream, found.stat, disk)
            if self._left == 0:
                return
        if is_empty:
            self._unfit(found, "no transcript in it: neither conversations.json nor *.jsonl")
            return
        self.files.read = read + 1
        status, known = found.stat, self._cursors.rewritten(found)
        if status is not None:
            cursor = Cursor(
                known.file_id if known else self._new_file_id(),
                self._path(found),
                ZIP.removeprefix("."),
                status.st_ino,
                status.st_size,
                status.st_mtime_ns,
            )
            self._batch.cursors[cursor.file_id] = cursor
            self._batch.bytes += disk.more(done=True) if disk else status.st_size

    def _cut(self) -> ReadBatch:
        batch, self._batch = self._batch, ReadBatch()
        return batch

    def _read(
        self, found: Found, stream: BinaryIO, status: os.stat_result | None, disk: _OnDisk | None
    ) -> Iterator[ReadBatch]:
        opened, reader = self._start(found, stream, status, disk)
        if opened is None or reader is None:
            return
        self.files.read += 1
        self.files.formats[reader.name] += 1
        for item in reader.read(opened.source):
            if opened.passed and item.end <= opened.passed:
                continue
            self._take(opened, item)
            if isinstance(item, Skipped):
                continue
            # A limit never ends within a line: the next run would read its first messages again and get no further.
            whole = not (isinstance(item, Message) and item.more)
            stops = whole and self._left is not None and self._left <= 0
            if self._batch.size >= self._batch_size or stops:
                self._mark(opened, done=False)
                yield self._cut()
                if stops:
                    self._left = 0
                    return
        self._mark(opened, done=True)

    def _start(
        self, found: Found, stream: BinaryIO, status: os.stat_result | None, disk: _OnDisk | None
    ) -> tuple[_Open | None, Reader | None]:
        """Find out where to begin and with which reader. `status` is of the file on disk, None for a pipe."""
        head = _head(stream)
        if not head:
            self.files.read += 1
            return None, None
        plain = found.stat is not None and stream.seekable()
        resumed = self._cursors.resumable(found, stream.fileno()) if plain else None
        interrupted = self._interrupted(found, status)
        if resumed is not None and not self._is_as_named(resumed):
            resumed = None
        if self._format is None and (why := _other_than_transcript(head, found.path)):
            self._unfit(found, why)
            return None, None
        reader = self._choose_reader(resumed, head)
        if reader is None:
            self._unknown(found, head)
            return None, None
        array = is_array(reader.name, head)
        if array or not plain:
            # Such a file is written as a whole: what stands where in it may be something else each time.
            plain = False
            resumed = interrupted if interrupted and interrupted.format == reader.name else None
        again = None if resumed else self._cursors.rewritten(found)
        known = resumed or again
        cursor = Cursor(
            known.file_id if known else self._new_file_id(),
            self._path(found),
            reader.name,
            inode=found.stat.st_ino if found.stat else None,
        )
        if again:
            self._batch.restarted.add(cursor.file_id)
        if again and again.head_hash and status is not None:
            how = "is shorter than" if status.st_size < again.position.offset else "is not any more"
            path = self._names.of_path(found.path)
            self._note(f"{path} {how} what was read of it before; it is read again from its start")
        position = resumed.position if resumed else Position()
        state = _state(resumed, again)
        begin = position
        if UNSTORABLE_STATE in state:
            # What the reader has to know of the beginning could not be stored: it is read once more, to find it out.
            begin, state = Position(), {}
        final = not (plain or array)
        if plain:
            stream.seek(begin.offset)
        else:
            stream = cast("BinaryIO", Unread(head, stream))
            # An array's reader passes over the elements that were read; their bytes mean nothing.
            skip(stream, 0 if array else begin.offset)
        source = Source(stream, begin, final=final, state=state)
        # A stream has no cursor, but its messages and rejected lines name it as their source.
        self._batch.cursors[cursor.file_id] = replace(cursor, position=position, state=self._storable(state))
        disk = None if plain else disk
        passed = position.offset + len(_LINE_END) if begin != position else 0
        return _Open(cursor, source, reader.agent, status, disk, plain, position, position, passed), reader

    def _interrupted(self, found: Found, status: os.stat_result | None) -> Cursor | None:
        """The cursor of a file, or a member of a zip, that a run was stopped in and that has not changed since."""
        cursor = self._cursors.rewritten(found)
        if cursor is None or status is None or not self._is_as_named(cursor):
            return None
        return cursor if cursor.size < 0 and cursor.mtime_ns == status.st_mtime_ns else None

    def _is_as_named(self, cursor: Cursor) -> bool:
        """Whether a file was read in the way that the user asks for now."""
        if self._format is not None and cursor.format != self._format:
            return False
        if self._agent is not None and cursor.state.get(AGENT_STATE) not in {self._agent, self._named[AGENT_STATE]}:
            return False
        return self._mapping is None or cursor.state.get(MAP_STATE) == self._mapping

    def _unknown(self, found: Found, head: bytes) -> None:
        """A file of no known format is reported; one without any complete line yet waits for the next run."""
        if found.named and found.stat is not None and not any(line.strip() for line in head.split(b"\n")[:-1]):
            self.files.read += 1
        else:
            self._unfit(found, "no known format; name it with --format (memcli formats lists them)")

    def _unfit(self, found: Found, why: str) -> None:
        """Report a file that is no transcript; of those in a folder that need not be any only the number."""
        path = self._names.of_path(found.path)
        if found.named:
            self.files.failed.append((path, self._names.of(why)))
        else:
            self.files.unknown.append(path)

    def _path(self, found: Found) -> str:
        return self._names.of_path(storable_path(found.path))

    def _storable(self, state: Mapping[str, str]) -> dict[str, str]:
        """What a reader knows of its file, as the database may hold it."""
        stored = {name: self._names.of_path(value) for name, value in state.items()}
        return stored if stored == state else stored | {UNSTORABLE_STATE: "1"}

    def _new_file_id(self) -> int:
        self._next_file_id += 1
        return self._next_file_id - 1

    def _take(self, opened: _Open, item: Item) -> None:
        if item.end > opened.position.offset and not (isinstance(item, Message) and item.more):
            opened.position = Position(item.end, item.line)
        batch = self._batch
        file_id = opened.cursor.file_id
        if isinstance(item, Message):
            batch.messages.append(Incoming(file_id, self._agent or item.agent or opened.agent, item))
            if self._left is not None:
                self._left -= 1
        elif isinstance(item, Rejected):
            batch.rejected.append((file_id, replace(item, reason=redact(item.reason)[0])))
        else:
            batch.skipped[self._redact_kind(item.kind)] += 1
            if item.tags and item.session_key is not None:
                batch.tags.append((self._agent or item.agent or opened.agent, item.session_key, item.tags))

    def _mark(self, opened: _Open, *, done: bool) -> None:
        """Put into the batch how far the file has been consumed."""
        position, counted, status = opened.position, opened.counted, opened.status
        self._batch.lines += position.line - counted.line
        if opened.disk is not None:
            self._batch.bytes += opened.disk.more()
        elif ARRAY_STATE not in opened.source.state:
            self._batch.bytes += position.offset - counted.offset
        opened.counted = position
        if status is None:
            self._batch.cursors[opened.cursor.file_id] = replace(opened.cursor, position=position)
            return
        head_hash, tail_hash = b"", b""
        if opened.plain:
            head_hash, tail_hash = proof(opened.source.stream.fileno(), position.offset)
        self._batch.cursors[opened.cursor.file_id] = replace(
            opened.cursor,
            # The size seen before reading: what is appended meanwhile makes the next run look again.
            size=status.st_size if done else -1,
            mtime_ns=status.st_mtime_ns,
            position=position,
            head_hash=head_hash,
            tail_hash=tail_hash,
            state=self._storable(opened.source.state) | self._named,
        )


def _other_than_transcript(head: bytes, path: str) -> str | None:
    """What a file is that holds memories and no transcript, and what to do with it; None for all others.

    The messages in an export look like a transcript's.
    """
    if _EXPORT.match(head):
        return f"an export of memcli, no transcript: memcli import {shlex.quote(path)}"
    if head.startswith(_SQLITE):
        return f"an SQLite database; if it is one of memcli: memcli import {shlex.quote(path)}"
    return None


def _state(resumed: Cursor | None, again: Cursor | None) -> dict[str, str]:
    """What a reader should know of a file before it begins."""
    if resumed is not None:
        return dict(resumed.state)
    if again is not None and SESSION_STATE in again.state:
        return {KEPT_SESSION_STATE: again.state[SESSION_STATE]}
    return {}


def _head(stream: BinaryIO) -> bytes:
    """The first bytes of a transcript. A pipe gives them bit by bit: a whole line of an object is enough of it."""
    head = b""
    while len(head) < SNIFFED_BYTES and (more := stream.read(SNIFFED_BYTES - len(head))):
        head += more
        if b"\n" in head and head.lstrip().startswith(b"{"):
            break
    return head


@contextmanager
def _stream(found: Found) -> Iterator[BinaryIO]:
    if found.path == STDIN and found.stat is None:
        # Not sys.stdin: the interpreter closes that at exit, and aborts when a thread still waits in it.
        with open(0, "rb", buffering=0, closefd=False) as stream:
            yield stream
        return
    with open_stream(found.path) as stream:
        yield stream
