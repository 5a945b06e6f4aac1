"""`memcli bench dedup`: labelled pairs and a model to what dedup makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from memcli.bench.dedup import PAIRS, DedupBenchmark, evaluate, read_pairs
from memcli.embed.installed import DEFAULT, resolve
from memcli.wiring import LazyEmbedder, models_dir

_BATCH = 64


def bench_dedup(
    pairs: Path | None, model: str | None, threshold: float | None, environ: Mapping[str, str]
) -> DedupBenchmark:
    """Evaluate the pairs of a file (None: the package's own) with a model (None: the default) at a near threshold.

    Where no threshold is given, it is the model's.

    Raises UsageError for a bad file of pairs or an unknown model, DamagedError for a damaged one.
    """
    source = PAIRS if pairs is None else pairs
    labelled = read_pairs(source)
    files = resolve(model or DEFAULT, models_dir(environ))
    near = threshold if threshold is not None else files.near_threshold
    return DedupBenchmark(
        str(source), files.name, files.model_id, evaluate(labelled, LazyEmbedder(files, _BATCH), near)
    )
