"""`memcli bench search` as flags."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from memcli.cli.options import JsonOption, QuietOption, VerboseOption
from memcli.errors import UsageError


def bench_search(
    locomo: Annotated[
        list[Path] | None, typer.Option("--locomo", metavar="FILE", help="Instead: recall on LoCoMo conversations.")
    ] = None,
    vectors: Annotated[
        bool, typer.Option("--vectors", help="Instead: only the vectors, beside numpy and other programs.")
    ] = False,
    zipf: Annotated[
        bool, typer.Option("--zipf", help="Instead: replay a log of queries with the query cache.")
    ] = False,
    n: Annotated[
        list[int] | None, typer.Option(min=100, help="Messages, or vectors [10000 and 100000; with --zipf 10000].")
    ] = None,
    queries: Annotated[int | None, typer.Option(min=2, help="Queries [100; with --zipf 10000].")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same messages, vectors and queries.")] = 7,
    repeat: Annotated[int, typer.Option(min=1, help="Rounds of --vectors; the fastest of each counts.")] = 2,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,  # noqa: ARG001 - read by the error boundary
) -> None:
    """Measure search: latency, recall, what the cache saves.

    Latency is that from the shell and that of a warm process. Messages are generated and ingested first. sqlite-vec,
    USearch and faiss take part in --vectors where they are installed: pip install 'memcli[bench]'.

    Example: memcli bench search --n 10000
    """
    if sum((bool(locomo), vectors, zipf)) > 1:
        raise UsageError("--locomo, --vectors and --zipf are benchmarks of their own", "run one after the other")
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands import bench_search as command  # noqa: PLC0415 - as above: numpy

    def announce(text: str) -> None:
        if not quiet:
            render.announce(text)

    if locomo:
        document, shown = command.locomo(locomo, os.environ, announce), render.show_locomo_benchmark
    elif vectors:
        from memcli.bench.search_vectors import SIZES, bench_vectors  # noqa: PLC0415 - as above

        document = bench_vectors(n or SIZES, queries or 100, repeat, seed, announce)
        shown = render.show_vectors_benchmark
    elif zipf:
        document = command.zipf((n or [10_000])[0], queries or 10_000, seed, os.environ, announce)
        shown = render.show_zipf_benchmark
    else:
        document = command.memories(n or (), queries or 100, seed, os.environ, announce)
        shown = render.show_search_benchmark
    if as_json:
        render.print_json(document)
    else:
        shown(document)
