"""The database that a command writes to."""

from __future__ import annotations

import ctypes
import gc
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from memcli.config import Config
from memcli.store.db import copy_database, run_lock

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_CYCLES_SOUGHT = 100_000  # allocations between two searches
_DRY_RUN, _DAY = "memcli-dry-run-", 24 * 3600
_MAPPED_BYTES, _TRIMMED_BYTES = 1 << 20, 4 << 20


@contextmanager
def writable_database(config: Config, command: str, *, dry_run: bool) -> Iterator[Path]:
    """The file to work on, its run lock held; for a dry run a private copy that is deleted afterwards."""
    _give_freed_blocks_back()
    # The many small objects of a batch are no cycles: looking for some in them after each 700 takes 8 % of a run.
    gc.set_threshold(_CYCLES_SOUGHT)
    if not dry_run:
        with run_lock(config.db, config.wait, command):
            # Whoever made such a copy had the lock, so nobody works on it any more.
            _sweep(config.db.parent, draft_prefix(config.db), 0)
            yield config.db
        return
    _sweep(Path(tempfile.gettempdir()), _DRY_RUN, _DAY)
    with tempfile.TemporaryDirectory(prefix=_DRY_RUN) as folder:
        copy = Path(folder) / "copy.db"
        copy_database(config.db, copy)
        yield copy


def draft_prefix(db: Path) -> str:
    """How the folder begins, beside a database, in which it is put together anew."""
    return f".{db.name}.memcli-"


def _sweep(folder: Path, prefix: str, age: float) -> None:
    """Remove what a killed run has left: folders of ours of that name that nobody has written to for `age` seconds.

    They hold a whole copy of a database, with all that `forget` takes out of it.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(prefix) and entry.is_dir(follow_symlinks=False):
                found = entry.stat(follow_symlinks=False)
                if found.st_uid == os.getuid() and (not age or time.time() - found.st_mtime >= age):
                    shutil.rmtree(entry.path, ignore_errors=True)


def _give_freed_blocks_back() -> None:
    """Fix the sizes from which glibc maps blocks apart and trims its heap (mallopt(3)); other systems do not need it.

    glibc raises both, up to 32 MB and twice that, whenever a mapped block is freed. From then on segments and batches
    share one heap, whose holes stay: 50,000 messages peaked at 250 MB instead of 230 MB.
    """
    if "CS_GNU_LIBC_VERSION" in os.confstr_names:
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _TRIMMED_BYTES)
