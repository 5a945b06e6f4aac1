"""What was forgotten, or would be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from memcli.render.layout import number_of
from memcli.render.terminal import one_line, safe, show

if TYPE_CHECKING:
    from memcli.maintain.forget import ForgetReport

_SHOWN = 10
# What the user knows of; the other tables hang on these.
_TOLD = ("messages", "memories", "sessions", "rejected_lines", "model_answers", "files")


def show_forget(report: ForgetReport, *, asking: bool = False) -> None:
    """Print what went, by table, or, of a dry run, what would go and the first few of it.

    `asking` says that it is shown to somebody who is then asked, and did not wish for a dry run.
    """
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(justify="right")
    table.add_column(style="dim", overflow="fold")
    own = [name for name in _TOLD if name in report.rows]
    for name in (*own, *sorted(report.rows.keys() - set(own))):
        table.add_row(name, f"{report.rows[name]:,}", _names(report, name) if report.dry_run else "")
    if report.released or report.relinked:
        stay = f"{number_of(report.relinked, 'duplicate')} linked to them anew; memcli dedup compares them again"
        table.add_row("stay", f"{report.released:,}", f"memories whose winner goes; {stay}")
    if report.tombstones:
        table.add_row("tombstones", f"{report.tombstones:,}", "keyed hashes that keep it from coming back")
    for name, column, count in report.left:
        table.add_row("still in", f"{count:,}", f"rows of {safe(name)}.{safe(column)}")
    shown = report.memories[:_SHOWN] if report.dry_run else []
    for memory_id, content in shown:
        table.add_row(Text(str(memory_id), style="dim"), "", one_line(content))
    if shown and (more := report.rows.get("memories", 0) - len(shown)) > 0:
        table.add_row("", "", f"and {number_of(more, 'more memory', 'more memories')}")
    show([table] if asking else [table, Text(_closing(report), style="dim")])


def _names(report: ForgetReport, name: str) -> str:
    if name == "sessions":
        return _first([key for _, key in report.sessions])
    return _first(report.files) if name == "files" else ""


def _first(names: Sequence[str]) -> str:
    more = [f"and {len(names) - _SHOWN:,} more"] if len(names) > _SHOWN else []
    return ", ".join([*map(one_line, names[:_SHOWN]), *more])


def _closing(report: ForgetReport) -> str:
    db = safe(report.db)
    if report.dry_run:
        return f"Dry run: {db} was not touched."
    if report.finished:
        return f"An earlier run was finished: {db} was written anew."
    return (
        f"Run {report.run_id}: gone for good from {db}. Backups, exports and the transcripts themselves still have it."
    )
