"""The report of an ingest run: what `ingest --json` prints."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from memcli.config import Profile
from memcli.cost import CHARACTERS_PER_TOKEN, Outcome, advice
from memcli.ingest.asking import TierTally
from memcli.ingest.feed import Files

STAGES = ("read", "filter", "extract", "embed", "dedup", "commit")
SHOWN_REJECTIONS = 50


@dataclass(slots=True)
class IngestReport:
    """Counts of one run. `rejections` holds the first few rejected lines as (path, line, reason).

    `model_memories` are those that model tiers made and that were no duplicates, `model_characters` their length.
    `models` is what each model tier did; `failures` are the first few windows that a tier failed on: (window id, tier,
    reason). `scan_seconds` are those of the exact search for similar pairs, a part of the stage dedup.
    """

    db: str
    run_id: int | None = None
    seconds: float = 0.0
    files: Files = field(default_factory=Files)
    lines_read: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    rejected: int = 0
    rejections: list[tuple[str, int, str]] = field(default_factory=list)
    messages_read: int = 0
    messages_new: int = 0
    messages_duplicate: int = 0
    filtered: Counter[str] = field(default_factory=Counter)
    pending: int = 0
    windows_processed: int = 0
    windows_skipped_by_rate: int = 0
    models: dict[str, TierTally] = field(default_factory=dict)
    failures: list[tuple[int, str, str]] = field(default_factory=list)
    model_memories: int = 0
    model_characters: int = 0
    created: int = 0
    merged_exact: int = 0
    merged_near: int = 0
    review: int = 0
    embedded: int = 0
    embed_reused: int = 0
    embed_calls: int = 0
    embed_tokens: int = 0
    redacted: Counter[str] = field(default_factory=Counter)
    batches: int = 0
    timings: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    scan_seconds: float = 0.0
    embed_cost_usd: float = 0.0
    stopped: str | None = None
    dry_run: bool = False
    profile: Profile | None = None

    @property
    def cost_usd(self) -> float:
        """What the run spent, in US dollars, as far as prices are known."""
        return self.embed_cost_usd + sum(tally.cost_usd for tally in self.models.values())

    @property
    def windows_failed(self) -> int:
        """Windows that a model tier failed on, once for each tier."""
        return sum(tally.failed for tally in self.models.values())

    @property
    def windows_waiting(self) -> int:
        """Windows that a model tier was not asked about, though it should be: the budget is reached, or it is down."""
        return sum(tally.waiting for tally in self.models.values())

    @property
    def outcome(self) -> Outcome | None:
        """What the model tiers brought in this run, to be compared with the profile; None where they saw no window."""
        tallies = self.models.values()
        windows = max((tally.done for tally in tallies), default=0)
        if not windows or self.dry_run:
            return None
        made = self.model_memories
        return Outcome(
            memories=made,
            windows=windows,
            messages=0,
            all_messages=0,
            tokens=sum(tally.tokens_in + tally.tokens_out for tally in tallies),
            usd=sum(tally.cost_usd for tally in tallies) if all(tally.priced for tally in tallies) else None,
            tokens_each=self.model_characters / made / CHARACTERS_PER_TOKEN if made else None,
        )

    def to_json(self) -> dict[str, object]:
        """The report as one JSON document."""
        return {
            "run_id": self.run_id,
            "db": self.db,
            "dry_run": self.dry_run,
            "stopped": self.stopped,
            "seconds": round(self.seconds, 3),
            "files": {
                "seen": self.files.seen,
                "read": self.files.read,
                "unchanged": self.files.unchanged,
                "failed": len(self.files.failed),
                "unknown": len(self.files.unknown),
                "formats": dict(self.files.formats),
            },
            "lines": {"read": self.lines_read, "skipped": dict(self.skipped), "rejected": self.rejected},
            "messages": {
                "read": self.messages_read,
                "new": self.messages_new,
                "duplicate": self.messages_duplicate,
                "filtered": dict(self.filtered),
                "pending": self.pending,
            },
            "windows": {
                "processed": self.windows_processed,
                "skipped_by_rate": self.windows_skipped_by_rate,
                "failed": self.windows_failed,
                "waiting": self.windows_waiting,
            },
            "expectation": self._expectation(),
            "models": {tier: tally.to_json() for tier, tally in self.models.items()},
            "memories": {
                "created": self.created,
                "merged_exact": self.merged_exact,
                "merged_near": self.merged_near,
                "review": self.review,
            },
            "embedded": self.embedded,
            "embed_reused": self.embed_reused,
            "embed_calls": self.embed_calls,
            "embed_tokens": self.embed_tokens,
            "redacted": dict(self.redacted),
            "batches": self.batches,
            "scan_seconds": round(self.scan_seconds, 4),
            "timings": {stage: round(seconds, 4) for stage, seconds in self.timings.items()},
            "cost_usd": self.cost_usd,
            "messages_per_second": round(self.messages_read / self.seconds, 1) if self.seconds else 0.0,
        }

    def _expectation(self) -> dict[str, object] | None:
        profile, outcome = self.profile, self.outcome
        if profile is None:
            return None
        return {
            "profile": profile.name,
            "memories_per_window": profile.expected_memories,
            "tokens_each": profile.expected_tokens,
            "outcome": None
            if outcome is None
            else {
                "memories_per_window": outcome.per_window,
                "tokens_each": outcome.tokens_each,
                "tokens_per_memory": outcome.tokens_per_memory,
                "usd_per_memory": outcome.usd_per_memory,
            },
            "advice": [] if outcome is None else advice(profile, outcome),
        }
