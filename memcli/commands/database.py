"""The database that a command writes to."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from memcli.config import Config
from memcli.store.db import copy_database, run_lock


@contextmanager
def writable_database(config: Config, command: str, *, dry_run: bool) -> Iterator[Path]:
    """The file to work on, its run lock held; for a dry run a private copy that is deleted afterwards."""
    if not dry_run:
        with run_lock(config.db, config.wait, command):
            yield config.db
        return
    with tempfile.TemporaryDirectory(prefix="memcli-dry-run-") as folder:
        copy = Path(folder) / "copy.db"
        copy_database(config.db, copy)
        yield copy
