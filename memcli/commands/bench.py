"""`memcli bench embed` and `bench quality`: the benchmarks that need a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memcli import wiring
from memcli.bench.embed import STATIC_TEXTS, TRANSFORMER_TEXTS, Plan, bench_embed, compare, read_baseline
from memcli.bench.parallel import Plan as ParallelPlan
from memcli.bench.parallel import bench_parallel
from memcli.bench.quality import Question, bench_quality
from memcli.embed.installed import DEFAULT, resolve, size_of

_MEGA = 1e6
_EMBED_BATCH = 64


@dataclass(frozen=True, slots=True)
class Speed:
    """What the user asked of `memcli bench embed`; `texts` None leaves the number to the kind of model."""

    model: str | None
    texts: int | None
    seed: int
    repeat: int
    batch_size: int
    baseline: Path | None


def embed(request: Speed, environ: Mapping[str, str], announce: Callable[[str], None]) -> dict[str, Any]:
    """Measure the model that `request` names; the document of `memcli bench embed --json`."""
    files = resolve(request.model or DEFAULT, wiring.models_dir(environ))
    usual = STATIC_TEXTS if files.recipe.is_static else TRANSFORMER_TEXTS
    plan = Plan(request.texts or usual, request.seed, request.repeat, request.batch_size)
    before = read_baseline(request.baseline, plan) if request.baseline is not None else None
    document = bench_embed(files, plan, announce)
    return document if before is None else document | {"comparison": compare(before, document)}


def quality(
    model: str | None, question: Question, environ: Mapping[str, str], announce: Callable[[str], None]
) -> dict[str, Any]:
    """Score the model that `model` names; the document of `memcli bench quality --json`."""
    files = resolve(model or DEFAULT, wiring.models_dir(environ))
    megabytes = round(size_of(files) / _MEGA, 2)
    return bench_quality(wiring.LazyEmbedder(files, _EMBED_BATCH), files.name, megabytes, question, announce)


def parallel(
    plan: ParallelPlan, model: str | None, environ: Mapping[str, str], announce: Callable[[str], None]
) -> dict[str, Any]:
    """Measure the parts with one worker and with several; the document of `memcli bench parallel --json`."""
    folder = wiring.models_dir(environ)
    other = None if model is None else resolve(model, folder)
    return bench_parallel(plan, resolve(DEFAULT, folder), other, announce).to_json()
