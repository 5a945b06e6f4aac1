"""Repairing a database: what can be made again of the rest is made again, each step a transaction of its own.

A repair that was killed is begun again by the next one, and finds less to do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from memcli import __version__
from memcli.maintain.care import Care
from memcli.maintain.check import CheckReport
from memcli.protocols import Embedder, Progress
from memcli.store import repair as mending
from memcli.store import runs as run_rows
from memcli.store import segments as segment_rows
from memcli.store.check_words import words
from memcli.store.db import Store
from memcli.store.vectors import Vectors

COMMAND = "check"


@dataclass(slots=True)
class RepairReport:
    """What was wrong, what was done about it, and what is wrong still; `embedded` texts have lost their vector."""

    db: str
    before: CheckReport
    after: CheckReport
    run_id: int | None = None
    done: list[str] = field(default_factory=list)
    embedded: int = 0
    seconds: float = 0.0
    dry_run: bool = False

    def to_json(self) -> dict[str, object]:
        """The report as one JSON document."""
        return {
            "db": self.db,
            "run_id": self.run_id,
            "faults_before": self.before.faults,
            "done": self.done,
            "embedded": self.embedded,
            "after": self.after.to_json(),
            "dry_run": self.dry_run,
            "seconds": round(self.seconds, 4),
        }


class NeedsRebuildError(Exception):
    """The keyword index is too damaged to be filled anew where it is."""


def repair(
    store: Store,
    vectors: Vectors | None,
    embedder: Callable[[], Embedder] | None,
    progress: Progress,
    report: RepairReport,
) -> None:
    """Make again what is derived.

    Args:
        store: the database, open for writing, its run lock held; its pages and indexes are whole.
        vectors: those of its model, None where it has none.
        embedder: gives the embedder of the database's own model, None where its files are damaged or gone.
        progress: is told how far it is.
        report: what was done is added to it.

    Raises:
        NeedsRebuildError: see there; nothing was written.
    """
    began = time.perf_counter()
    mending.take_over_log(store)
    wrong_words = sum(1 for _ in words(store))
    with store.transaction(store.generation()) as conn:
        report.run_id = store.next_id("runs")
        if wrong_words:
            if not mending.rewrite_words(store):
                raise NeedsRebuildError
            report.done.append("the keyword index was filled anew")
        if changed := mending.mend_tags(conn):
            report.done.append(f"{changed:,} tags of memories were set anew")
        mending.empty_cache(conn)
        if vectors is not None:
            _mend_segments(store, vectors, report)
        run_rows.record_run(conn, report.run_id, COMMAND, __version__, {"repair": report.done})
    if vectors is not None and embedder is not None:
        vectors.forget([])
        cared = Care(store, embedder(), vectors, progress).run()
        report.embedded = cared.embedded
        if cared.embedded:
            report.done.append(f"{cared.embedded:,} texts were embedded again")
        if cared.dropped:
            report.done.append(f"{cared.dropped:,} vectors of no memory were dropped")
    report.seconds += time.perf_counter() - began


def _mend_segments(store: Store, vectors: Vectors, report: RepairReport) -> None:
    alive = segment_rows.embedded_ids(store)
    listed = segment_rows.stored(store, report.before.model_id or "", vectors.coding.version)
    wrong = {segment_id for segment_id, _ in segment_rows.damaged(store)}
    wrong |= {segment_id for segment_id, _ in segment_rows.misplaced(store, listed, alive)}
    whole = sum(mending.mend_segment(store.conn, segment_id, vectors.coding) for segment_id in sorted(wrong))
    if whole:
        report.done.append(f"{whole:,} segments were made again of their own vectors")
    if len(wrong) > whole:
        report.done.append(f"{len(wrong) - whole:,} segments were dropped: their vectors are lost")
