"""Small files that a user names, never more of one than it can sensibly hold; and what only its owner may read."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

MOST_BYTES = 64 << 20


def read_small(path: Path, *, pipes: bool = False, most: int = MOST_BYTES) -> str:
    """The text of a file, UTF-8 with or without a byte order mark. Devices never end, and a pipe may never begin.

    Args:
        path: the file.
        pipes: whether a pipe will do, as the shell's <(...) makes one.
        most: the most bytes that are read.

    Raises:
        OSError: it cannot be read, is no file, or is larger than `most`.
        UnicodeDecodeError: it is not UTF-8.
    """
    # Without O_NONBLOCK the opening of a pipe waits for its other end.
    flags = os.O_RDONLY | os.O_CLOEXEC | (0 if pipes else os.O_NONBLOCK)
    with os.fdopen(os.open(path, flags), "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not (stat.S_ISREG(mode) or (pipes and stat.S_ISFIFO(mode))):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return _text(file, str(path), most)


def read_stdin(most: int = MOST_BYTES) -> str:
    """The text of standard input. Raises what `read_small` raises."""
    return _text(sys.stdin.buffer, "-", most)


def _text(file: BinaryIO, name: str, most: int) -> str:
    raw = file.read(most + 1)
    if len(raw) > most:
        raise OSError(errno.EFBIG, f"larger than {most >> 20} MiB", name)
    return raw.decode("utf-8-sig")


def toml_of(text: str) -> dict[str, Any]:
    """A TOML document as tables.

    Raises:
        ValueError: it is none, nests too deeply, or holds a number or a date that Python cannot.
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def make_private_folder(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for its owner only: whatever the umask, from the start.

    Raises:
        OSError: it cannot be made.
    """
    if not folder.is_dir():
        make_private_folder(folder.parent)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))


def make_private_file(path: Path) -> None:
    """Make an empty file, or let the one there be, for its owner only: what writes to it then need not think of it.

    Raises:
        OSError: it cannot be made or written.
    """
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))


def write_private(path: Path, text: str) -> None:
    """Write a text to a file that only its owner may read; a file that is there keeps its mode.

    Raises:
        OSError: it cannot be written.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        out.write(text)


@contextlib.contextmanager
def whole_file(path: Path, mode: int = 0o600) -> Iterator[BinaryIO]:
    """A file that takes its name once it is written to its end: who reads it never sees half of it.

    A link is followed, and what is no regular file is left alone: a device that is replaced by a file is lost.

    Args:
        path: the file, there or not.
        mode: its permissions, whatever the umask.

    Raises:
        OSError: it cannot be written, or is no regular file.
    """
    target = path.expanduser().resolve()
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    # Programs that watch a folder for names with some ending do not take the draft for one of theirs.
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            yield file
            file.flush()
            os.fsync(descriptor)
        draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
