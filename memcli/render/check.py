"""The reports of a check and a backup."""

from __future__ import annotations

import textwrap
from itertools import groupby
from typing import TYPE_CHECKING

from rich.text import Text

from memcli.render.layout import bytes_of, number_of, width_of_output
from memcli.render.terminal import one_line, safe, show

if TYPE_CHECKING:
    from memcli.maintain.backup import BackupReport
    from memcli.maintain.check import CheckReport
    from memcli.maintain.check_repair import RepairReport
    from memcli.store.check import Finding

_INDENT = " " * 9
# Of the tables whose names have another plural than with an s.
_ONE = {"memories": "memory", "provenance": "provenance"}


def show_checked(report: CheckReport) -> None:
    """Print what is wrong with a database, worst first, and what to do."""
    looked_at = ", ".join(number_of(n, _ONE.get(name, name[:-1]), name) for name, n in report.rows.items())
    lines = [Text(f"{looked_at or 'Nothing could be'} checked.")]
    worst_first = sorted(report.findings, key=lambda each: (each.warning, each.derived))
    for todo, alike in groupby(worst_first, key=lambda each: each.todo):
        lines += [Text(line) for finding in alike for line in _lines(finding)]
        lines += [Text(line, style="dim") for line in _wrapped(one_line(todo), _INDENT)]
    lines += [
        Text(f"{_INDENT}and {count:,} more in {safe(table or 'the file')}") for table, count in report.more.items()
    ]
    if report.faults:
        lines.append(Text(f"{number_of(report.faults, 'fault')}, {report.repairable:,} of them repairable."))
    else:
        lines.append(Text(f"{safe(report.db)} is as it should be. {report.seconds:.2f} s.", style="dim"))
    show(lines)


def show_repaired(report: RepairReport) -> None:
    """Print what a repair did, then what is wrong still."""
    if not report.before.faults:
        show([Text(f"Nothing to do: {safe(report.db)} is as it should be.", style="dim")])
        return
    show([Text(line) for each in report.done for line in _wrapped(one_line(each), "repair   ")])
    show_checked(report.after)
    if report.dry_run:
        show([Text(f"Dry run: {safe(report.db)} was not touched.", style="dim")])


def _lines(finding: Finding) -> list[str]:
    place = " ".join(str(each) for each in (finding.table, finding.row) if each not in {"", None})
    told = f"{one_line(place)}: {one_line(finding.wrong)}" if place else one_line(finding.wrong)
    return _wrapped(told, f"{'warning' if finding.warning else 'fault':<9}")


def _wrapped(text: str, head: str) -> list[str]:
    # A path stays in one piece, to be copied.
    return textwrap.wrap(
        text,
        width_of_output(),
        initial_indent=head,
        subsequent_indent=_INDENT,
        break_on_hyphens=False,
        break_long_words=False,
    )


def show_backup(report: BackupReport) -> None:
    """Print where the copy is."""
    found = "damaged as the database is" if report.faults else "verified"
    show([Text(f"{safe(report.file)}: {bytes_of(report.size)}, {found}. {report.seconds:.2f} s.")])
