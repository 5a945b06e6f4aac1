"""The reports of an export and an import."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field

STAGES = ("read", "embed", "dedup", "commit")
SHOWN_REJECTIONS = 50


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written, and where to; `vectors` is None where none were asked for."""

    db: str
    out: str | None
    memories: int
    messages: int
    vectors: int | None

    def to_json(self) -> dict[str, object]:
        """The report as one JSON document."""
        return {
            "db": self.db,
            "out": self.out,
            "memories": self.memories,
            "messages": self.messages,
            "vectors": self.vectors,
        }


@dataclass(slots=True)
class ImportReport:
    """Counts of one run.

    `memories` are those of the input, duplicates included; `known` of them were here already, from the same place in
    the same messages; `review` are new memories that are like others; `forgotten` were left out, since the user had
    them forgotten. `parted` and `review_pairs` are the pairs that the user of an export has parted, or was still to
    decide. `rejections` holds the first few rejected lines as (path, line, reason).
    """

    db: str
    run_id: int | None = None
    files_read: int = 0
    files_unchanged: int = 0
    lines: int = 0
    rejected: int = 0
    rejections: list[tuple[str, int, str]] = field(default_factory=list)
    messages: int = 0
    messages_new: int = 0
    memories: int = 0
    known: int = 0
    forgotten: int = 0
    created: int = 0
    merged_exact: int = 0
    merged_near: int = 0
    review: int = 0
    parted: int = 0
    review_pairs: int = 0
    embedded: int = 0
    embed_reused: int = 0
    vectors_taken: int = 0
    redacted: Counter[str] = field(default_factory=Counter)
    batches: int = 0
    embed_calls: int = 0
    embed_tokens: int = 0
    cost_usd: float = 0.0
    seconds: float = 0.0
    dry_run: bool = False
    timings: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    def to_json(self) -> dict[str, object]:
        """The report as one JSON document."""
        document = asdict(self) | {"seconds": round(self.seconds, 3), "redacted": dict(self.redacted)}
        del document["rejections"]
        return document | {"timings": {name: round(seconds, 4) for name, seconds in self.timings.items()}}
