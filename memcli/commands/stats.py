"""`memcli stats`: the figures of a database, and a file of them for monitoring."""

from __future__ import annotations

from pathlib import Path

from memcli.config import Config
from memcli.errors import UsageError
from memcli.files import whole_file
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
    try:
        with whole_file(path, _MODE) as file:
            file.write(text.encode())
    except OSError as error:
        hint = "name a file in a folder you can write to, or - for standard output"
        raise UsageError(f"cannot write {path}: {error.strerror}", hint) from error
