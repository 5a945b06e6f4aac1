"""`memcli bench quality`: the benchmarks that need a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from memcli import wiring
from memcli.bench.quality import Question, bench_quality
from memcli.embed.installed import DEFAULT, resolve, size_of

_MEGA = 1e6
_EMBED_BATCH = 64


def quality(
    model: str | None, question: Question, environ: Mapping[str, str], announce: Callable[[str], None]
) -> dict[str, Any]:
    """Score the model that `model` names; the document of `memcli bench quality --json`."""
    files = resolve(model or DEFAULT, wiring.models_dir(environ))
    megabytes = round(size_of(files) / _MEGA, 2)
    return bench_quality(wiring.LazyEmbedder(files, _EMBED_BATCH), files.name, megabytes, question, announce)
