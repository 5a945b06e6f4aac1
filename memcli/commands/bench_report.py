"""`memcli bench` without a subcommand: the report over everything, on the default model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from memcli import wiring
from memcli.bench.contests import Subject
from memcli.bench.report import Plan, bench_report
from memcli.commands.bench_search import opener
from memcli.embed.installed import DEFAULT, resolve

_BATCH = 64


def report(plan: Plan, environ: Mapping[str, str], announce: Callable[[str], None]) -> dict[str, Any]:
    """Measure everything; the document of `memcli bench --json`."""
    files = resolve(DEFAULT, wiring.models_dir(environ))
    embedder = wiring.LazyEmbedder(files, _BATCH)
    subject = Subject(files, embedder, plan.size, plan.seed, opener(environ), _nothing)
    return bench_report(plan, subject, announce)


def _nothing(_: str) -> None:
    """What the parts announce would be a line for each process."""
