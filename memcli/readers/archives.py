"""Compressed transcripts and export zips as streams. Nothing is ever extracted to disk; what looks hostile is refused."""

from __future__ import annotations

import gzip
import importlib
import io
import lzma
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from memcli.errors import InputRejectedError, UsageError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

COMPRESSED = (".gz", ".zst")
ARCHIVES = (".zip",)

# Text of any kind stays below 50:1; what swells by more, and to more than a log would be, is made to harm.
MAX_RATIO = 200
BOMB_BYTES = 100 << 20

_WANTED = re.compile(r"(?:conversations(?:-\d+)?\.json|(?!\._).*\.jsonl)", re.DOTALL)
_DRIVE = re.compile(r"[A-Za-z]:")
_ENCRYPTED = 0x1
# What the standard library's decompressors raise for damaged data, some of it beyond their documentation.
_DAMAGE = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, gzip.BadGzipFile, NotImplementedError, ValueError)


class ArchiveError(InputRejectedError):
    """A compressed file or an archive that is damaged or refused."""


class DamagedArchiveError(ArchiveError):
    """Compressed data that ends early or does not decompress; what came before it was read."""


class RefusedArchiveError(ArchiveError):
    """An archive that is built to harm: it is not read, or not any further."""


def open_stream(path: str) -> BinaryIO:
    """Open a file for reading from its start; `.gz` and `.zst` (by their names) are decompressed on the way.

    A stream that decompresses cannot seek, and `read` may give less than was asked for before the end.

    Raises:
        OSError: the file cannot be opened.
        UsageError: the file is `.zst` and the package for it is not installed.
        DamagedArchiveError: by `read`, behind everything that could be decompressed.
        RefusedArchiveError: by `read`, when the file swells to a bomb.
    """
    suffix = path.lower().rpartition(".")[2]
    decompressed = {"gz": _gzip, "zst": _zstd}.get(suffix)
    if decompressed is None:
        return Path(path).open("rb")
    raw = _Counted(path)
    try:
        read = decompressed(raw)
    except BaseException:
        raw.close()
        raise
    return _stream(path, read, lambda: raw.count, raw.close)


def zip_members(path: str) -> Iterator[tuple[str, BinaryIO]]:
    """Yield the transcripts in a zip as (name, stream), in the order of their names: each until the next is asked for.

    These are `conversations.json`, its shards `conversations-NNN.json` and `*.jsonl`, in any folder.

    Raises:
        OSError: the file cannot be opened.
        DamagedArchiveError: it is no zip; or by a stream's `read`: a member is damaged or of another size than declared.
        RefusedArchiveError: a member is encrypted, is a link, has a path that leads out of the archive, or is a bomb.
            All members are checked before the first one is yielded.
    """
    with Path(path).open("rb") as raw:
        try:
            archive = zipfile.ZipFile(raw)
        except _DAMAGE as error:
            raise _damaged(path, error) from error
        with archive:
            members = archive.infolist()
            wanted = sorted((member for member in members if _is_wanted(member)), key=lambda member: member.filename)
            _check(path, members, wanted)
            for member in wanted:
                name = f"{path}/{member.filename}"
                try:
                    opened = archive.open(member)
                except (*_DAMAGE, RuntimeError) as error:
                    raise _damaged(name, error) from error
                with opened:
                    # zipfile gives no byte beyond the declared size, and compares the checksum there.
                    yield member.filename, _stream(name, opened.read1, lambda size=member.compress_size: size)


def _check(path: str, members: list[zipfile.ZipInfo], wanted: list[zipfile.ZipInfo]) -> None:
    for member in members:
        parts = member.filename.replace("\\", "/").split("/")
        if ".." in parts or not parts[0] or _DRIVE.match(parts[0]):
            raise _refused(path, f"the path {member.filename!r} leads out of the archive")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise _refused(path, f"{member.filename!r} is a link")
    for member in wanted:
        if member.flag_bits & _ENCRYPTED:
            raise _refused(path, f"{member.filename!r} is encrypted", "unpack it and name the unpacked file")
    # Members may share their compressed bytes: together they must not swell either.
    declared = sum(member.file_size for member in wanted)
    packed = min(sum(member.compress_size for member in wanted), Path(path).stat().st_size)
    if _is_bomb(declared, packed) or any(_is_bomb(member.file_size, member.compress_size) for member in wanted):
        raise _refused(path, f"it would swell to {declared >> 20} MiB, more than {MAX_RATIO} times its size")


def _is_wanted(member: zipfile.ZipInfo) -> bool:
    name = member.filename.replace("\\", "/").rpartition("/")[2]
    return not member.is_dir() and _WANTED.fullmatch(name) is not None


def _is_bomb(size: int, packed: int) -> bool:
    return size > BOMB_BYTES and size > MAX_RATIO * packed


class _Counted(io.FileIO):
    """A file that counts what was read of it."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(-1 if size is None else size) or b""
        self.count += len(found)
        return found

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        size = super().readinto(buffer) or 0
        self.count += size
        return size


class _Decompressed(io.RawIOBase):
    """The decompressed bytes, with every fault under one name; `packed` gives the compressed bytes they came from."""

    def __init__(
        self, name: str, read: Callable[[int], bytes], packed: Callable[[], int], close: Callable[[], None] | None
    ) -> None:
        super().__init__()
        self._name = name
        self._read = read
        self._packed = packed
        self._close = close
        self._size = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:
            return self.readall()
        try:
            found = self._read(size) if size else b""
        except OSError:
            raise
        except Exception as error:
            raise _damaged(self._name, error) from error
        self._size += len(found)
        if _is_bomb(self._size, self._packed()):
            raise _refused(self._name, f"it swells to more than {MAX_RATIO} times its size")
        return found

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        found = self.read(len(view))
        view[: len(found)] = found
        return len(found)

    def close(self) -> None:
        if not self.closed and self._close is not None:
            self._close()
        super().close()


def _stream(
    name: str, read: Callable[[int], bytes], packed: Callable[[], int], close: Callable[[], None] | None = None
) -> BinaryIO:
    return cast("BinaryIO", _Decompressed(name, read, packed, close))


def _gzip(raw: _Counted) -> Callable[[int], bytes]:
    # read1 gives what one step decompresses: `read` would lose it to the error behind it.
    return gzip.GzipFile(fileobj=raw, mode="rb").read1


def _zstd(raw: _Counted) -> Callable[[int], bytes]:
    try:
        zstandard = importlib.import_module("zstandard")
    except ImportError:
        raise UsageError(
            f"{raw.name}: reading .zst files needs a package that is not installed",
            'install it with: pip install "memcli[zstd]"',
        ) from None
    ...


def _damaged(name: str, error: Exception) -> DamagedArchiveError:
    return DamagedArchiveError(f"{name}: damaged: {str(error) or type(error).__name__}", "")


def _refused(name: str, why: str, hint: str = "") -> RefusedArchiveError:
    return RefusedArchiveError(f"{name}: refused: {why}", hint)
