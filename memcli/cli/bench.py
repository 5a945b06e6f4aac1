"""`memcli bench` as flags."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from memcli.cli.bench_dedup import bench_dedup
from memcli.cli.bench_parallel import bench_parallel
from memcli.cli.bench_report import bench_report
from memcli.cli.bench_scale import bench_scale
from memcli.cli.bench_scan import bench_scan
from memcli.cli.bench_search import bench_search
from memcli.cli.options import JsonOption, ModelOption, QuietOption, VerboseOption

bench_app = typer.Typer(rich_markup_mode=None)
bench_app.callback(invoke_without_command=True)(bench_report)
bench_app.command("dedup")(bench_dedup)
bench_app.command("scan")(bench_scan)
bench_app.command("search")(bench_search)
bench_app.command("parallel")(bench_parallel)
bench_app.command("scale")(bench_scale)


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
    """Measure ingest: messages per second, stages, memory.

    The messages are generated. Four runs, each a process of its own: a first run, one with nothing new, one with 1 %
    more messages, and a first run of a tenth of the messages, which shows how memory grows.

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


@bench_app.command("embed")
def bench_embed(
    model: ModelOption = None,
    texts: Annotated[int | None, typer.Option(min=1, help="Texts to embed [10000; for a transformer 256].")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same texts.")] = 7,
    repeat: Annotated[int, typer.Option(min=1, help="Rounds; the fastest counts.")] = 3,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts per run of the model.")] = 64,
    baseline: Annotated[
        Path | None, typer.Option("--compare", metavar="FILE", help="An earlier --json, of this or another model.")
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,  # noqa: ARG001 - read by the error boundary
) -> None:
    """Measure a local embedding model: speed and memory.

    One text at a time, then what running it in parallel brings, then what batches bring, and how near they come to the
    tokenizer and the graph alone. Each is a process of its own and runs the embedder that ingest uses.

    Example: memcli bench embed --model all-MiniLM-L6-v2 --compare default.json
    """
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands import bench as command  # noqa: PLC0415 - as above: numpy

    request = command.Speed(model, texts, seed, repeat, batch_size, baseline)
    document = command.embed(request, os.environ, lambda text: None if quiet else render.announce(text))
    if as_json:
        render.print_json(document)
    else:
        render.show_embed_benchmark(document)


@bench_app.command("quality")
def bench_quality(
    more_sts: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE.csv", help="More files for --sts.", show_default=False)
    ] = None,
    model: ModelOption = None,
    sts: Annotated[
        list[Path] | None,
        typer.Option("--sts", metavar="FILE.csv", help="Rows of sentence1,sentence2,score; no header line."),
    ] = None,
    pairs: Annotated[
        list[Path] | None,
        typer.Option("--pairs", metavar="FILE.jsonl", help='Lines of {"a", "b", "label": "duplicate" or "distinct"}.'),
    ] = None,
    retrieval: Annotated[
        list[Path] | None,
        typer.Option("--retrieval", metavar="FILE.jsonl", help='Lines of {"query", "positive"}.'),
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,  # noqa: ARG001 - read by the error boundary
) -> None:
    """Score an embedding model on labelled data.

    Similarity, duplicates, retrieval. Similarity is Spearman's rank correlation of cosines and scores. For pairs: the
    best F1 that any threshold reaches, and the average precision. For retrieval: how often the first hit, or one of the
    first ten, answers the query, among all positives of the file.

    Example: memcli bench quality --sts stsb-dev.csv
    """
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.bench.quality import Question  # noqa: PLC0415 - as above: numpy
    from memcli.commands import bench as command  # noqa: PLC0415 - as above

    question = Question([*(sts or []), *(more_sts or [])], pairs or [], retrieval or [])
    document = command.quality(model, question, os.environ, lambda text: None if quiet else render.announce(text))
    if as_json:
        render.print_json(document)
    else:
        render.show_quality(document)
