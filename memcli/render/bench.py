"""Results of benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from memcli.render.terminal import safe, show

if TYPE_CHECKING:
    from memcli.bench.compare import Comparison

_GIGA = 1e9


def announce(text: str) -> None:
    """Say on stderr what is being measured."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(Text(f"memcli: {text}", style="dim"))


def show_ingest_benchmark(
    document: Mapping[str, Any], comparisons: Sequence[Comparison] | None, before: Mapping[str, Any] | None
) -> None:
    """Print what was measured on what, the runs, their stages, and the comparison with an earlier document."""
    blocks: list[object] = [*_head(document), Text(""), _runs(document), Text(""), _stages(document), Text("")]
    growth = document["memory_growth"]
    blocks.append(
        Text(
            f"memory: {growth['messages_ratio']:g} times the messages, {growth['peak_rss_ratio']:.2f} times the peak"
            f" ({growth['without_matrix_ratio']:.2f} without the vectors)"
        )
    )
    if comparisons is not None and before is not None:
        blocks += [Text(""), *_comparison(document, comparisons, before)]
    show(blocks)


def show_scan_benchmark(document: Mapping[str, Any]) -> None:
    """Print how long each way took, what it found, and how large it became."""
    table = _table("all pairs with", "seconds", "memcli is", "pairs found", "peak RSS")
    peaks = {"memcli": document["peak_rss_mb"], **document["peers_peak_rss_mb"]}
    found = document["pairs"] | {"numpy": None}
    for way, seconds in document["seconds"].items():
        if seconds is not None:
            faster = document["times_faster"].get(way)
            times = "" if faster is None else f"{faster:.1f} times faster"
            pairs = "" if found[way] is None else _found(found[way], document["pairs"]["expected"])
            table.add_row(way, f"{seconds:.2f}", times, pairs, f"{peaks[way]:,.0f} MB")
    rounds = f"least of {document['repeat']} rounds" if document["repeat"] > 1 else "measured once"
    size = f"{document['n']:,} vectors x {document['dim']}, threshold {document['threshold']:g}"
    lines = [
        *_machine(document),
        f"{size}, {document['threads']} threads, {rounds}",
        f"vectors: {document['vectors']}" + ("" if document["seed"] is None else f", seed {document['seed']}"),
        f"timed: {document['timed']}",
    ]
    notes = [Text(safe(f"- {note}")) for note in document["notes"]]
    show([*_dim(lines), Text(""), table, *([Text(""), *notes] if notes else [])])


def _found(pairs: int, expected: int | None) -> str:
    return f"{pairs:,}" if expected is None else f"{pairs:,} of {expected:,}"


def show_templated_benchmark(document: Mapping[str, Any]) -> None:
    """Print what ingesting templated lines took, for a tenth of them and all."""
    table = _table("lines", "seconds", "dedup", "peak RSS", "memories", "merged", "kept pairs", "all pairs")
    for run in document["runs"]:
        table.add_row(
            f"{run['lines']:,}",
            f"{run['seconds']:.1f}",
            f"{run['dedup_seconds']:.1f}",
            f"{run['peak_rss_mb']:,.0f} MB",
            f"{run['memories']:,}",
            f"{run['merged']:,}",
            f"{run['review_rows']:,}",
            f"{run['review_pairs']:,}",
        )
    show([*_dim([*_machine(document), f"lines: {document['lines']}", f"timed: {document['timed']}"]), Text(""), table])


def _head(document: Mapping[str, Any]) -> list[Text]:
    rounds = f"median of {document['repeat']}" if document["repeat"] > 1 else "measured once"
    return _dim(
        [
            *_machine(document),
            f"{document['messages']:,} messages in {document['files']:,} files, seed {document['seed']}, {rounds}",
            f"timed: {document['timed']}",
        ]
    )


def _machine(document: Mapping[str, Any]) -> list[str]:
    machine = document["machine"]
    hardware = f"{machine['processor']}, {machine['cores']} cores, {machine['memory_bytes'] / _GIGA:.0f} GB"
    return [
        ", ".join(f"{name} {number}" for name, number in document["versions"].items()),
        f"{hardware}, {machine['system']}",
    ]


def _dim(lines: Sequence[str]) -> list[Text]:
    return [Text(safe(line), style="dim") for line in lines]


def _table(*headings: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place else "left")
    return table


def _runs(document: Mapping[str, Any]) -> Table:
    table = _table("run", "files", "new messages", "seconds", "CPU s", "messages/s", "peak RSS")
    for run in document["runs"]:
        rate = f"{run['messages_per_second']:,.0f}" if run["messages"] else ""
        memory = f"{run['peak_rss_mb']:,.0f} MB"
        times = (f"{run[name]:.2f}" for name in ("seconds", "cpu_seconds"))
        table.add_row(run["name"], f"{run['files']:,}", f"{run['messages']:,}", *times, rate, memory)
    return table


def _stages(document: Mapping[str, Any]) -> Table:
    runs = document["runs"]
    table = _table("seconds in", *(run["name"] for run in runs), "share")
    for stage, seconds in runs[0]["stages"].items():
        share = seconds / runs[0]["seconds"]  # of the first run
        table.add_row(
            stage, *(f"{run['stages'][stage]:.2f}" for run in runs), f"{share:.0%} {'█' * round(share * 16):<6}"
        )
    return table


def _comparison(
    document: Mapping[str, Any], comparisons: Sequence[Comparison], before: Mapping[str, Any]
) -> list[object]:
    """The figures as now / before; those that are worse by more than the noise are marked."""
    runs = list(dict.fromkeys(each.run for each in comparisons))
    cells = {(each.run, each.figure): each for each in comparisons}
    table = _table("now / before", *runs)
    for figure in dict.fromkeys(each.figure for each in comparisons):
        table.add_row(figure, *(_ratio(cells.get((run, figure))) for run in runs))
    worse = sum(each.worse for each in comparisons)
    blocks: list[object] = [table, Text(f"! worse by more than the noise: {worse} of {len(comparisons)} figures")]
    if before.get("machine") != document["machine"]:
        blocks.append(Text("the earlier one was measured on another machine", style="yellow"))
    changed = [name for name, number in document["versions"].items() if before["versions"].get(name) != number]
    if changed:
        known = (f"{name} {before['versions'].get(name, '?')}" for name in changed)
        blocks.append(Text(safe(f"the earlier one was measured with {', '.join(known)}"), style="dim"))
    return blocks


def _ratio(comparison: Comparison | None) -> Text:
    if comparison is None or comparison.ratio is None:
        return Text("-")
    ratio = f"{comparison.ratio:.2f} "
    return Text(f"{comparison.ratio:.2f}!", style="bold red") if comparison.worse else Text(ratio)
