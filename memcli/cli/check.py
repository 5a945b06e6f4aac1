"""`memcli check` as flags."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from memcli.cli.options import (
    ConfigOption,
    DbOption,
    DryRunOption,
    JsonOption,
    QuietOption,
    VerboseOption,
    WaitOption,
)
from memcli.cli.options import settings as load_settings
from memcli.errors import DamagedError, UsageError

if TYPE_CHECKING:
    from memcli.config import Config
    from memcli.maintain.check import CheckReport


def check(
    repair: Annotated[bool, typer.Option("--repair", help="Make again what is derived; make a backup first.")] = False,
    secrets: Annotated[
        bool, typer.Option("--secrets", help="Look for credentials instead; says where they are, not what.")
    ] = False,
    wait: WaitOption = None,
    dry_run: DryRunOption = False,
    db: DbOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Verify the database and its embedding model, row by row.

    Nothing is changed, and other commands may be at work meanwhile. Faults end with exit code 8, warnings do not.
    --repair makes again what follows from the rest (index, keywords, vectors, tags, caches), and nothing else: run
    memcli backup --even-damaged FILE first.

    Example: memcli check
    """
    if dry_run and not repair:
        raise UsageError("--dry-run is for --repair: without it nothing is changed anyway", "leave it out")
    if secrets and repair:
        raise UsageError("--secrets does not go with --repair", "one at a time")
    settings, _ = load_settings(config, {"db": db, "wait": wait})
    if secrets:
        _find_secrets(settings, as_json=as_json, quiet=quiet, verbose=verbose)
        return
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands import check as command  # noqa: PLC0415 - as above: numpy

    progress = render.ConsoleProgress(quiet=quiet, verbose=verbose, unit="rows")
    try:
        if not repair:
            report = command.check(settings, progress, os.environ)
            _show(report, as_json=as_json)
            return
        repaired = command.repair(settings, progress, os.environ, dry_run=dry_run)
    finally:
        progress.finish()
    if as_json:
        render.print_json(repaired.to_json())
    else:
        render.show_repaired(repaired)
    _end(repaired.after)


def _find_secrets(settings: Config, *, as_json: bool, quiet: bool, verbose: bool) -> None:
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands.secrets import find_secrets  # noqa: PLC0415 - as above

    progress = render.ConsoleProgress(quiet=quiet, verbose=verbose, unit="texts")
    try:
        report = find_secrets(settings, progress)
    finally:
        progress.finish()
    if as_json:
        render.print_json(report.to_json())
    else:
        render.show_secrets(report)


def _show(report: CheckReport, *, as_json: bool) -> None:
    from memcli import render  # noqa: PLC0415 - keeps --help fast

    if as_json:
        render.print_json(report.to_json())
    else:
        render.show_checked(report)
    _end(report)


def _end(report: CheckReport) -> None:
    if report.faults:
        hint = "mend what can be mended with memcli check --repair" if report.repairable else "restore a backup"
        raise DamagedError(f"{report.db} has faults: {report.faults:,}", hint)
