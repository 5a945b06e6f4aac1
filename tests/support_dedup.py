"""What the tests of dedup share: databases of generated memories, and dedup in process."""

import sqlite3
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest.mock import patch

from support_ingest import Quiet, environ, logical, quick_model

from memcli.commands import dedup as command
from memcli.config import Config


def dedup(db, *, progress=None, batch_size=1024, max_memory=1_000_000_000, **request):
    """Deduplicate `db`; the report."""
    config = Config(db=Path(db), batch_size=batch_size, max_memory=max_memory)
    with quick_model():
        return command.dedup(config, command.Request(**request), progress or Quiet(), environ())


def content(db):
    """What a database says of memories and merges, without what an ingest counted when it made them."""
    found = logical(db)
    found["memories"] = [row[:-3] for row in found["memories"]]
    found["windows"] = [row[:8] + row[10:] for row in found["windows"]]
    found["links"] = [row[:6] for row in found["links"]]
    losers = {row[0] for row in found["links"]}
    found["reviews"] = [row for row in found["reviews"] if not losers & set(row[:2])]
    # An exact duplicate has neither vector nor words of its own, one that is found later keeps what it has.
    for name in ("vectors", "words"):
        del found[name]
    return found


def _config(db):
    return Config(db=Path(db))


def undo(db, *, run_id=None, merge_id=None):
    """Undo a run or a merge; the report."""
    return command.undo(_config(db), run_id=run_id, merge_id=merge_id, dry_run=False)


def review(db):
    """The pairs to decide."""
    return command.review(_config(db), None)


def accept(db, review_id):
    """Accept a pair."""
    return command.accept(_config(db), review_id, environ(), dry_run=False)


def reject(db, review_id):
    """Reject a pair."""
    return command.reject(_config(db), review_id, dry_run=False)


def explain(db, memory_id):
    """Explain a memory."""
    return command.explain(_config(db), memory_id, environ())


@contextmanager
def counting():
    """The SQL statements that are executed meanwhile, once each however many rows they write."""
    seen = []

    class Connection(sqlite3.Connection):
        def execute(self, sql, *args):
            seen.append(sql)
            return super().execute(sql, *args)

        def executemany(self, sql, *args):
            seen.append(sql)
            return super().executemany(sql, *args)

    with patch("memcli.store.db.sqlite3.connect", partial(sqlite3.connect, factory=Connection)):
        yield seen
