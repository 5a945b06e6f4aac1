"""The reports of a reindex."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.text import Text

from memcli.render.layout import number_of
from memcli.render.terminal import safe, show

if TYPE_CHECKING:
    from memcli.maintain.care import CareReport, CheckReport
    from memcli.maintain.compress import CompressionReport
    from memcli.maintain.reindex import ReindexReport


def show_reindex(report: ReindexReport) -> None:
    """Print what a reindex did."""
    db, model = safe(report.db), safe(report.model)
    if report.run_id is None:
        show([Text(f"Nothing to do: {db} was made with {model}.", style="dim")])
        return
    memories = number_of(report.memories, "memory", "memories")
    resumed = f", {report.resumed:,} by an earlier run" if report.resumed else ""
    lines = [
        Text(f"{memories}: {report.embedded:,} embedded, {report.reused:,} reused{resumed}."),
        Text(f"{report.seconds:.2f} s: embed {report.timings['embed']:.2f}, commit {report.timings['commit']:.2f}."),
    ]
    if report.compression is not None:
        lines += [Text(line) for line in _compression(report.compression)]
    if report.embed_calls:
        cost = f", ${report.cost_usd:.4f}" if report.cost_usd else ""
        lines.append(Text(f"{number_of(report.embed_calls, 'call')}, {number_of(report.embed_tokens, 'token')}{cost}."))
    closing = f"Dry run: {db} was not touched." if report.dry_run else f"Run {report.run_id}: {db} now uses {model}."
    show([*lines, Text(closing, style="dim")])


def _compression(found: CompressionReport) -> Iterator[str]:
    whole = 4 * found.vectors * found.dim_before
    yield (
        f"Vectors in the file: {_mb(found.index_before)} before, {_mb(found.index_after)} now"
        f"{_less(found.index_before, found.index_after)}; in memory for a scan: {_mb(found.scanned_after)}"
        f" (as float32 {_mb(whole)}{_less(whole, found.scanned_after)})."
    )
    yield f"File: {_mb(found.file_before)} before, {_mb(found.file_after)} now."
    if found.recall_at_10 is not None:
        yield f"Recall of the ten nearest: {found.recall_at_10:.4f} ({found.queries:,} queries, all vectors compared)."
    if found.energy is not None:
        yield f"The basis keeps {found.energy:.1%} of the squared length."
    if found.rss_before is not None and found.rss_after is not None:
        yield f"A search takes {_mb(found.rss_after)} of memory, before {_mb(found.rss_before)}."


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _less(before: int, after: int) -> str:
    return f", {1 - after / before:.0%} less" if before else ""


def show_care(report: CareReport) -> None:
    """Print what was done for an index."""
    db = safe(report.db)
    lines = []
    if report.unfinished:
        lines.append(Text("A move to another model was not finished; its vectors wait for the same command."))
    if report.run_id is None:
        show([*lines, Text(f"Nothing to do: the index of {db} is as it was left.", style="dim")])
        return
    lines.append(
        Text(
            f"{number_of(report.vectors, 'vector')} in {number_of(report.segments, 'segment')}, before"
            f" {report.segments_before:,};"
            f" {report.dropped:,} of no memory dropped, {report.embedded:,} that lacked embedded."
        )
    )
    mended = f", {number_of(report.words, 'entry', 'entries')} mended" if report.words else ""
    lines.append(Text(f"Keyword index in one piece{mended}. {report.seconds:.2f} s."))
    if report.file_after < report.file_before:
        lines.append(Text(f"File: {_mb(report.file_before)} before, {_mb(report.file_after)} now."))
    closing = f"Dry run: {db} was not touched." if report.dry_run else f"Run {report.run_id} on {db}."
    show([*lines, Text(closing, style="dim")])


def show_check(report: CheckReport) -> None:
    """Print what is wrong with an index."""
    lines = [
        Text(
            f"{number_of(report.vectors, 'vector')} in {number_of(report.segments, 'segment')},"
            f" {report.words:,} in the keyword index."
        )
    ]
    lines += [Text(f"fault: {safe(each)}") for each in report.problems]
    lines += [Text(f"note: {safe(each)}") for each in report.advice]
    if report.kept is not None:
        lines.append(
            Text(f"The basis keeps {report.kept:.1%} of new texts, {report.kept_when_fitted or 0:.1%} at first.")
        )
    if not report.problems:
        lines.append(Text(f"{safe(report.db)} is as it should be.", style="dim"))
    show(lines)
