"""`memcli reindex` as flags."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from memcli.cli.options import (
    BaseUrlOption,
    ConfigOption,
    DbOption,
    DryRunOption,
    EmbedBatchSizeOption,
    JsonOption,
    MaxMemoryOption,
    QuietOption,
    VerboseOption,
    WaitOption,
    WorkersOption,
)
from memcli.cli.options import settings as load_settings
from memcli.errors import DamagedError, UsageError

if TYPE_CHECKING:
    from memcli.maintain.care import CheckReport


def reindex(
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME", help="Move to one of memcli model, or openai:NAME.")
    ] = None,
    compress: Annotated[
        str | None,
        typer.Option(
            metavar="HOW", help="Compress the vectors: int8, int7, float16, pca:DIMS; none has them whole again."
        ),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only verify the index.")] = False,
    batch_size: Annotated[int | None, typer.Option(help="Memories per transaction [1024].")] = None,
    embed_batch_size: EmbedBatchSizeOption = None,
    base_url: BaseUrlOption = None,
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
    """Mend and compact the index, or make it anew.

    Without --model and --compress: compact it, drop vectors of no memory, mend the keyword index; nothing to do costs
    nothing. With one of them the old vectors serve until all new ones are there; what is interrupted goes on with the
    next call.

    Example: memcli reindex --compress int8
    """
    if (model is not None) + (compress is not None) + check > 1:
        raise UsageError("--model, --compress and --check are three things to do", "name one of them")
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

    if check:
        _show_check(command.check(settings, os.environ), as_json=as_json)
        return
    progress = render.ConsoleProgress(quiet=quiet, verbose=verbose, unit="memories")
    try:
        if model is None and compress is None:
            cared = command.care(settings, progress, os.environ, dry_run=dry_run)
            document, show = cared.to_json(), partial(render.show_care, cared)
        else:
            moved = (
                command.reindex(settings, model, progress, os.environ, dry_run=dry_run)
                if model is not None
                else command.compress(settings, compress or "", progress, os.environ, dry_run=dry_run)
            )
            document, show = moved.to_json(), partial(render.show_reindex, moved)
    finally:
        progress.finish()
    if as_json:
        render.print_json(document)
    else:
        show()


def _show_check(report: CheckReport, *, as_json: bool) -> None:
    from memcli import render  # noqa: PLC0415 - keeps --help fast

    if as_json:
        render.print_json(report.to_json())
    else:
        render.show_check(report)
    if report.problems:
        raise DamagedError(
            f"the index has faults: {len(report.problems):,}", "mend it with memcli reindex, or restore a backup"
        )
