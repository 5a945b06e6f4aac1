"""The dashboard of `memcli stats`, laid out for 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from memcli.render.layout import (
    WIDTH,
    bar,
    bytes_of,
    cut,
    duration,
    fitted,
    number_of,
    when,
    width_of_output,
)
from memcli.render.terminal import one_line, safe, show

if TYPE_CHECKING:
    from memcli.stats import Stats

_GAP = 2
# As many of each as let the dashboard fit into 40 lines.
_DAYS = 6
_RULES = 5
_REASONS = 6
_TABLES = 4
_SHOWN_RUNS = 3

Panel = list[Text]


def show_stats(stats: Stats) -> None:
    """Print the dashboard: two columns where the terminal has 80, one where it has fewer."""
    width = width_of_output()
    column = (width - _GAP) // 2 if width == WIDTH else width
    panels = [
        _bars(*_growth(stats), column),
        _bars(*_tags(stats), column),
        _bars(*_methods(stats), column),
        _bars(*_dropped(stats), column),
        _bars(f"time by stage{_whole(stats)}", _durations(stats.stages), column),
        _bars(*_rejected_or_agents(stats), column),
        _bars(*_tables(stats), column),
        _duplicates(stats, column),
    ]
    lines = [*_head(stats, width), Text("")]
    lines += (
        _two_columns(panels, column) if width == WIDTH else [line for panel in panels for line in [*panel, Text("")]]
    )
    show([*lines, *_runs(stats, width)])


def _head(stats: Stats, width: int) -> list[Text]:
    counts = stats.counts
    size = f"  {bytes_of(stats.sizes.total)}"
    who = f"  agent {fitted(one_line(stats.agent), width // 3)}" if stats.agent is not None else ""
    name = fitted(safe(stats.db), width - cell_len(size) - cell_len(who), keep_end=True)
    dropped, rejected = sum(stats.filtered.values()), sum(stats.rejected.values())
    windows = number_of(counts.windows, "window")
    batches = number_of(stats.batches, "batch", "batches") + _whole(stats)
    pairs = number_of(counts.review_pairs, "pair")
    facts = [
        (
            "messages",
            sum(stats.messages.values()),
            f"{stats.kept:,} kept, {dropped:,} dropped, {counts.pending:,} pending",
        ),
        ("memories", stats.memories - stats.merged, f"active, {stats.merged:,} merged into them, {pairs} to review"),
        ("sessions", counts.sessions, f"of {number_of(counts.agents, 'agent')}, {windows}, {batches}"),
        ("files", counts.files, number_of(rejected, "rejected line") + _whole(stats)),
        *_queries(stats),
    ]
    lines = [Text.assemble((name, "bold"), (size, "dim"), (who, "cyan"))]
    for label, number, rest in facts:
        lines.append(cut(Text.assemble((f"{label:<9}", "bold"), f"{number:>11,} ", (rest, "dim")), width))
    return lines


def _queries(stats: Stats) -> Iterable[tuple[str, int, str]]:
    answers = stats.search_cache.get("answer")
    if answers is not None and (asked := answers.hits + answers.misses):
        rate = f"{answers.hits / asked:.0%}"
        yield "queries", asked, f"{answers.hits:,} ({rate}) answered from the query cache{_whole(stats)}"


def _whole(stats: Stats) -> str:
    """Mark what cannot be told apart by agent, where one was asked for."""
    return "" if stats.agent is None else " (all agents)"


def _growth(stats: Stats) -> tuple[str, dict[str, tuple[float, str]]]:
    days = dict(list(stats.days.items())[-_DAYS:])
    earlier = f", {len(stats.days) - len(days):,} before" if len(stats.days) > len(days) else ""
    return f"memories by message day{earlier}", {day: (made, f"{made:,}") for day, (made, _) in days.items()}


def _tags(stats: Stats) -> tuple[str, dict[str, tuple[float, str]]]:
    return "top tags", _counted(dict(list(stats.tags.items())[:_DAYS]))


def _methods(stats: Stats) -> tuple[str, dict[str, tuple[float, str]]]:
    made = {name: made for name, (made, _) in stats.methods.items()}
    return "rules and tiers by memories made", _counted(_most(made, _RULES, "others"))


def _dropped(stats: Stats) -> tuple[str, dict[str, tuple[float, str]]]:
    return "dropped messages by reason", _counted(_most(stats.filtered, _RULES, "other reasons"))


def _tables(stats: Stats) -> tuple[str, dict[str, tuple[float, str]]]:
    how = "" if stats.sizes.exact else " (values, no indexes)"
    most = _most(stats.sizes.tables, _TABLES, "other tables")
    return f"size by table{how}{_whole(stats)}", {name: (size, bytes_of(size)) for name, size in most.items()}


def _rejected_or_agents(stats: Stats) -> tuple[str, dict[str, tuple[float, str]]]:
    """What there may be nothing of: rejected lines first, since they want to be looked at."""
    if stats.rejected:
        return f"rejected lines by reason{_whole(stats)}", _counted(_most(stats.rejected, _REASONS, "other reasons"))
    if len(stats.agents) > 1:
        active = {row.agent: row.memories - row.merged for row in stats.agents}
        return "active memories by agent", _counted(_most(active, _REASONS, "other agents"))
    return "memories by type", _counted({name: made for name, (made, _) in stats.types.items()})


def _duplicates(stats: Stats, width: int) -> Panel:
    rates = {kind: (rate, f"{count:,} {rate:>6.1%}") for kind, (count, rate) in stats.duplicates().items()}
    return _bars("duplicates, share of all memories", rates if stats.memories else {}, width, whole=1.0)


def _runs(stats: Stats, width: int) -> list[Text]:
    lines = [Text(f"last runs{_whole(stats)}", style="bold")]
    for run in stats.runs[:_SHOWN_RUNS]:
        took = "" if run.seconds is None else duration(run.seconds)
        counts = {name: count for name, count in run.outcome.items() if count} or run.outcome
        outcome = ", ".join(number_of(count, *_nouns(name)) for name, count in counts.items())
        facts = f"{run.id:>3} {when(run.started_at)} {one_line(run.command)} {took:>7} "
        status = "" if run.status == "done" else f"{run.status} "
        lines.append(cut(Text.assemble(facts, (status, "yellow"), (outcome, "dim")), width))
    return lines if stats.runs else [*lines, Text("none", style="dim")]


def _nouns(name: str) -> tuple[str, str]:
    """A count's name in a report as words: of one, and of several."""
    many = one_line(name).replace("_", " ")
    return {"memories": "memory", "messages": "message", "vectors": "vector", "segments": "segment"}.get(
        many, many
    ), many


