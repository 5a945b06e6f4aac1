"""The report of an ingest run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from memcli.render.layout import number_of, usd
from memcli.render.terminal import in_batches, safe, show

if TYPE_CHECKING:
    from memcli.config import Profile
    from memcli.cost import Outcome
    from memcli.ingest.asking import TierTally
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
    for tier, tally in report.models.items():
        table.add_row(f"  {tier}", f"{tally.done:,}", _asked(tally, dry_run=report.dry_run))
    if report.profile is not None and report.outcome is not None:
        table.add_row("  expected", "", _compared(report.profile, report.outcome))
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
    text = f"{number_of(report.embed_reused, 'embedding')} reused"
    if report.embed_calls:
        text += f", {number_of(report.embed_calls, 'call')}, {number_of(report.embed_tokens, 'token')}"
    return text + (f", {usd(report.embed_cost_usd)}" if report.embed_cost_usd else "")


def _asked(tally: TierTally, *, dry_run: bool) -> str:
    """What a model tier did, in words; only what there is to tell."""
    rejected = sum(tally.rejected.values())
    cost = f", {usd(tally.cost_usd)}" if tally.priced else ", price unknown"
    said = [
        f"{number_of(tally.calls, 'call')}, {number_of(tally.tokens_in + tally.tokens_out, 'token')}{cost}"
        if tally.calls
        else "no calls",
        f"{tally.lost:,} of them never answered" if tally.lost else "",
        f"{number_of(tally.reused, 'answer')} reused" if tally.reused else "",
        number_of(tally.statements, "statement"),
        f"{rejected:,} rejected ({counted(tally.rejected)})" if rejected else "",
        f"{tally.failed:,} failed" if tally.failed else "",
        f"{tally.permanent:,} given up" if tally.permanent else "",
        f"{tally.waiting:,} {'left out' if dry_run else 'not asked'}" if tally.waiting else "",
        f"{tally.too_short:,} too short" if tally.too_short else "",
    ]
    return ", ".join(filter(None, said))


def _compared(profile: Profile, outcome: Outcome) -> str:
    """What came out of a window beside what the profile expects."""
    name = safe(profile.name)
    window, each = (
        "" if number is None else f" ({name} expects {number:,})"
        for number in (profile.expected_memories, profile.expected_tokens)
    )
    said = [
        f"{outcome.per_window or 0:.1f} new memories a window{window}",
        "" if outcome.tokens_each is None else f"{outcome.tokens_each:,.0f} tokens each{each}",
        "" if outcome.tokens_per_memory is None else f"{outcome.tokens_per_memory:,.0f} tokens paid for one",
    ]
    return ", ".join(filter(None, said))


def _closing(report: IngestReport) -> str:
    if report.dry_run:
        return f"Dry run: {safe(report.db)} was not touched."
    if report.run_id is None and not report.files.seen:
        return "No transcript found. What is looked for, and where: memcli formats"
    if report.run_id is None and report.files.failed:
        return f"Nothing was taken into {safe(report.db)}."
    if report.run_id is None:
        return f"Nothing new; {safe(report.db)} is up to date."
    stopped = f" Stopped by {report.stopped}; run it again to go on." if report.stopped else ""
    return f"Run {report.run_id} in {in_batches(report.batches)} into {safe(report.db)}.{stopped}"


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


def explain_failures(report: IngestReport) -> None:
    """Write to stderr which windows a model tier failed on, and why."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    for window_id, tier, reason in report.failures:
        console.print(Text(f"window {window_id}, {tier}: {safe(reason)}"))
    if (more := report.windows_failed - len(report.failures)) > 0:
        console.print(Text(f"... and {number_of(more, 'more window')}: see the table window_tiers"))


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
        console.print(Text(f"... and {number_of(more, 'more rejected line')}: see the table rejected_lines"))
