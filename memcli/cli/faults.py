"""What the machine could not give: memory, room on the disk, a file. It is no bug, and the user can mend it."""

from __future__ import annotations

import errno
import os
import resource
import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress

from memcli import workers
from memcli.errors import DamagedError, MemcliError, UsageError

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FILE = {errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ENODEV}
# How the libraries say it that have no MemoryError: onnxruntime (C++), the loader of shared objects, thread pools.
_NO_MEMORY = (
    "bad_alloc",
    "bad allocation",
    "failed to allocate memory",
    "cannot allocate memory",
    "can't start new thread",
    "failed to map segment",
)
_LONGEST_SHOWN = 500
_LOOP = "Symlink loop from "
_UNLIMITED = resource.RLIM_INFINITY
_LEAST = 200_000_000  # of address space; below that, OpenBLAS ends the process while numpy is imported


def meant(error: BaseException) -> MemcliError | None:
    """The error of the machine that is behind `error`, as the user is to be told it; None where there is none.

    What lacked memory may have been taken for something else on the way up: a damaged model, for one.
    """
    if any(map(_lacks_memory, _causes(error))):
        traceback.clear_frames(error.__traceback__)  # what they hold is needed to say so
        return UsageError(f"out of memory{_limit()}; what was committed is kept", _SMALLER)
    if isinstance(error, RuntimeError) and str(error).startswith(_LOOP):  # what pathlib makes of it before Python 3.13
        return UsageError(str(error), _ANOTHER)
    return _of_system(error) if isinstance(error, OSError) else None


def of_database(error: Exception) -> DamagedError | None:
    """The damage of a database that was read, where there is any: nobody knows what a damaged row can lead to."""
    if "memcli.store.db" not in sys.modules:
        return None
    with suppress(Exception):  # the fault that is to be told must not be hidden by a second one
        from memcli.store.check_fault import damage_of_read  # noqa: PLC0415 - only after a fault

        return damage_of_read(error)
    return None


def _of_system(error: OSError) -> UsageError | None:
    where = "the output" if error.filename is None else _shown(error.filename)
    if error.errno in _DISK:
        return UsageError(f"cannot write {where}: {error.strerror}", "make room on the disk, then run it again")
    if isinstance(error.filename, str | bytes):
        return UsageError(f"cannot use {where}: {error.strerror}", _ANOTHER)
    if error.errno in _FILE:
        return UsageError(f"cannot read or write {where}: {error.strerror}", "check the disk and the permissions")
    return None


def _shown(name: object) -> str:
    path = os.fsdecode(name) if isinstance(name, str | bytes) else str(name)
    return path if len(path) <= _LONGEST_SHOWN else f"{path[: _LONGEST_SHOWN // 2]}…{path[-_LONGEST_SHOWN // 2 :]}"


_ANOTHER = "check the path and the permissions, or name another"


def check_room() -> None:
    """See that the process may use as much memory as it takes to start: numpy would end it without a word to us.

    Where that is little, all pools have one thread.

    Raises:
        UsageError: it may not.
    """
    if _allowed() != _UNLIMITED and _allowed() < _LEAST:
        raise UsageError(f"out of memory{_limit()}", f"memcli needs {_LEAST / 1e6:,.0f} MB and more")
    if workers.is_tight():
        workers.use(1)


_SMALLER = "run it again with more memory, or with a smaller --batch-size or --max-memory: it goes on from there"


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    known: set[int] = set()
    while seen is not None and id(seen) not in known:
        known.add(id(seen))
        yield seen
        seen = seen.__cause__ or seen.__context__


def _lacks_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    if isinstance(error, MemcliError):
        return False  # it says what a text of the user's or a provider's says
    return any(words in str(error).lower() for words in _NO_MEMORY)


def _limit() -> str:
    """The limit that the process was given, if there is one."""
    return "" if _allowed() == _UNLIMITED else f": the process may use {_allowed() / 1e6:,.0f} MB (ulimit -v)"


def _allowed() -> int:
    return resource.getrlimit(resource.RLIMIT_AS)[0]