def _bars(title: str, rows: Mapping[str, tuple[float, str]], width: int, whole: float | None = None) -> Panel:
    """A panel: a line per row with its name, its figure and a bar; `whole` is what a full bar stands for."""
    lines = [Text(fitted(title, width), style="bold")]
    if not rows:
        return [*lines, Text("none", style="dim")]
    figures = max(len(figure) for _, figure in rows.values())
    names = min(max(cell_len(one_line(name)) for name in rows), width - figures - 2 - width // 5)
    room = width - names - figures - 2
    top = max(value for value, _ in rows.values()) if whole is None else whole
    for name, (value, figure) in rows.items():
        shown = set_cell_size(fitted(one_line(name), names), names)
        lines.append(Text.assemble(f"{shown} {figure:>{figures}} ", (bar(value, top, room), "cyan")))
    return lines


def _two_columns(panels: Sequence[Panel], width: int) -> list[Text]:
    lines: list[Text] = []
    for left, right in zip(panels[::2], panels[1::2], strict=True):
        for one, other in zip_longest(left, right, fillvalue=Text("")):
            lines.append(Text.assemble(one, " " * (width + _GAP - one.cell_len), other))
        lines.append(Text(""))
    return lines


def _durations(times: Mapping[str, float]) -> dict[str, tuple[float, str]]:
    return {name: (seconds, duration(seconds)) for name, seconds in times.items()}


def _counted(counts: Mapping[str, int]) -> dict[str, tuple[float, str]]:
    return {name: (count, f"{count:,}") for name, count in counts.items()}


def _most(counts: Mapping[str, int], rows: int, rest: str) -> dict[str, int]:
    """The first `rows` of ranked counts; where there are more, the last of these is the sum of the rest."""
    if len(counts) <= rows:
        return dict(counts)
    shown = dict(list(counts.items())[: rows - 1])
    return shown | {f"{len(counts) - len(shown):,} {rest}": sum(counts.values()) - sum(shown.values())}
