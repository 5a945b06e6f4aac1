"""`memcli backup` as flags."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memcli.cli.options import ConfigOption, DbOption, JsonOption, QuietOption, VerboseOption
from memcli.cli.options import settings as load_settings


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to put the copy.")],
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it is there.")] = False,
    even_damaged: Annotated[
        bool, typer.Option("--even-damaged", help="Keep the copy of a damaged database, too.")
    ] = False,
    db: DbOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Copy the database, while others may read and write it.

    The copy is of one commit, is verified before it gets its name, and only you may read it.

    Example: memcli backup ~/backups/memory-2026-03-05.db
    """
    settings, _ = load_settings(config, {"db": db})
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands import backup as command  # noqa: PLC0415 - as above

    progress = render.ConsoleProgress(quiet=quiet, verbose=verbose, unit="pages")
    try:
        report = command.backup(settings, file, progress, force=force, even_damaged=even_damaged)
    finally:
        progress.finish()
    for fault in report.faults:
        progress.note(f"the copy is damaged as the database is: {fault}")
    if as_json:
        render.print_json(report.to_json())
    elif not quiet:
        render.show_backup(report)
