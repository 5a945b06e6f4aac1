"""Compressed transcripts and export zips as streams. Nothing is extracted to disk; what looks hostile is refused."""

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
from functools import partial
from pathlib import Path
from types import ModuleType
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
# The list of a zip's members is read at once, and takes ten times its size: this much names 80,000 files or more.
_LARGEST_DIRECTORY = 8 << 20
_SKIPPED_BYTES = 1 << 20
# Three bytes of zstd can stand for 128 KB: this much becomes 11 MB at most.
_ZSTD_CHUNK_BYTES = 256
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

    A stream that decompresses cannot seek, and `read` may give less than was asked for before the end. Its `fileno` is
    that of the compressed file, also of a member of a zip.

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
    return cast("BinaryIO", _Decompressed(path, read, lambda: raw.count, raw, owns=True))


def skip(stream: BinaryIO, size: int) -> int:
    """Read over up to `size` bytes of a stream that cannot seek; give how many there were."""
    left = size
    while left and (found := stream.read(min(left, _SKIPPED_BYTES))):
        left -= len(found)
    return size - left


def zip_members(path: str) -> Iterator[tuple[str, BinaryIO]]:
    """Yield the transcripts in a zip as (name, stream), in the order of their names: each until the next is asked for.

    These are `conversations.json`, its shards `conversations-NNN.json` and `*.jsonl`, in any folder.

    Raises:
        OSError: the file cannot be opened.
        DamagedArchiveError: it is no zip; by a stream's `read`: a member is damaged or of another size than declared.
        RefusedArchiveError: a member is encrypted, is a link, has a path that leads out of the archive, or is a bomb.
            The list of members may be one, too. All members are checked before the first one is yielded.
    """
    with _Zip(io.FileIO(path)) as raw:
        try:
            archive = zipfile.ZipFile(raw)
        except _TooLargeError as error:
            raise _refused(path, f"the list of its members is larger than {_LARGEST_DIRECTORY >> 20} MiB") from error
        except _DAMAGE as error:
            raise _damaged(path, error) from error
        with archive:
            members = archive.infolist()
            wanted = sorted((member for member in members if _is_wanted(member)), key=lambda member: member.filename)
            _check(path, members, wanted)
            for member in wanted:
                name = f"{path}/{member.filename}"
                try:
                    opened = cast("zipfile.ZipExtFile", archive.open(member))
                except (*_DAMAGE, RuntimeError) as error:
                    raise _damaged(name, error) from error
                with opened:
                    # zipfile gives no byte beyond the declared size, and compares the checksum there.
                    stream = _Decompressed(name, opened.read1, partial(int, member.compress_size), raw, owns=False)
                    yield member.filename, cast("BinaryIO", stream)


def is_chatgpt_export(path: str) -> bool:
    """Whether a zip lists `conversations.json` or a shard of it; only its table of contents is read.

    Raises:
        OSError: the file cannot be opened.
        DamagedArchiveError: it is no zip.
    """
    with Path(path).open("rb") as raw:
        try:
            with zipfile.ZipFile(raw) as archive:
                names = [member.filename.rpartition("/")[2] for member in archive.infolist() if _is_wanted(member)]
        except _DAMAGE as error:
            raise _damaged(path, error) from error
    return any(name.startswith("conversations") for name in names)


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


class _TooLargeError(Exception):
    """More was to be read at once than is sensible."""


class _Zip(io.BufferedReader):
    """A zip file of which only so much can be read at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = _LARGEST_DIRECTORY + 1 if size is None or size < 0 else size
        if size is not None and size > _LARGEST_DIRECTORY:
            raise _TooLargeError
        found = super().read(wanted)
        if len(found) > _LARGEST_DIRECTORY:
            raise _TooLargeError
        return found


class _Counted(io.FileIO):
    """A file that counts what was read of it."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(-1 if size is None else size) or b""
        self.count += len(found)
        return found


class _Decompressed(io.RawIOBase):
    """Decompressed bytes, with every fault under one name; `packed` gives how many compressed bytes they came from.

    `file` is the one on disk; with `owns` it is closed with this stream.
    """

    def __init__(
        self,
        name: str,
        read: Callable[[int], bytes],
        packed: Callable[[], int],
        file: io.FileIO | BinaryIO,
        *,
        owns: bool,
    ) -> None:
        super().__init__()
        self._name = name
        self._read = read
        self._packed = packed
        self._file = file
        self._owns = owns
        self._size = 0

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._file.fileno()

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:
            return self.readall()
        try:
            found = self._read(size) if size else b""
        except _DAMAGE as error:
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
        if self._owns:
            self._file.close()
        super().close()


def _gzip(raw: _Counted) -> Callable[[int], bytes]:
    # read1 gives what one step decompresses: `read` would lose it to the error behind it.
    return gzip.GzipFile(fileobj=raw, mode="rb").read1


def _zstd(raw: _Counted) -> Callable[[int], bytes]:
    try:
        zstandard = importlib.import_module("zstandard")
    except ImportError:
        raise UsageError(
            f"{raw.name}: a package is missing that reads .zst files", 'install it with: pip install "memcli[zstd]"'
        ) from None
    chunks = _zstd_chunks(raw, zstandard)
    left = memoryview(b"")

    def read(size: int) -> bytes:
        nonlocal left
        left = left or memoryview(next(chunks, b""))
        taken, left = left[:size], left[size:]
        return taken.tobytes()

    return read


def _zstd_chunks(raw: _Counted, zstandard: ModuleType) -> Iterator[bytes]:
    """Decompress frame by frame; the package's own stream takes a file that was cut off for a whole one."""
    decompressor = zstandard.ZstdDecompressor()
    packed = raw.read(_ZSTD_CHUNK_BYTES)
    while packed:
        frame = decompressor.decompressobj()
        while not frame.eof:
            if not packed:
                raise EOFError("the compressed data ends early")
            try:
                found = frame.decompress(packed)
            except zstandard.ZstdError as error:
                raise ValueError(str(error)) from error
            if found:
                yield found
            packed = frame.unused_data if frame.eof else raw.read(_ZSTD_CHUNK_BYTES)
        packed = packed or raw.read(_ZSTD_CHUNK_BYTES)


def _damaged(name: str, error: Exception) -> DamagedArchiveError:
    return DamagedArchiveError(
        f"{name}: damaged: {str(error) or type(error).__name__}", "what could be read of it was taken"
    )


def _refused(
    name: str, why: str, hint: str = "unpack it where that can do no harm, and name the transcripts"
) -> RefusedArchiveError:
    return RefusedArchiveError(f"{name}: refused: {why}", hint)
