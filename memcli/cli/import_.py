"""`memcli import` as flags."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from memcli.cli.options import (
    AgentOption,
    BaseUrlOption,
    ConfigOption,
    DbOption,
    DryRunOption,
    EmbedBatchSizeOption,
    JsonOption,
    MaxMemoryOption,
    NewModelOption,
    QuietOption,
    RedactOption,
    VerboseOption,
    WaitOption,
    WorkersOption,
)
from memcli.cli.options import settings as load_settings
from memcli.errors import InputRejectedError


def import_(
    paths: Annotated[
        list[str], typer.Argument(metavar="FILE", help="Exports, lines of JSON, databases, or - for stdin.")
    ],
    vectors: Annotated[
        Path | None,
        typer.Option("--with-vectors", metavar="FILE.npz", help="Take vectors from there instead of embedding."),
    ] = None,
    agent: AgentOption = None,
    redact: RedactOption = None,
    model: NewModelOption = None,
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
    """Add memories: exports, other databases, lines of JSON.

    Lines are objects with content and, if you like, id, importance and metadata.

    Example: memcli import laptop.db
    """
    flags = {
        "db": db,
        "agent": agent,
        "redact": redact,
        "model": model,
        "batch_size": batch_size,
        "embed_batch_size": embed_batch_size,
        "base_url": base_url,
        "max_memory": max_memory,
        "workers": workers,
        "wait": wait,
    }
    settings, _ = load_settings(config, flags)
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands import exchange as command  # noqa: PLC0415 - as above: numpy

    progress = render.ConsoleProgress(quiet=quiet, verbose=verbose, unit="memories")
    try:
        report = command.import_files(settings, paths, vectors, progress, os.environ, dry_run=dry_run)
    finally:
        progress.finish()
    if as_json:
        render.print_json(report.to_json())
    else:
        render.show_import(report)
    render.explain_rejected_lines(report.rejections, report.rejected)
    if report.rejected:
        kept = "the table rejected_lines keeps where and why"
        todo = f"all else is done; {kept}" if report.memories else f"transcripts are for memcli ingest; {kept}"
        raise InputRejectedError(f"not taken: lines {report.rejected:,}", todo)
