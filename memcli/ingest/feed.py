"""Reading transcripts from their cursors on, and cutting what the readers yield into batches."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import BinaryIO, cast

from memcli.ingest.inputs import STDIN, CursorIndex, Found, proof, storable_path
from memcli.model import Cursor, Item, Message, Position, Rejected, Skipped
from memcli.protocols import Reader, Source
from memcli.readers import MAX_LINE_BYTES

SNIFFED_BYTES = 1 << 18
# Where a cursor keeps the field names that its file was read with.
MAP_STATE = "map"


@dataclass(slots=True)
class Files:
    """What happened to the files of a run. `failed` holds (path, why)."""

    seen: int = 0
    read: int = 0
    unchanged: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)


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
class _Open:
    """The transcript that is being read."""

    cursor: Cursor
    source: Source
    agent: str
    status: os.stat_result | None
    position: Position
    counted: Position


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
                if unchanged.path != storable_path(found.path):
                    self._batch.cursors[unchanged.file_id] = replace(unchanged, path=storable_path(found.path))
                continue
            try:
                with _stream(found) as stream:
                    yield from self._read(found, stream)
            except OSError as error:
                self.files.failed.append((found.path, error.strerror or str(error)))
            if self._left == 0:
                return
        self.exhausted = True
        if not self._batch.empty:
            yield self._cut()

    def _cut(self) -> ReadBatch:
        batch, self._batch = self._batch, ReadBatch()
        return batch

    def _read(self, found: Found, stream: BinaryIO) -> Iterator[ReadBatch]:
        opened, reader = self._start(found, stream)
        if opened is None or reader is None:
            return
        self.files.read += 1
        for item in reader.read(opened.source):
            self._take(opened, item)
            if isinstance(item, Skipped):
                continue
            if self._batch.size >= self._batch_size or self._left == 0:
                self._mark(opened, done=False)
                yield self._cut()
                if self._left == 0:
                    return
        self._mark(opened, done=True)

    def _start(self, found: Found, stream: BinaryIO) -> tuple[_Open | None, Reader | None]:
        """Find out where to begin and with which reader."""
        status = None if found.stat is None else os.fstat(stream.fileno())
        head = _head(stream)
        if not head:
            self.files.read += 1
            return None, None
        resumed = None if status is None else self._cursors.resumable(found, stream.fileno())
        if resumed is not None and not self._is_as_named(resumed):
            resumed = None
        reader = self._choose_reader(resumed, head)
        if reader is None:
            self._unknown(found, head)
            return None, None
        again = None if resumed else self._cursors.rewritten(found)
        known = resumed or again
        cursor = Cursor(
            known.file_id if known else self._new_file_id(),
            storable_path(found.path),
            reader.name,
            inode=status.st_ino if status else None,
        )
        if again:
            self._batch.restarted.add(cursor.file_id)
        if again and status is not None:
            how = "is shorter than" if status.st_size < again.position.offset else "is not any more"
            self._note(f"{found.path} {how} what was read of it before; it is read again from its start")
        position = resumed.position if resumed else Position()
        if status is None:
            stream = cast("BinaryIO", _Unread(head, stream))
        else:
            stream.seek(position.offset)
        source = Source(stream, position, final=status is None, state=dict(resumed.state) if resumed else {})
        # A stream has no cursor, but its messages and rejected lines name it as their source.
        self._batch.cursors[cursor.file_id] = replace(cursor, position=position, state=dict(source.state))
        return _Open(cursor, source, reader.agent, status, position, position), reader

    def _is_as_named(self, cursor: Cursor) -> bool:
        """Whether a file was read in the way that the user asks for now."""
        if self._format is not None and cursor.format != self._format:
            return False
        return self._mapping is None or cursor.state.get(MAP_STATE) == self._mapping

    def _unknown(self, found: Found, head: bytes) -> None:
        """A file of no known format is reported; one without any complete line yet waits for the next run."""
        if found.stat is not None and not any(line.strip() for line in head.split(b"\n")[:-1]):
            self.files.read += 1
        else:
            self.files.failed.append((found.path, "no known format; name it with --format"))

    def _new_file_id(self) -> int:
        self._next_file_id += 1
        return self._next_file_id - 1

    def _take(self, opened: _Open, item: Item) -> None:
        if item.end > opened.position.offset:
            opened.position = Position(item.end, item.line)
        batch = self._batch
        file_id = opened.cursor.file_id
        if isinstance(item, Message):
            batch.messages.append(Incoming(file_id, self._agent or item.agent or opened.agent, item))
            if self._left is not None:
                self._left -= 1
        elif isinstance(item, Rejected):
            batch.rejected.append((file_id, item))
        else:
            batch.skipped[item.kind] += 1
            if item.tags and item.session_key is not None:
                batch.tags.append((self._agent or item.agent or opened.agent, item.session_key, item.tags))

    def _mark(self, opened: _Open, *, done: bool) -> None:
        """Put into the batch how far the file has been consumed."""
        position, counted, status = opened.position, opened.counted, opened.status
        self._batch.lines += position.line - counted.line
        self._batch.bytes += position.offset - counted.offset
        opened.counted = position
        if status is None:
            self._batch.cursors[opened.cursor.file_id] = replace(opened.cursor, position=position)
            return
        head_hash, tail_hash = proof(opened.source.stream.fileno(), position.offset)
        self._batch.cursors[opened.cursor.file_id] = replace(
            opened.cursor,
            # The size seen before reading: what is appended meanwhile makes the next run look again.
            size=status.st_size if done else -1,
            mtime_ns=status.st_mtime_ns,
            position=position,
            head_hash=head_hash,
            tail_hash=tail_hash,
            state=opened.source.state | ({MAP_STATE: self._mapping} if self._mapping is not None else {}),
        )


def _head(stream: BinaryIO) -> bytes:
    """The first bytes of a transcript, up to the end of a line where there is one: formats are told by whole lines."""
    head = stream.read(SNIFFED_BYTES)
    while head and b"\n" not in head and len(head) < MAX_LINE_BYTES and (more := stream.read(SNIFFED_BYTES)):
        head += more
    return head


class _Unread:
    """A stream that cannot seek, with what was read from it to look at put back in front."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self._head = head
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if not self._head:
            return self._stream.read(size)
        taken = self._head if size < 0 else self._head[:size]
        self._head = self._head[len(taken) :]
        return taken + self._stream.read() if size < 0 else taken


@contextmanager
def _stream(found: Found) -> Iterator[BinaryIO]:
    if found.path == STDIN and found.stat is None:
        # Not sys.stdin: the interpreter closes that at exit, and aborts when a thread still waits in it.
        with open(0, "rb", buffering=0, closefd=False) as stream:
            yield stream
        return
    with open(found.path, "rb") as stream:  # noqa: PTH123 - a name that is no UTF-8 stays str
        yield stream
