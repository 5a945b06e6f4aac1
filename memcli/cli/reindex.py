"""`memcli reindex` as flags."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from memcli.cli.options import (
    ConfigOption,
    DbOption,
    DryRunOption,
    JsonOption,
    MaxMemoryOption,
    QuietOption,
    VerboseOption,
    WaitOption,
    WorkersOption,
)
from memcli.cli.options import settings as load_settings


def reindex(
    model: Annotated[str, typer.Option("--model", metavar="NAME", help="One of memcli model, or openai:NAME.")],
    batch_size: Annotated[int | None, typer.Option(help="Memories per transaction [1024].")] = None,
    embed_batch_size: Annotated[int | None, typer.Option(help="Texts per run of the embedding model [64].")] = None,
    base_url: Annotated[
        str | None, typer.Option("--base-url", metavar="URL", help="Where an openai:NAME model is asked [OpenAI].")
    ] = None,
    max_memory: MaxMemoryOption = None,
    workers: WorkersOption = None,
    wait: WaitOption = None,
    dry_run: DryRunOption = False,
    db: DbOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Embed all memories with another model, then move the database to it.

    The old vectors serve until all new ones are there; what is interrupted goes on with the next call.

    Example: memcli reindex --model default
    """
    flags = {
        "db": db,
        "batch_size": batch_size,
        "embed_batch_size": embed_batch_size,
        "base_url": base_url,
        "max_memory": max_memory,
        "workers": workers,
        "wait": wait,
    }
    settings, _ = load_settings(config, flags)
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands import reindex as command  # noqa: PLC0415 - as above: numpy

    progress = render.ConsoleProgress(quiet=quiet, verbose=verbose, unit="memories")
    try:
        report = command.reindex(settings, model, progress, os.environ, dry_run=dry_run)
    finally:
        progress.finish()
    if as_json:
        render.print_json(report.to_json())
    else:
        render.show_reindex(report)
