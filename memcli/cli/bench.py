"""`memcli bench` as flags."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memcli.cli.bench_dedup import bench_dedup
from memcli.cli.options import JsonOption, QuietOption, VerboseOption

bench_app = typer.Typer(help="Measure memcli on this machine.", no_args_is_help=True, rich_markup_mode=None)
bench_app.command("dedup")(bench_dedup)


@bench_app.command("ingest")
def bench_ingest(
    messages: Annotated[int, typer.Option(min=10, help="Messages to generate.")] = 50_000,
    files: Annotated[int, typer.Option(min=1, help="Files that they are in.")] = 1000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same messages.")] = 7,
    repeat: Annotated[int, typer.Option(min=1, help="Rounds; figures are medians over them.")] = 1,
    baseline: Annotated[
        Path | None, typer.Option("--compare", metavar="FILE", help="An earlier --json, to show what became worse.")
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,  # noqa: ARG001 - read by the error boundary
) -> None:
    """Measure ingest on generated messages: messages per second, time per stage, peak memory.

    Four runs, each a process of its own: a first run, one with nothing new, one with 1 % more messages, and a first
    run of a tenth of the messages, which shows how memory grows.

    Example: memcli bench ingest --messages 10000 --repeat 3
    """
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.bench.compare import compare, read_baseline  # noqa: PLC0415 - as above
    from memcli.bench.ingest import Plan  # noqa: PLC0415 - as above
    from memcli.bench.ingest import bench_ingest as measure  # noqa: PLC0415 - as above

    plan = Plan(messages, files, seed, repeat)
    before = read_baseline(baseline, plan) if baseline is not None else None
    result = measure(plan, lambda text: None if quiet else render.announce(text))
    document = result.to_json()
    comparisons = compare(before, document) if before is not None else None
    if as_json:
        extra = {} if comparisons is None else {"comparison": [each.to_json() for each in comparisons]}
        render.print_json(document | extra)
    else:
        render.show_ingest_benchmark(document, comparisons, before)
