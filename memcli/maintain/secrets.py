"""Looking for credentials in all that a database holds. What is found is named by its place and kind, never shown."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

from memcli.protocols import Progress
from memcli.redact import redact
from memcli.store.db import Store
from memcli.store.secrets import every_text

_TOLD_AT_ONCE = 1000  # texts between two signs of progress


@dataclass(frozen=True, slots=True)
class Leak:
    """So many credentials of a kind in a column; `row` is the id of the row, or what stands for it."""

    table: str
    column: str
    row: str
    kind: str
    count: int

    def to_json(self) -> dict[str, object]:
        """The leak as a part of a JSON document."""
        return {"table": self.table, "column": self.column, "row": self.row, "kind": self.kind, "count": self.count}


@dataclass(slots=True)
class SecretsReport:
    """What a scan found; `texts` is how many were looked at."""

    db: str
    texts: int = 0
    found: list[Leak] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def kinds(self) -> Counter[str]:
        """How many of each kind."""
        counts: Counter[str] = Counter()
        for leak in self.found:
            counts[leak.kind] += leak.count
        return counts

    def to_json(self) -> dict[str, object]:
        """The report as one JSON document."""
        return {
            "db": self.db,
            "texts": self.texts,
            "kinds": dict(self.kinds),
            "found": [leak.to_json() for leak in self.found],
            "seconds": round(self.seconds, 4),
        }


def scan(store: Store, progress: Progress) -> SecretsReport:
    """Look at every text of every table, in one state of the database; nothing is changed."""
    began, report = time.perf_counter(), SecretsReport(str(store.path))
    progress.phase("looking for credentials", 0)
    with store.snapshot():
        for place in every_text(store):
            report.texts += 1
            _, kinds = redact(place.text)
            report.found += [Leak(place.table, place.column, place.row, kind, count) for kind, count in kinds.items()]
            if report.texts % _TOLD_AT_ONCE == 0:
                progress.advance(0, _TOLD_AT_ONCE)
    progress.finish()
    report.seconds = time.perf_counter() - began
    return report
