"""`memcli bench dedup`: labelled pairs and a model to what dedup makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memcli.bench.dedup import Evaluation, evaluate, read_pairs
from memcli.embed.models import ModelFiles, default_model, load_card
from memcli.wiring import LazyEmbedder

_BATCH = 64


@dataclass(frozen=True, slots=True)
class DedupBenchmark:
    """An evaluation and what was evaluated."""

    pairs: Path
    model: ModelFiles
    evaluation: Evaluation

    def to_json(self) -> dict[str, Any]:
        """Return the document of --json."""
        model = {"name": self.model.name, "model_id": self.model.model_id}
        return {"pairs_file": str(self.pairs), "model": model, **self.evaluation.to_json()}


def bench_dedup(pairs: Path, model: Path | None, threshold: float | None) -> DedupBenchmark:
    """Evaluate the pairs of a file with a model folder (None: the default) at a near threshold (None: the model's).

    Raises UsageError for a bad file of pairs, DamagedError for a folder that holds no model.
    """
    labelled = read_pairs(pairs)
    files = load_card(model) if model is not None else default_model()
    near = threshold if threshold is not None else files.near_threshold
    return DedupBenchmark(pairs, files, evaluate(labelled, LazyEmbedder(files, _BATCH), near))
