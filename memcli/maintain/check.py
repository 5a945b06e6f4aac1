"""Verifying a database: everything in it is read once, nothing is written, and what is found is told row by row."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from memcli.maintain.care import lacking
from memcli.protocols import Progress
from memcli.store import check as rows
from memcli.store import segments as segment_rows
from memcli.store.check import REPAIR, Finding, derived
from memcli.store.check_log import log
from memcli.store.check_schema import schema
from memcli.store.check_words import words
from memcli.store.db import Store
from memcli.store.vectors import Vectors

# Of more findings in one table the rest is counted only: what is told must fit on a screen and into memory.
TOLD_PER_TABLE = 20
_TOLD_AT_ONCE = 1000  # rows between two signs of progress
PAGES, SCHEMA = "checking pages", "checking definitions"
MESSAGES, MEMORIES = "checking messages", "checking memories"
_LOST = {MESSAGES, MEMORIES}
_TABLES = ("messages", "memories", "provenance", "segments")


@dataclass(slots=True)
class CheckReport:
    """What a check found. `more` counts, by table, the findings that are not listed; `rows` what was looked at.

    `has_broken_pages` says that SQLite found something, `has_lost_rows` that a message or memory is not what was
    stored.
    """

    db: str
    model_id: str | None = None
    rows: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    more: Counter[str] = field(default_factory=Counter)
    faults: int = 0
    repairable: int = 0
    warnings: int = 0
    seconds: float = 0.0
    has_broken_pages: bool = False
    has_lost_rows: bool = False
    _told: Counter[tuple[str, bool]] = field(default_factory=Counter)

    def add(self, finding: Finding) -> None:
        """Count a finding, and list it unless its table has many already."""
        self.warnings += finding.warning
        self.faults += not finding.warning
        self.repairable += finding.derived and not finding.warning
        place = finding.table, finding.warning
        self._told[place] += 1
        if self._told[place] <= TOLD_PER_TABLE:
            self.findings.append(finding)
        else:
            self.more[finding.table] += 1

    def to_json(self) -> dict[str, object]:
        """The report as one JSON document."""
        return {
            "db": self.db,
            "model_id": self.model_id,
            "rows": self.rows,
            "faults": self.faults,
            "repairable": self.repairable,
            "warnings": self.warnings,
            "findings": [each.to_json() for each in self.findings],
            "more": dict(self.more),
            "seconds": round(self.seconds, 4),
        }


def check(
    store: Store,
    vectors: Vectors | None,
    model: Callable[[], Iterable[Finding]],
    progress: Progress,
    report: CheckReport,
) -> None:
    """Look at everything in a database and add what is wrong to the report.

    Args:
        store: the database; it may be open for reading only, and others may write to it meanwhile.
        vectors: those of its model, None where it has none or it is not known.
        model: looks at the files of the model.
        progress: is told how far it is.
        report: what was found is added to it.
    """
    began = time.perf_counter()
    for finding in log(store.path):
        report.add(finding)
    with store.snapshot(), rows.lenient(store):
        report.rows = {table: rows.count(store, table) for table in _TABLES}
        for name, table, source in _checks(store, vectors, report):
            progress.phase(name, report.rows.get(table, 0))
            for finding in _counted(rows.guarded(table, source), progress):
                report.add(finding)
                report.has_broken_pages |= name in {PAGES, SCHEMA}
                report.has_lost_rows |= name in _LOST and not finding.derived
    for finding in model():
        report.add(finding)
    progress.finish()
    report.seconds = time.perf_counter() - began


def _checks(
    store: Store, vectors: Vectors | None, report: CheckReport
) -> Iterator[tuple[str, str, Iterator[Finding | None]]]:
    """Yield what is to be looked at: name, table, findings with None for each row that was looked at."""
    yield PAGES, "", rows.structure(store)
    yield SCHEMA, "", schema(store)
    yield "checking references", "", rows.references(store)
    yield "checking columns", "", rows.columns(store)
    yield MESSAGES, "messages", rows.messages(store)
    yield MEMORIES, "memories", rows.memories(store)
    yield "checking sessions and rules", "", rows.hashed(store)
    yield "checking provenance", "provenance", rows.provenance(store)
    yield "checking tags", "memory_tags", rows.tags(store)
    yield "checking merges", "merges", rows.links(store)
    yield "checking the keyword index", "memories_fts", words(store)
    yield "checking vectors", "segments", _segments(store, vectors, report)
    yield "checking the cache", "search_cache", rows.cached(store)
    yield "checking cursors", "files", _cursors(store)


def _counted(source: Iterator[Finding | None], progress: Progress) -> Iterator[Finding]:
    looked_at = 0
    for each in source:
        if each is not None:
            yield each
            continue
        looked_at += 1
        if looked_at % _TOLD_AT_ONCE == 0:
            progress.advance(0, _TOLD_AT_ONCE)
    progress.advance(0, looked_at % _TOLD_AT_ONCE)


def _segments(store: Store, vectors: Vectors | None, report: CheckReport) -> Iterator[Finding]:
    for segment_id, wrong in segment_rows.damaged(store):
        yield derived("segments", segment_id, wrong)
    if vectors is None:
        return
    alive = segment_rows.embedded_ids(store)
    listed = segment_rows.stored(store, report.model_id or "", vectors.coding.version)
    for segment_id, wrong in segment_rows.misplaced(store, listed, alive):
        yield derived("segments", segment_id, wrong)
    for agent, ids in lacking(store, vectors, report.model_id or "", alive).items():
        for memory_id in ids[:TOLD_PER_TABLE]:
            yield derived("segments", f"memory {memory_id}", f"memory {memory_id} of {agent} has no vector")
    for each in listed:
        if dead := segment_rows.dead(each, alive):
            yield Finding(
                "segments", each.id, f"{dead:,} of its vectors are of no memory", REPAIR, derived=True, warning=True
            )


def _cursors(store: Store) -> Iterator[Finding]:
    for each in rows.read_files(store):
        try:
            size = Path(each.path).stat().st_size
        except (OSError, ValueError):
            continue  # a transcript may go once it was read
        if isinstance(each.offset, int) and each.offset > size:
            yield Finding(
                "files",
                each.id,
                f"{each.path} is shorter ({size:,} bytes) than what was read of it ({each.offset:,})",
                "nothing: memcli ingest reads such a file again from its start",
                warning=True,
            )
