"""`memcli backup`: a verified copy of the database, beside whoever works with it."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from memcli.config import Config
from memcli.errors import DamagedError, UsageError
from memcli.maintain.backup import BackupReport
from memcli.protocols import Progress
from memcli.store.backup import CannotCopyError, copy_to
from memcli.store.db import Store

_DRAFT_SECONDS = 24 * 3600


def backup(config: Config, target: Path, progress: Progress, *, force: bool, even_damaged: bool) -> BackupReport:
    """Copy the database to `target`, which is there whole and verified or not at all.

    Args:
        config: names the database.
        target: where to; its folder must be there.
        progress: is told how far it is.
        force: replace a file of that name.
        even_damaged: keep the copy of a damaged database as well.

    Raises:
        NoDatabaseError: there is no database.
        UsageError: the file is there already, or cannot be written.
        DamagedError: the database is damaged.
    """
    began = time.perf_counter()
    target = Path(os.path.abspath(target.expanduser()))  # noqa: PTH100 - a link is followed when it is written to
    with Store.open(config.db, any_age=True) as store:
        _check_target(config.db, target, force=force)
        done = 0

        def told(copied: int, total: int) -> None:
            nonlocal done
            if not done:
                progress.phase("copying", total)
            progress.advance(0, copied - done)
            done = copied

        with _draft(target) as draft:
            try:
                copied = copy_to(store, draft, told)
            except CannotCopyError as error:
                raise UsageError(f"cannot write {target}: {error}", "make room, or name another file") from error
            if copied.faults and not even_damaged:
                raise DamagedError(
                    f"{config.db} is damaged, so no backup was made: {copied.faults[0]}",
                    "memcli check tells what is wrong; --even-damaged makes a copy all the same",
                )
            _take_name(draft, target, force=force)
    progress.finish()
    seconds = time.perf_counter() - began
    return BackupReport(str(config.db), str(target), copied.size, copied.generation, copied.faults, seconds)


def _check_target(db: Path, target: Path, *, force: bool) -> None:
    """See that a copy may be put there.

    Raises:
        UsageError: it may not.
    """
    if target.is_dir():
        raise UsageError(f"{target} is a folder", f"name a file in it, as {target / db.name}")
    if not target.parent.is_dir():
        raise UsageError(f"there is no folder {target.parent}", "make it first, or name another file")
    if target.exists():
        if target.samefile(db):
            raise UsageError(f"{target} is the database itself", "name another file")
        if not target.is_file():
            raise UsageError(f"{target} is not a regular file", "name another file")
        if not force:
            raise UsageError(f"{target} exists already", "name another file, or replace it with --force")
    for suffix in ("-wal", "-journal"):
        log = target.with_name(target.name + suffix)
        # SQLite would take the log of the file that was there for the log of the copy.
        if log.exists() and log.stat().st_size:
            raise UsageError(f"{log} is the log of a database that is in use", "name another file")


@contextmanager
def _draft(target: Path) -> Iterator[Path]:
    """An empty file beside the target that only its owner may read; gone at the end unless it was renamed.

    Raises:
        UsageError: the folder cannot be written.
    """
    prefix = f".{target.name}.memcli-"
    try:
        for path in target.parent.glob(f"{prefix}*"):  # what a killed backup has left
            if time.time() - path.stat().st_mtime > _DRAFT_SECONDS:
                path.unlink(missing_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=prefix, dir=target.parent)
        os.close(descriptor)
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error.strerror}", "name another file") from error
    try:
        yield Path(name)
    finally:
        for suffix in ("", "-journal", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                Path(name + suffix).unlink()


def _take_name(draft: Path, target: Path, *, force: bool) -> None:
    try:
        if force:
            draft.replace(target)
        else:
            try:
                # Unlike a rename it fails where somebody has made such a file meanwhile.
                os.link(draft, target)
            except (PermissionError, NotImplementedError):
                draft.rename(target)  # a file system without links
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except FileExistsError as error:
        raise UsageError(f"{target} exists already", "name another file, or replace it with --force") from error
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error.strerror}", "name another file") from error
