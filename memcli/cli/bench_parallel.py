"""`memcli bench parallel` as flags."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from memcli.cli.options import JsonOption, QuietOption, VerboseOption


def bench_parallel(
    model: Annotated[
        str | None, typer.Option("--model", metavar="MODEL", help="Another model to measure: a transformer.")
    ] = None,
    workers: Annotated[int, typer.Option(min=2, metavar="N", help="What to compare one worker with.")] = 2,
    seed: Annotated[int, typer.Option(help="The same seed gives the same texts and vectors.")] = 7,
    repeat: Annotated[int, typer.Option(min=1, help="Rounds; the least time of each counts.")] = 3,
    scale: Annotated[float, typer.Option(min=0.001, max=100, help="How much of everything.")] = 1.0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,  # noqa: ARG001 - read by the error boundary
) -> None:
    """Measure what more workers bring to each part of memcli.

    One worker means that every pool has one thread: tokenizers, onnxruntime, BLAS, our own. Parts that Python's lock
    holds are measured as well, and marked.

    Example: memcli bench parallel --model all-MiniLM-L6-v2
    """
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.bench.parallel import Plan  # noqa: PLC0415 - as above
    from memcli.commands import bench as command  # noqa: PLC0415 - as above: numpy

    plan = Plan(workers, seed, repeat, scale)
    document = command.parallel(plan, model, os.environ, lambda text: None if quiet else render.announce(text))
    if as_json:
        render.print_json(document)
    else:
        render.show_parallel_benchmark(document)
