"""The recent batches over time: sparklines, the slowest, what failed, and the newest one by one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from memcli.render.layout import bar, cut, fitted, number_of, sparkline, usd, when, width_of_output
from memcli.render.terminal import one_line, safe, show

if TYPE_CHECKING:
    from memcli.stats import BatchStats
    from memcli.store.metrics import BatchTimes
    from memcli.store.monitor import Failure, WindowTimes

_SHOWN_BATCHES = 12
_SHOWN_FAILURES = 8
_AGENT = 14


def show_batches(stats: BatchStats) -> None:
    """Print the recent batches: their course as sparklines, the slowest, what failed, and the newest one by one."""
    if not stats.recent:
        show([Text("no batches yet")])
        return
    width, recent = width_of_output(), stats.recent
    lines = [
        Text(f"last {len(recent):,} of {number_of(stats.total, 'batch', 'batches')}, oldest first", style="bold"),
        sparkline("messages/s", [batch.rate for batch in recent], width),
        sparkline("memories", [batch.memories for batch in recent], width),
        sparkline("merged", [batch.merged for batch in recent], width),
        sparkline("efficiency", [batch.efficiency for batch in recent], width, _ratio),
        sparkline("seconds", [batch.seconds for batch in recent], width),
    ]
    if any(batch.tokens for batch in recent):
        lines += [
            sparkline("tokens", [batch.tokens for batch in recent], width),
            sparkline("dollars", [batch.cost_usd for batch in recent], width, usd),
        ]
    lines += [
        Text(""),
        Text("slowest", style="bold"),
        *_batch_rows(stats.slowest(), recent, width),
        *_windows(stats.slow_windows, width),
        *_failures(stats.failures, width),
        Text(""),
        Text("newest", style="bold"),
        *_batch_rows(recent[: -_SHOWN_BATCHES - 1 : -1], recent, width),
        Text("efficiency: memories of a message", style="dim"),
    ]
    show(lines)


def _ratio(value: float) -> str:
    return f"{value:.2f}"


def _batch_rows(batches: Iterable[BatchTimes], recent: Sequence[BatchTimes], width: int) -> list[Text]:
    top = max(batch.seconds for batch in recent)
    lines = [Text("batch  started              messages  memories  merged  seconds", style="dim")]
    for batch in batches:
        stage = max(batch.timings, key=lambda name: batch.timings[name], default="")
        facts = (
            f"{batch.id:>5}  {when(batch.started_at, seconds=True)}  {batch.messages:>8,}  {batch.memories:>8,}"
            f"  {batch.merged:>6,}  {batch.seconds:>7.2f} "
        )
        shown = bar(batch.seconds, top, width - len(facts) - 8)
        lines.append(cut(Text.assemble(facts, (shown, "cyan"), (f" {one_line(stage)}", "dim")), width))
    return lines


def _windows(windows: Sequence[WindowTimes], width: int) -> list[Text]:
    if not windows:
        return []
    top = max(window.seconds for window in windows)
    lines = [
        Text(""),
        Text("slowest windows", style="bold"),
        Text(f"window  batch  {'agent':<{_AGENT}}  messages  memories  tokens   dollars  seconds", style="dim"),
    ]
    for window in windows:
        agent = fitted(one_line(window.agent), _AGENT)
        facts = (
            f"{window.id:>6}  {window.batch_id:>5}  {agent:<{_AGENT}}  {window.messages:>8,}  {window.memories:>8,}"
            f"  {window.tokens:>6,}  {usd(window.cost_usd):>8}  {window.seconds:>7.2f} "
        )
        lines.append(cut(Text.assemble(facts, (bar(window.seconds, top, width - len(facts)), "cyan")), width))
    return lines


def _failures(failures: Sequence[Failure], width: int) -> list[Text]:
    if not failures:
        return []
    lines = [Text(""), Text("what failed, of all time", style="bold")]
    top = max(each.count for each in failures)
    for each in failures[:_SHOWN_FAILURES]:
        facts = f"{each.count:>6,} {bar(each.count, top, 8):<8} {safe(each.where):<20} "
        lines.append(cut(Text.assemble(facts, (one_line(each.reason), "dim")), width))
    if len(failures) > _SHOWN_FAILURES:
        lines.append(Text(f"       and {len(failures) - _SHOWN_FAILURES:,} more reasons", style="dim"))
    return lines
