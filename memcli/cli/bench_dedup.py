"""`memcli bench dedup` as flags."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from memcli.cli.options import JsonOption, ModelOption, QuietOption, VerboseOption


def bench_dedup(
    pairs: Annotated[
        Path | None,
        typer.Option("--pairs", metavar="FILE", help="JSON Lines of {id, a, b, label, kind} [237 of the package]."),
    ] = None,
    model: ModelOption = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Another near threshold than the model's.")
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001 - nothing but the result is printed
    verbose: VerboseOption = False,  # noqa: ARG001 - read by the error boundary
) -> None:
    """Measure how well dedup decides on labelled pairs.

    Precision, recall and false merges, by kind, beside two baselines. Each pair goes through the decision of ingest,
    the first text as stored, the second as new. `label` is duplicate or distinct; `kind` is any word to group by.

    Example: memcli bench dedup --pairs fixtures/dedup_pairs.jsonl
    """
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands.bench_dedup import bench_dedup as measure  # noqa: PLC0415 - as above

    result = measure(pairs, model, threshold, os.environ)
    if as_json:
        render.print_json(result.to_json())
    else:
        render.show_dedup_benchmark(result)
