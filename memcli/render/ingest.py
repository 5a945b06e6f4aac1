"""The report of an ingest run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from memcli.render.terminal import safe, show

if TYPE_CHECKING:
    from memcli.ingest.report import IngestReport


def show_ingest(report: IngestReport) -> None:
    """Print the report of an ingest run."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")
    files = report.files
    table.add_row("files", f"{files.seen:,}", f"{files.read:,} read, {files.unchanged:,} unchanged{_failed(report)}")
    if files.formats:
        table.add_row("  taken for", "", counted(files.formats))
    if report.run_id is not None or report.lines_read:
        _add_work(table, report)
    show([table, Text(_closing(report), style="dim")])


def _add_work(table: Table, report: IngestReport) -> None:
    table.add_row("lines", f"{report.lines_read:,}", _lines(report))
    filtered = sum(report.filtered.values())
    table.add_row(
        "messages",
        f"{report.messages_read:,}",
        f"{report.messages_new:,} new, {report.messages_duplicate:,} known, {report.pending:,} pending",
    )
    table.add_row("  dropped", f"{filtered:,}", counted(report.filtered))
    if report.redacted:
        table.add_row("  redacted", f"{sum(report.redacted.values()):,}", counted(report.redacted))
    skipped = report.windows_skipped_by_rate
    table.add_row("windows", f"{report.windows_processed:,}", f"{skipped:,} skipped by rate" if skipped else "")
    table.add_row(
        "memories",
        f"{report.created:,}",
        f"{report.merged_exact:,} exact and {report.merged_near:,} near duplicates merged, {report.review:,} to review",
    )
    table.add_row("embedded", f"{report.embedded:,}", _embedded(report))
    table.add_row(
        "time", f"{report.seconds:.2f} s", ", ".join(f"{name} {part:.2f}" for name, part in report.timings.items())
    )


def _embedded(report: IngestReport) -> str:
    text = f"{report.embed_reused:,} embeddings reused"
    if report.embed_calls:
        text += f", {report.embed_calls:,} calls, {report.embed_tokens:,} tokens"
    return text + (f", ${report.cost_usd:.4f}" if report.cost_usd else "")


def _closing(report: IngestReport) -> str:
    if report.dry_run:
        return f"Dry run: {safe(report.db)} was not touched."
    if report.run_id is None and not report.files.seen:
        return "No transcript found."
    if report.run_id is None and report.files.failed:
        return f"Nothing was taken into {safe(report.db)}."
    if report.run_id is None:
        return f"Nothing new; {safe(report.db)} is up to date."
    stopped = f" Stopped by {report.stopped}; run it again to go on." if report.stopped else ""
    return f"Run {report.run_id} in {report.batches:,} batches into {safe(report.db)}.{stopped}"


def _failed(report: IngestReport) -> str:
    failed, unknown = len(report.files.failed), len(report.files.unknown)
    return (f", {failed:,} failed" if failed else "") + (f", {unknown:,} no transcripts" if unknown else "")


def _lines(report: IngestReport) -> str:
    text = counted(report.skipped)
    skipped = f"{sum(report.skipped.values()):,} no messages ({text})" if report.skipped else ""
    return ", ".join(filter(None, [skipped, f"{report.rejected:,} rejected" if report.rejected else ""]))


def counted(counts: Mapping[str, int], most: int = 6) -> str:
    """Names and counts, largest first; the rest summed up."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{safe(name)} {count:,}" for name, count in ranked[:most]]
    rest = sum(count for _, count in ranked[most:])
    return ", ".join([*shown, f"others {rest:,}"] if rest else shown)


def explain_rejected(report: IngestReport) -> None:
    """Write to stderr what of a run's input was not taken, and why."""
    explain_rejected_lines(report.rejections, report.rejected)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    for path, reason in report.files.failed:
        console.print(Text(f"{safe(path)}: {safe(reason)}"))


def explain_rejected_lines(rejections: Sequence[tuple[str, int, str]], rejected: int) -> None:
    """Write to stderr the first of the rejected lines, as (path, line, reason), and how many more there are."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    for path, line, reason in rejections:
        console.print(Text(f"{safe(path)}:{line}: {safe(reason)}"))
    if rejected > len(rejections):
        more = rejected - len(rejections)
        console.print(Text(f"... and {more:,} more rejected lines: see the table rejected_lines"))
