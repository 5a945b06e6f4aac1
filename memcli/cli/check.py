"""`memcli check` as flags."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from memcli.cli.options import ConfigOption, DbOption, JsonOption, QuietOption, VerboseOption
from memcli.cli.options import settings as load_settings
from memcli.errors import DamagedError

if TYPE_CHECKING:
    from memcli.maintain.check import CheckReport


def check(
    db: DbOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Verify the database and its embedding model, row by row.

    Nothing is changed, and other commands may be at work meanwhile. Faults end with exit code 8, warnings do not.

    Example: memcli check
    """
    settings, _ = load_settings(config, {"db": db})
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands import check as command  # noqa: PLC0415 - as above: numpy

    progress = render.ConsoleProgress(quiet=quiet, verbose=verbose, unit="rows")
    try:
        report = command.check(settings, progress, os.environ)
    finally:
        progress.finish()
    _show(report, as_json=as_json)


def _show(report: CheckReport, *, as_json: bool) -> None:
    from memcli import render  # noqa: PLC0415 - keeps --help fast

    if as_json:
        render.print_json(report.to_json())
    else:
        render.show_checked(report)
    if report.faults:
        hint = "mend what can be mended with memcli check --repair" if report.repairable else "restore a backup"
        raise DamagedError(f"{report.db} has faults: {report.faults:,}", hint)
