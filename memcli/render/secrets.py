"""What a scan for credentials found; never the credentials."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from memcli.render.layout import number_of
from memcli.render.terminal import safe, show

if TYPE_CHECKING:
    from memcli.maintain.secrets import SecretsReport

_SHOWN = 50


def show_secrets(report: SecretsReport) -> None:
    """Print kind, table, column and row of each credential, and what to do."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for leak in report.found[:_SHOWN]:
        times = f"{leak.count:,} times" if leak.count > 1 else ""
        table.add_row(safe(leak.kind), safe(f"{leak.table}.{leak.column}"), safe(leak.row), times)
    looked = f"{number_of(report.texts, 'text')} of {safe(report.db)} looked at, {report.seconds:.2f} s."
    if not report.found:
        show([Text(f"No credentials found. {looked}", style="dim")])
        return
    more = [Text(f"and {len(report.found) - _SHOWN:,} more rows; --json has all")] if len(report.found) > _SHOWN else []
    kinds = ", ".join(f"{safe(kind)} {count:,}" for kind, count in report.kinds.most_common())
    todo = "Change the credentials, then remove them: memcli forget --session KEY, or memcli forget --text - --yes"
    show([table, *more, Text(kinds), Text(todo), Text(looked, style="dim")])
