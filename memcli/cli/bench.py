"""`memcli bench` as flags."""

from __future__ import annotations

from typing import Annotated

import typer

from memcli.cli.options import JsonOption, QuietOption, VerboseOption

bench_app = typer.Typer(help="Measure memcli on this machine.", no_args_is_help=True, rich_markup_mode=None)


@bench_app.command("ingest")
def bench_ingest(
    messages: Annotated[int, typer.Option(min=1, help="Messages to generate.")] = 50_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same corpus.")] = 7,
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001 - there is no progress here to leave out
    verbose: VerboseOption = False,  # noqa: ARG001 - read by the error boundary
) -> None:
    """Ingest generated messages in a process of its own: messages per second, time per stage, peak memory.

    Example: memcli bench ingest --messages 10000
    """
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.bench.ingest import bench_ingest as measure  # noqa: PLC0415 - as above

    result = measure(messages, seed)
    if as_json:
        render.print_json(result.to_json())
    else:
        render.show_ingest_benchmark(result)
