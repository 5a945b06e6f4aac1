"""The report of a reindex."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from memcli.render.terminal import safe, show

if TYPE_CHECKING:
    from memcli.maintain.reindex import ReindexReport


def show_reindex(report: ReindexReport) -> None:
    """Print what a reindex did."""
    db, model = safe(report.db), safe(report.model)
    if report.run_id is None:
        show([Text(f"Nothing to do: {db} was made with {model}.", style="dim")])
        return
    resumed = f", {report.resumed:,} by an earlier run" if report.resumed else ""
    lines = [
        Text(f"{report.memories:,} memories: {report.embedded:,} embedded, {report.reused:,} reused{resumed}."),
        Text(f"{report.seconds:.2f} s: embed {report.timings['embed']:.2f}, commit {report.timings['commit']:.2f}."),
    ]
    if report.embed_calls:
        cost = f", ${report.cost_usd:.4f}" if report.cost_usd else ""
        lines.append(Text(f"{report.embed_calls:,} calls, {report.embed_tokens:,} tokens{cost}."))
    closing = f"Dry run: {db} was not touched." if report.dry_run else f"Run {report.run_id}: {db} now uses {model}."
    show([*lines, Text(closing, style="dim")])
