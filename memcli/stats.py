"""What is in a database and how it came there, as figures; and the recent batches over time."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from memcli import __version__
from memcli.errors import UsageError
from memcli.store import metrics, monitor
from memcli.store.cache import CacheUse, cache_use
from memcli.store.db import Store, log_of
from memcli.store.metrics import AgentRow, BatchTimes, Counts, RunRow, Sizes
from memcli.store.monitor import Asked, Failure, WindowTimes

KEPT_TAGS = 50
KEPT_RUNS = 10
RECENT_BATCHES = 40
SLOWEST = 5
_PLACE = re.compile(r"^behind \d+ conversations: | at (?:column|byte) \d+$")


@dataclass(frozen=True, slots=True)
class Stats:
    """The figures of one agent, or of the whole database where `agent` is None.

    Pairs are (memories made, of these merged into another). `rejected`, `stages`, `runs`, `last_done`, `run_counts`,
    `batches`, `sizes`, `search_cache` and all of models are of the whole database in any case: a line that could not be
    read has no agent, and a batch has several.
    """

    db: str
    agent: str | None
    model_id: str | None
    counts: Counts
    messages: dict[str | None, int]
    methods: dict[str, tuple[int, int]]
    types: dict[str, tuple[int, int]]
    days: dict[str, tuple[int, int]]
    tags: dict[str, int]
    merges: dict[str, int]
    agents: list[AgentRow]
    rejected: dict[str, int]
    stages: dict[str, float]
    batches: int
    runs: list[RunRow]
    run_counts: dict[tuple[str, str], int]
    last_done: dict[str, tuple[float, float]]
    sizes: Sizes
    wal_bytes: int
    asked: list[Asked]
    embedding: tuple[int, int, float]
    tier_states: dict[tuple[str, str], int]
    rejected_statements: dict[tuple[str, str], int]
    search_cache: dict[str, CacheUse]

    @property
    def kept(self) -> int:
        """Messages that were not dropped."""
        return self.messages.get(None, 0)

    @property
    def filtered(self) -> dict[str, int]:
        """Dropped messages by reason, most frequent first."""
        return {reason: count for reason, count in self.messages.items() if reason is not None}

    @property
    def memories(self) -> int:
        """All memories, merged ones too."""
        return sum(made for made, _ in self.types.values())

    @property
    def merged(self) -> int:
        """Memories with a live link to another."""
        return sum(merged for _, merged in self.types.values())

    def duplicates(self) -> dict[str, tuple[int, float]]:
        """(memories, share of all memories) that were merged as exact or near, or kept for review."""
        found = {kind: self.merges.get(kind, 0) for kind in ("exact", "near")} | {"review": self.counts.reviewed}
        return {kind: (count, count / self.memories if self.memories else 0.0) for kind, count in found.items()}

    def to_json(self) -> dict[str, object]:
        """The figures as one JSON document."""
        counts = self.counts
        return {
            "db": self.db,
            "memcli": __version__,
            "agent": self.agent,
            "model_id": self.model_id,
            "counts": {
                "messages": sum(self.messages.values()),
                "kept": self.kept,
                "dropped": sum(self.filtered.values()),
                "pending": counts.pending,
                "rejected": sum(self.rejected.values()),
                "sessions": counts.sessions,
                "agents": counts.agents,
                "files": counts.files,
                "windows": counts.windows,
                "memories": self.memories,
                "active": self.memories - self.merged,
                "merged": self.merged,
                "review_pairs": counts.review_pairs,
                "batches": self.batches,
            },
            "agents": [asdict(row) for row in self.agents],
            "filtered": self.filtered,
            "rejected": self.rejected,
            "days": [{"day": day, "memories": made, "merged": merged} for day, (made, merged) in self.days.items()],
            "tags": [{"tag": tag, "memories": count} for tag, count in self.tags.items()],
            "methods": [
                {"method": name, "memories": made, "merged": merged} for name, (made, merged) in self.methods.items()
            ],
            "types": {name: made for name, (made, _) in self.types.items()},
            "dedup": {
                kind: {"memories": count, "rate": round(rate, 6)} for kind, (count, rate) in self.duplicates().items()
            },
            "stages": {stage: round(seconds, 4) for stage, seconds in self.stages.items()},
            "size": {
                "bytes": self.sizes.total,
                "free_bytes": self.sizes.free,
                "wal_bytes": self.wal_bytes,
                "exact": self.sizes.exact,
                "tables": self.sizes.tables,
            },
            "search_cache": {kind: asdict(use) for kind, use in self.search_cache.items()},
            "runs": [asdict(run) for run in self.runs],
        }


@dataclass(frozen=True, slots=True)
class BatchStats:
    """The newest batches, oldest first, out of `total`; their slowest windows; what failed in all of them."""

    db: str
    total: int
    recent: list[BatchTimes]
    slow_windows: list[WindowTimes]
    failures: list[Failure]

    def slowest(self) -> list[BatchTimes]:
        """Those of the recent batches that took longest, longest first."""
        return sorted(self.recent, key=lambda batch: (-batch.seconds, batch.id))[:SLOWEST]

    def to_json(self) -> dict[str, object]:
        """The batches as one JSON document."""
        return {
            "db": self.db,
            "total": self.total,
            "batches": [
                asdict(batch)
                | {
                    "seconds": round(batch.seconds, 4),
                    "messages_per_second": None if batch.rate is None else round(batch.rate, 1),
                    "memories_per_message": None if batch.efficiency is None else round(batch.efficiency, 4),
                }
                for batch in self.recent
            ],
            "slowest": [batch.id for batch in self.slowest()],
            "slowest_windows": [asdict(each) | {"seconds": round(each.seconds, 4)} for each in self.slow_windows],
            "failures": [asdict(each) for each in self.failures],
        }


def collect(store: Store, agent: str | None = None) -> Stats:
    """Count everything, in one state of the database.

    Raises:
        UsageError: there is no such agent.
    """
    with store.snapshot():
        if agent is not None:
            check_agent(agent, metrics.agent_names(store))
        wal = log_of(store.path)
        return Stats(
            db=str(store.path),
            agent=agent,
            model_id=store.meta("model_id"),
            counts=metrics.counts(store, agent),
            messages=metrics.messages_by_reason(store, agent),
            methods=metrics.memories_by_method(store, agent),
            types=metrics.memories_by_type(store, agent),
            days=metrics.memories_by_day(store, agent),
            tags=metrics.top_tags(store, agent, KEPT_TAGS),
            merges=metrics.merges_by_kind(store, agent),
            agents=[row for row in metrics.agent_rows(store) if agent in {None, row.agent}],
            rejected=_placeless(metrics.rejected_by_reason(store)),
            stages=metrics.stage_seconds(store),
            batches=metrics.batch_count(store),
            runs=metrics.last_runs(store, KEPT_RUNS),
            run_counts=metrics.runs_by_status(store),
            last_done=metrics.last_done(store),
            sizes=metrics.sizes(store),
            wal_bytes=wal.stat().st_size if wal.is_file() else 0,
            asked=monitor.asked(store),
            embedding=monitor.embedded(store),
            tier_states=monitor.tier_states(store),
            rejected_statements=monitor.rejected_statements(store),
            search_cache=cache_use(store),
        )


def collect_batches(store: Store) -> BatchStats:
    """The newest batches, in one state of the database."""
    with store.snapshot():
        recent = metrics.recent_batches(store, RECENT_BATCHES)
        return BatchStats(
            str(store.path),
            metrics.batch_count(store),
            recent,
            monitor.slow_windows(store, recent[0].id, SLOWEST) if recent else [],
            monitor.failures(store),
        )


def _placeless(reasons: Mapping[str, int]) -> dict[str, int]:
    """Reasons without the place in the line or file, which would make each line one of its own; most frequent first."""
    found: Counter[str] = Counter()
    for reason, count in reasons.items():
        found[_PLACE.sub("", reason)] += count
    return dict(sorted(found.items(), key=lambda each: (-each[1], each[0])))


def check_agent(agent: str, known: list[str]) -> None:
    """Raise UsageError, which names the known agents, when `agent` is none of them."""
    if agent not in known:
        shown = ", ".join(known[:10]) + (", ..." if len(known) > 10 else "")  # noqa: PLR2004 - enough for a hint
        raise UsageError(
            f"no such agent: {agent}",
            f"agents: {shown}" if known else "the database has no messages: memcli ingest PATH",
        )
