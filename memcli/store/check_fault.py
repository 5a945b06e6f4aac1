"""Whether a file is damaged at all: asked when a program that reads it has come upon something that cannot be.

What a damaged row makes of a program can be anything: so the file is looked at before an unexpected fault is called a
bug. What is found is said beside the fault, never instead of it: a bug may happen in a damaged database as well.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path

from memcli.errors import DamagedError, MemcliError
from memcli.store import check as rows
from memcli.store import db
from memcli.store.check import Finding
from memcli.store.check_schema import schema
from memcli.store.db import Store, code_of
from memcli.store.segments import damaged

# Whoever waits for a message wants it soon: 35 s for 100,000 messages (600 MB) on two busy cores.
_SECONDS = 60.0
_STEPS = 1_000_000  # of SQLite's machine between two looks at the clock
# What says nothing of the file itself.
_PASSING = {
    *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_NOMEM),
    *(sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL),
}
_LOOK = "memcli check tells what is wrong and what to do"


class _UnknownError(Exception):
    """Whether there is a fault could not be found out."""


def damage(error: Exception, paths: Iterable[Path]) -> DamagedError | None:
    """The damage that may have led to `error`; None where none of the databases at `paths` has any.

    Where that cannot be found out, a note on the error says so.
    """
    for path in paths:
        if not path.is_file():
            continue  # a copy that a dry run has deleted
        try:
            fault = first_fault(path)
        except MemcliError:
            raise  # an interruption
        except Exception:  # noqa: BLE001 - the fault that is to be told must not be hidden by a second one
            error.add_note(f"whether {path} is damaged could not be found out: memcli check tells")
            continue
        if fault is not None:
            hint = f"{_LOOK}; --verbose shows what it led to here ({type(error).__name__})"
            found = DamagedError(f"{path} is damaged: {fault}", hint)
            found.fault = error
            return found
    return None


def damage_of_read(error: Exception) -> DamagedError | None:
    """The damage that may have led to `error` after all databases had been read and closed."""
    return damage(error, sorted(db.closed_well))


def first_fault(path: Path) -> str | None:
    """The first thing that is wrong with the database at `path`, in words; None where nothing is.

    The keyword index, which takes longest, is left out but for its pages.

    Raises:
        Exception: nobody can tell, or not soon.
    """
    checks: tuple[Callable[[Store], Iterator[Finding | None]], ...] = (
        rows.structure,
        schema,
        rows.references,
        rows.settings,
        rows.messages,
        rows.memories,
        rows.hashed,
        rows.provenance,
        rows.columns,
        rows.cached,
        _segments,
    )
    end = time.monotonic() + _SECONDS
    try:
        # One state of it: others may be writing.
        with closing(Store.unchecked(path)) as store, rows.lenient(store), store.snapshot():
            store.conn.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
            # The rows of an older schema lack what they are checked by.
            for each in checks if store.is_current() else checks[:1]:
                for finding in each(store):
                    if finding is not None and not finding.warning:
                        return _worded(finding)
                    if time.monotonic() > end:
                        raise _UnknownError
    except (UnicodeDecodeError, sqlite3.DatabaseError) as error:
        if code_of(error) in _PASSING:
            raise
        return f"it cannot be read to its end: {error}"
    return None


def _worded(finding: Finding) -> str:
    place = " ".join(str(part) for part in (finding.table, finding.row) if part not in {"", None})
    return f"{place}: {finding.wrong}" if place else finding.wrong


def _segments(store: Store) -> Iterator[Finding]:
    for segment_id, wrong in damaged(store):
        yield rows.derived("segments", segment_id, wrong)
