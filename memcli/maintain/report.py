"""The report of a dedup run: what `dedup --json` prints."""

from __future__ import annotations

from dataclasses import dataclass, field

STAGES = ("scan", "judge", "commit")


@dataclass(slots=True)
class DedupReport:
    """Counts of one run.

    `examined` memories were compared with the earlier ones of their scope: `compared` pairs, of which `candidates`
    reach the threshold. By `examined`, `review` and `new` are what was decided; `exact`, `near`, `moved` and `released`
    are what has changed (active before and merged now, merged into another one now, merged before and active now).
    `review_pairs` counts all pairs whose evidence failed, `kept_pairs` those that were added to the list,
    `second_opinions` merges that another model was asked about.
    """

    db: str
    threshold: float
    model_id: str
    gate_version: str
    agent: str | None = None
    across_types: bool = False
    across_agents: bool = False
    rethreshold: bool = False
    run_id: int | None = None
    examined: int = 0
    compared: int = 0
    candidates: int = 0
    exact: int = 0
    near: int = 0
    moved: int = 0
    released: int = 0
    review: int = 0
    new: int = 0
    review_pairs: int = 0
    kept_pairs: int = 0
    second_opinions: int = 0
    batches: int = 0
    seconds: float = 0.0
    timings: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    dry_run: bool = False

    def to_json(self) -> dict[str, object]:
        """The report as one JSON document."""
        return {
            "run_id": self.run_id,
            "db": self.db,
            "dry_run": self.dry_run,
            "threshold": self.threshold,
            "model_id": self.model_id,
            "gate_version": self.gate_version,
            "agent": self.agent,
            "across_types": self.across_types,
            "across_agents": self.across_agents,
            "rethreshold": self.rethreshold,
            "examined": self.examined,
            "exact": self.exact,
            "near": self.near,
            "review": self.review,
            "new": self.new,
            "moved": self.moved,
            "released": self.released,
            "compared": self.compared,
            "candidates": self.candidates,
            "review_pairs": self.review_pairs,
            "kept_pairs": self.kept_pairs,
            "second_opinions": self.second_opinions,
            "batches": self.batches,
            "seconds": round(self.seconds, 3),
            "timings": {stage: round(seconds, 4) for stage, seconds in self.timings.items()},
        }
