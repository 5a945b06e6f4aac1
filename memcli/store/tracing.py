"""What SQLite is asked during a run: calls, statements and transactions, as benchmarks count them."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

_WRITES = re.compile(r"\s*(INSERT|UPDATE|DELETE|REPLACE)\b", re.IGNORECASE)
_BATCH = re.compile(r"\s*INSERT\b.*?\bINTO batches\b", re.IGNORECASE)
_TAG_QUERY = re.compile(r"\s*SELECT\b.*\bFROM session_tags\b", re.IGNORECASE | re.DOTALL)


@dataclass(slots=True)
class Stretch:
    """What was asked since the last commit: by the program (`calls`), and run by SQLite, a row of many being one.

    `batches` are rows of that table, `tag_queries` look-ups of session tags.
    """

    calls: int = 0
    statements: int = 0
    batches: int = 0
    tag_queries: int = 0


@dataclass(slots=True)
class Trace:
    """Every stretch that a commit ended, and the writes that were in no transaction that was begun."""

    stretches: list[Stretch] = field(default_factory=list)
    open: Stretch = field(default_factory=Stretch)
    stray_writes: int = 0

    def called(self) -> None:
        """The program calls SQLite."""
        self.open.calls += 1

    def ran(self, connection: sqlite3.Connection, statement: str) -> None:
        """SQLite runs a statement, the parameters filled in."""
        if statement.startswith("--"):  # what a statement does within SQLite, as FTS5 does
            return
        self.open.statements += 1
        self.open.batches += bool(_BATCH.match(statement))
        self.open.tag_queries += bool(_TAG_QUERY.match(statement))
        self.stray_writes += bool(_WRITES.match(statement)) and not connection.in_transaction
        if statement == "COMMIT":
            self.stretches.append(self.open)
            self.open = Stretch()


class _Connection(sqlite3.Connection):
    """Tells a trace of its calls, and of what SQLite's own trace tells."""

    def __init__(self, trace: Trace, *args: Any, **named: Any) -> None:  # noqa: ANN401 - those of sqlite3
        super().__init__(*args, **named)
        self._trace = trace
        self.set_trace_callback(partial(trace.ran, self))

    def execute(self, *args: Any) -> sqlite3.Cursor:  # noqa: ANN401 - as above
        self._trace.called()
        return super().execute(*args)

    def executemany(self, sql: str, rows: Iterable[Any], /) -> sqlite3.Cursor:
        self._trace.called()
        return super().executemany(sql, rows)


@contextmanager
def traced() -> Iterator[Trace]:
    """Trace all connections that this process opens meanwhile."""
    trace, connect = Trace(), sqlite3.connect
    sqlite3.connect = partial(connect, factory=partial(_Connection, trace))  # type: ignore[assignment]
    try:
        yield trace
    finally:
        sqlite3.connect = connect
