"""Whether a file is damaged at all: asked when a program that reads it has come upon something that cannot be."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from memcli.store import check as rows
from memcli.store.check import Finding
from memcli.store.check_schema import schema
from memcli.store.db import Store
from memcli.store.segments import damaged


def first_fault(path: Path) -> str | None:
    """The first thing that is wrong with the database at `path`, in words; None where nothing is, or nobody can tell.

    The keyword index, which takes longest, is left out but for its pages.
    """
    checks: tuple[Callable[[Store], Iterator[Finding | None]], ...] = (
        rows.structure,
        schema,
        rows.references,
        rows.messages,
        rows.memories,
        rows.hashed,
        rows.provenance,
        rows.columns,
        _segments,
    )
    try:
        with closing(Store.unchecked(path)) as store, rows.lenient(store):
            # The rows of an older schema lack what they are checked by.
            for each in checks if store.is_current() else checks[:1]:
                for finding in rows.guarded("", each(store)):
                    if finding is not None and not finding.warning:
                        place = " ".join(str(part) for part in (finding.table, finding.row) if part not in {"", None})
                        return f"{place}: {finding.wrong}" if place else finding.wrong
    except (OSError, UnicodeDecodeError, sqlite3.DatabaseError) as error:
        return str(error)
    return None


def _segments(store: Store) -> Iterator[Finding]:
    for segment_id, wrong in damaged(store):
        yield rows.derived("segments", segment_id, wrong)
