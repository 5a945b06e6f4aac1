"""`memcli stats`: the figures of a database, and a file of them for monitoring."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from memcli.config import Config
from memcli.errors import UsageError
from memcli.stats import BatchStats, Stats, collect, collect_batches
from memcli.store.db import Store

# Monitoring runs as another user; the database itself is for its owner only.
_MODE = 0o644


def stats(config: Config, agent: str | None) -> Stats:
    """The figures of `agent`, or of the whole database."""
    with Store.open(config.db) as store:
        return collect(store, agent)


def batches(config: Config) -> BatchStats:
    """The recent batches."""
    with Store.open(config.db) as store:
        return collect_batches(store)


def write_whole(path: Path, text: str) -> None:
    """Put `text` into the place of the file `path` at once: who reads it never sees half of it.

    Raises:
        UsageError: the file cannot be written, or is no regular file.
    """
    target = path.resolve()
    if target.exists() and not target.is_file():
        raise UsageError(f"{path} is not a regular file", "name a file, or - for standard output")
    try:
        _replace(target, text)
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {error.strerror}", "name a file in a folder you can write to"
        ) from error


def _replace(target: Path, text: str) -> None:
    # node_exporter reads every *.prom of the folder: the name of the draft must not end like that.
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            os.fchmod(descriptor, _MODE)
            out.write(text)
        draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
