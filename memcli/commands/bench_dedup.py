"""`memcli bench dedup`: labelled pairs and a model to what dedup makes of them."""

from __future__ import annotations

from pathlib import Path

from memcli.bench.dedup import DedupBenchmark, evaluate, read_pairs
from memcli.embed.models import default_model, load_card
from memcli.wiring import LazyEmbedder

_BATCH = 64


def bench_dedup(pairs: Path, model: Path | None, threshold: float | None) -> DedupBenchmark:
    """Evaluate the pairs of a file with a model folder (None: the default) at a near threshold (None: the model's).

    Raises UsageError for a bad file of pairs, DamagedError for a folder that holds no model.
    """
    labelled = read_pairs(pairs)
    files = load_card(model) if model is not None else default_model()
    near = threshold if threshold is not None else files.near_threshold
    return DedupBenchmark(str(pairs), files.name, files.model_id, evaluate(labelled, LazyEmbedder(files, _BATCH), near))
