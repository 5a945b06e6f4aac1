"""A copy of a database as of one commit, made while others read and write it (SQLite's online backup)."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from memcli.store.db import Store, code_of

_PAGES_AT_ONCE = 512
_FAULTS = 20


@dataclass(frozen=True, slots=True)
class Copied:
    """What was copied, and what SQLite finds wrong with it."""

    pages: int
    size: int
    generation: int
    faults: tuple[str, ...]


class CannotCopyError(Exception):
    """The copy cannot be written: the disk is full, or gone."""


def copy_to(source: Store, target: Path, told: Callable[[int, int], None]) -> Copied:
    """Copy a database into the empty file `target`, and see whether the copy is whole.

    The source is held in one snapshot: whatever is committed meanwhile, no page has to be copied again.

    Args:
        source: the database, open for reading.
        target: an empty file.
        told: is told how many pages are copied, of how many, and may end the copy by raising.

    Raises:
        CannotCopyError: the copy cannot be written.
        sqlite3.Error: the source cannot be read.
    """
    pages = 0

    def step(_status: int, remaining: int, total: int) -> None:
        nonlocal pages
        pages = total
        told(total - remaining, total)

    with source.snapshot():
        generation = source.generation()
        try:
            # Nobody knows of the file yet: a journal and a synchronisation per step would only take time.
            with closing(sqlite3.connect(target, isolation_level=None)) as copy:
                copy.execute("PRAGMA synchronous = OFF")
                source.conn.backup(copy, pages=_PAGES_AT_ONCE, progress=step)
        except sqlite3.OperationalError as error:
            if code_of(error) in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY}:
                raise CannotCopyError(str(error)) from error
            raise
    with target.open("rb") as file:
        os.fsync(file.fileno())
    return Copied(pages, target.stat().st_size, generation, tuple(faults_of(target)))


def faults_of(path: Path) -> list[str]:
    """What SQLite finds wrong with a file that nobody writes to."""
    try:
        # It is marked as one with a log: without `immutable`, SQLite would put one beside it.
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as conn:
            conn.execute("PRAGMA trusted_schema = OFF")
            found = [str(row[0]) for row in conn.execute(f"PRAGMA quick_check({_FAULTS})")]
    except sqlite3.DatabaseError as error:
        return [str(error)]
    return [] if found == ["ok"] else found
