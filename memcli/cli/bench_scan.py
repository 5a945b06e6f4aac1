"""`memcli bench scan` as flags."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memcli.cli.options import JsonOption, QuietOption, VerboseOption


def bench_scan(
    n: Annotated[int | None, typer.Option(min=2, help="Vectors, or lines with --templated [100000].")] = None,
    dim: Annotated[int | None, typer.Option(min=1, help="Dimensions of generated vectors [256].")] = None,
    threshold: Annotated[float, typer.Option(min=-1, max=1, help="The least similarity of a pair.")] = 0.9,
    vectors: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Your vectors, a .npy matrix, instead of generated ones.")
    ] = None,
    templated: Annotated[
        bool, typer.Option("--templated", help="Instead: ingest lines that differ by one number, or not at all.")
    ] = False,
    alone: Annotated[bool, typer.Option("--alone", help="Leave out numpy and SemHash.")] = False,
    seed: Annotated[int, typer.Option(help="The same seed gives the same vectors.")] = 7,
    repeat: Annotated[int, typer.Option(min=1, help="Rounds; the least time of each counts.")] = 2,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,  # noqa: ARG001 - read by the error boundary
) -> None:
    """Measure the search for similar pairs, beside others.

    Seconds, pairs found and missed, and peak memory, beside numpy and SemHash. All pairs among vectors of length one,
    each way in a process of its own, in turns, on the same vectors. SemHash takes part when it is installed: pip
    install 'memcli[bench]'.

    Example: memcli bench scan --n 20000
    """
    from memcli import render  # noqa: PLC0415 - keeps --help fast

    def announce(text: str) -> None:
        if not quiet:
            render.announce(text)

    if templated:
        from memcli.bench.templated import bench_templated  # noqa: PLC0415 - as above

        document = bench_templated(n or 100_000, announce)
        shown = render.show_templated_benchmark
    else:
        from memcli.bench.scan import Plan  # noqa: PLC0415 - as above
        from memcli.bench.scan import bench_scan as measure  # noqa: PLC0415 - as above

        document = measure(Plan(n, dim, threshold, vectors, seed, repeat, alone), announce).to_json()
        shown = render.show_scan_benchmark
    if as_json:
        render.print_json(document)
    else:
        shown(document)
