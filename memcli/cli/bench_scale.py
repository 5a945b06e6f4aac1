"""`memcli bench scale` as flags."""

from __future__ import annotations

from typing import Annotated

import typer

from memcli.cli.options import JsonOption, QuietOption, VerboseOption
from memcli.errors import UsageError

_LEAST = 10


def bench_scale(
    sizes: Annotated[
        str, typer.Option("--sizes", metavar="N,N,...", help="Numbers of messages.")
    ] = "10000,100000,1000000",
    seed: Annotated[int, typer.Option(help="The same seed gives the same messages.")] = 7,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,  # noqa: ARG001 - read by the error boundary
) -> None:
    """Measure how time, memory and file size of ingest grow.

    Each number of generated messages, a fifth of them duplicates of some kind, goes into a new database; a run with
    nothing new and one with 100 messages more follow. Shown is the exponent of each growth: 1 is linear, and only
    dedup, an exact product of everything with everything, should be above. A million takes half an hour and 4 GB of
    disk, all of it deleted afterwards.

    Example: memcli bench scale --sizes 10000,100000
    """
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.bench.scale import Plan  # noqa: PLC0415 - as above
    from memcli.bench.scale import bench_scale as measure  # noqa: PLC0415 - as above

    document = measure(Plan(_sizes(sizes), seed, quiet), lambda text: None if quiet else render.announce(text))
    if as_json:
        render.print_json(document)
    else:
        render.show_scale_benchmark(document)


def _sizes(text: str) -> list[int]:
    try:
        found = [int(each.replace("_", "")) for each in text.split(",")]
    except ValueError as error:
        raise UsageError(f"--sizes {text}: not whole numbers", "for example --sizes 10000,100000") from error
    if min(found) < _LEAST:
        raise UsageError(f"--sizes {text}: fewer than {_LEAST} messages", "for example --sizes 10000,100000")
    return found
