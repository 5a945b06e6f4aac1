"""Finding transcripts: folders walked, links and pipes told apart, each file once; and which cursor is whose."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from memcli.errors import UsageError
from memcli.model import Cursor
from memcli.readers import SUFFIXES
from memcli.readers.archives import COMPRESSED
from memcli.redact.names import Names

STDIN = "-"
ZIP = ".zip"
# Lines may be appended to these; the other formats are written as a whole.
_LINES = (".jsonl", ".ndjson")
_WALKED = (*SUFFIXES, *(suffix + packed for suffix in SUFFIXES if suffix != ZIP for packed in COMPRESSED))
_PACKED = (*COMPRESSED, ZIP)
HASHED_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Found:
    """A transcript to read. `stat` is None for a stream: standard input, a pipe that was named, a member of a zip.

    `named` says that the user named this file or that its name is that of a transcript: then it should be one. A
    `.json` file in a folder may be anything.
    """

    path: str
    stat: os.stat_result | None
    named: bool = True


def discover(paths: Sequence[str]) -> tuple[list[Found], list[tuple[str, str]]]:
    """List the transcripts under `paths` in a fixed order: folders are walked, `-` is standard input.

    One file that is reachable by several names (hard or symbolic links, of it or of a folder above) is listed once.

    Returns:
        The transcripts, and what could not be looked at as (path, why).

    Raises:
        UsageError: a path that was named does not exist.
    """
    found: list[Found] = []
    failed: list[tuple[str, str]] = []
    taken: set[tuple[int, int]] = set()
    for named in paths:
        if named == STDIN:
            found.append(Found(STDIN, None))
            continue
        path = os.path.abspath(os.path.expanduser(named))  # noqa: PTH100, PTH111 - names that are no UTF-8 stay str
        if not os.path.lexists(path):
            raise UsageError(f"no such file or folder: {named}", "name transcripts, folders of them, or - for stdin")
        for candidate in _walk(path, failed) if os.path.isdir(path) else (path,):  # noqa: PTH112
            try:
                status = os.stat(candidate)  # noqa: PTH116 - as above
            except OSError as error:
                failed.append((candidate, error.strerror or str(error)))
                continue
            if stat.S_ISFIFO(status.st_mode) and candidate == path:
                found.append(Found(candidate, None))
            elif not stat.S_ISREG(status.st_mode):
                failed.append((candidate, "not a regular file"))
            elif (status.st_dev, status.st_ino) not in taken:
                taken.add((status.st_dev, status.st_ino))
                found.append(Found(candidate, status, candidate == path or candidate.lower().endswith(_LINES)))
    return found, failed


def _walk(folder: str, failed: list[tuple[str, str]]) -> Iterator[str]:
    def unreadable(error: OSError) -> None:
        failed.append((str(error.filename), error.strerror or str(error)))

    # Links to folders are followed as those to files are; each folder is entered once, wherever its links lead.
    entered: set[tuple[int, int] | None] = {_identity(folder)}
    for parent, folders, names in os.walk(folder, onerror=unreadable, followlinks=True):
        folders.sort()
        for name in tuple(folders):
            identity = _identity(os.path.join(parent, name))  # noqa: PTH118 - as above
            if identity is not None and identity in entered:
                folders.remove(name)
            entered.add(identity)
        for name in sorted(names):
            if name.lower().endswith(_WALKED):
                yield os.path.join(parent, name)  # noqa: PTH118 - as above


def _identity(folder: str) -> tuple[int, int] | None:
    """Device and inode of a folder; None where it cannot be looked at, which the walk reports."""
    try:
        status = os.stat(folder)  # noqa: PTH116 - as above
    except OSError:
        return None
    return status.st_dev, status.st_ino


def storable_path(path: str) -> str:
    """`path` as the database can hold it: bytes of a file name that are no UTF-8 become U+FFFD."""
    return os.fsencode(path).decode("utf-8", "replace")


class CursorIndex:
    """Finds the cursor that belongs to a file, whatever happened to the file's name since."""

    def __init__(self, cursors: Sequence[Cursor], found: Sequence[Found], names: Names | None = None) -> None:
        self._names = names or Names()
        self._present = {each.stat.st_ino for each in found if each.stat is not None}
        self._by_path: dict[str, list[Cursor]] = {}
        self._by_inode: dict[int, list[Cursor]] = {}
        for cursor in cursors:
            self._by_path.setdefault(cursor.path, []).append(cursor)
            if cursor.inode is not None:
                self._by_inode.setdefault(cursor.inode, []).append(cursor)

    def candidates(self, found: Found) -> list[Cursor]:
        """Cursors that may be this file's, likeliest first: same name and inode, same name, same inode."""
        named = self._named(found)
        if found.stat is None:
            return named
        inode = found.stat.st_ino
        moved = [cursor for cursor in self._by_inode.get(inode, []) if cursor not in named]
        return sorted(named, key=lambda cursor: cursor.inode != inode) + moved

    def _named(self, found: Found) -> list[Cursor]:
        # Most paths hold no credential, and there may be very many: as it is comes first.
        path = storable_path(found.path)
        return self._by_path.get(path) or self._by_path.get(self._names.of_path(path), [])

    def unchanged(self, found: Found) -> Cursor | None:
        """The cursor of a file that one `stat` shows to have been read to its end."""
        if found.stat is None:
            return None
        shown = (found.stat.st_ino, found.stat.st_size, found.stat.st_mtime_ns)
        for cursor in self.candidates(found):
            if (cursor.inode, cursor.size, cursor.mtime_ns) == shown:
                return cursor
        return None

    def resumable(self, found: Found, descriptor: int) -> Cursor | None:
        """The cursor whose read part still stands at the start of the open file, so that reading can go on."""
        for cursor in self.candidates(found):
            if cursor.position.offset and proof(descriptor, cursor.position.offset) == (
                cursor.head_hash,
                cursor.tail_hash,
            ):
                return cursor
        return None

    def rewritten(self, found: Found) -> Cursor | None:
        """The cursor of a file that was truncated, rewritten in place, or replaced by another version of itself.

        A new file under an old name (rotation) gets a cursor of its own where the old one's file is still among those
        found, under a new name. So does a new file that was given the inode of a deleted one.
        """
        named = self._named(found)
        if found.stat is None:
            return next(iter(named), None)
        inode = found.stat.st_ino
        same = (cursor for cursor in named if cursor.inode == inode or cursor.inode not in self._present)
        return next(iter(sorted(same, key=lambda cursor: cursor.inode != inode)), None)

    def unread_bytes(self, found: Found) -> int:
        """How much there probably is to read, as far as sizes and cursors tell."""
        if found.stat is None or self.unchanged(found):
            return 0
        # Positions in what was packed are not those of the file.
        known = [] if found.path.lower().endswith(_PACKED) else self.candidates(found)
        return max(0, found.stat.st_size - (known[0].position.offset if known else 0))


def proof(descriptor: int, offset: int) -> tuple[bytes, bytes]:
    """Hashes of the first 4 KB and of the last 4 KB before `offset` of an open file."""
    size = min(HASHED_BYTES, offset)
    head = os.pread(descriptor, size, 0)
    tail = head if offset <= HASHED_BYTES else os.pread(descriptor, size, offset - size)
    return _hash(head), _hash(tail)


def _hash(raw: bytes) -> bytes:
    return hashlib.blake2b(raw, digest_size=16).digest()
