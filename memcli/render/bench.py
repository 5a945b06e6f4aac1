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
_QUALITY_FILES = {"sts": "similarity", "pairs": "duplicates", "retrieval": "retrieval"}
_QUALITY = {
    "sts": (("pairs", "n"), ("Spearman", "spearman")),
    "pairs": (
        ("pairs", "n"),
        ("duplicates", "duplicates"),
        ("best F1", "best_f1"),
        ("at cosine", "threshold"),
        ("av. precision", "average_precision"),
    ),
    "retrieval": (
        ("queries", "queries"),
        ("among", "candidates"),
        ("recall@1", "recall_at_1"),
        ("recall@10", "recall_at_10"),
        ("MRR", "mrr"),
    ),
}


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


def show_embed_benchmark(document: Mapping[str, Any]) -> None:
    """Print the modes with their rates, what each step brings, and the comparison with an earlier document."""
    model = f"{document['model']}: {document['texts']:,} texts of {document['tokens'] / document['texts']:.0f} tokens"
    rounds = f"batches of {document['batch_size']}, {document['repeat']} rounds, seed {document['seed']}"
    facts = [*machine_lines(document), f"{model}, {rounds}", f"timed: {document['timed']}"]
    one = document["modes"][0]["seconds"]
    table = figures_table("mode", "threads", "texts/s", "tokens/s", "speed", "CPU s", "peak RSS")
    for mode in document["modes"]:
        rates = [f"{mode[name]:,.0f}" for name in ("texts_per_second", "tokens_per_second")]
        rates += [f"{one / mode['seconds']:.2f}", f"{mode['cpu_seconds']:.2f}", f"{mode['peak_rss_mb']:,.0f} MB"]
        table.add_row(mode["name"], str(mode["threads"]), *rates)
    blocks: list[object] = [*(Text(safe(line), style="dim") for line in facts), Text(""), table, Text("")]
    blocks += [Text(line) for line in (*_told(document["ratios"]), _start(document["start"]))]
    if "comparison" in document:
        blocks += [Text(""), *_embed_comparison(document)]
    show(blocks)


def _told(ratios: Mapping[str, float]) -> list[str]:
    bare = f"{ratios['of_bare_1']:.0%} with one thread, {ratios['of_bare_2']:.0%} with two"
    batches, is_sorted = ratios["batches_as_they_come"], ratios["length_sorted_batches"]
    return [
        f"parallel: two threads in the graph {ratios['threads']:.2f} times, two callers {ratios['callers']:.2f} times",
        f"batches: as they come {batches:.2f} times, sorted by length {is_sorted:.2f} times",
        f"speed of the bare parts: {bare}; {ratios['of_bare_cpu']:.0%} by processor time",
        f"the tokenizer's share: {ratios['tokenizer_share']:.0%}",
    ]


def _start(start: Mapping[str, float]) -> str:
    least, median = f"{start['seconds']:.3f} s", f"median {start['median_seconds']:.3f} of {start['runs']}"
    return f"a process that embeds one query: {least} from start to end ({median})"


def _embed_comparison(document: Mapping[str, Any]) -> list[object]:
    comparison = document["comparison"]
    table = figures_table("mode", "threads", "speed now / before")
    for mode in comparison["modes"]:
        mark = "!" if mode["worse"] else " "
        table.add_row(mode["name"], str(mode["threads"]), f"{mode['ratio']:.2f}{mark}")
    blocks: list[object] = [
        Text(safe(f"before: {comparison['model']}"), style="dim"),
        table,
        Text("! slower by more than the noise"),
        Text(f"sorted batches now by one at a time before: {comparison['batches_by_one_before']:.2f} times"),
    ]
    if comparison["machine"] != document["machine"]:
        blocks.append(Text("the earlier one was measured on another machine", style="yellow"))
    return blocks


def show_quality(document: Mapping[str, Any]) -> None:
    """Print the scores of a model, a table for each kind of data."""
    size = "" if document["megabytes"] is None else f", {document['megabytes']:g} MB"
    blocks: list[object] = [Text(safe(f"{document['model']}: {document['dim']} dimensions{size}"), style="dim")]
    for kind, columns in _QUALITY.items():
        if document.get(kind):
            table = figures_table(_QUALITY_FILES[kind], *(heading for heading, _ in columns))
            for row in document[kind]:
                table.add_row(safe(row["file"]), *(_score(row[key]) for _, key in columns))
            blocks += [Text(""), table]
    if len(blocks) == 1:
        blocks.append(Text("No data to score it on: name some with --sts, --pairs or --retrieval."))
    show(blocks)


def _score(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _head(document: Mapping[str, Any]) -> list[Text]:
    rounds = f"median of {document['repeat']}" if document["repeat"] > 1 else "measured once"
    lines = [
        *machine_lines(document),
        f"{document['messages']:,} messages in {document['files']:,} files, seed {document['seed']}, {rounds}",
        f"timed: {document['timed']}",
    ]
    return [Text(safe(line), style="dim") for line in lines]


def machine_lines(document: Mapping[str, Any]) -> list[str]:
    """The versions and the hardware of a benchmark, a line each."""
    machine = document["machine"]
    hardware = f"{machine['processor']}, {machine['cores']} cores, {machine['memory_bytes'] / _GIGA:.0f} GB"
    versions = ", ".join(f"{name} {number}" for name, number in document["versions"].items())
    return [versions, f"{hardware}, {machine['system']}"]


def figures_table(*headings: str) -> Table:
    """A table of a name and figures."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place else "left")
    return table


def _runs(document: Mapping[str, Any]) -> Table:
    table = figures_table("run", "files", "new messages", "seconds", "CPU s", "messages/s", "peak RSS")
    for run in document["runs"]:
        rate = f"{run['messages_per_second']:,.0f}" if run["messages"] else ""
        memory = f"{run['peak_rss_mb']:,.0f} MB"
        times = (f"{run[name]:.2f}" for name in ("seconds", "cpu_seconds"))
        table.add_row(run["name"], f"{run['files']:,}", f"{run['messages']:,}", *times, rate, memory)
    return table


def _stages(document: Mapping[str, Any]) -> Table:
    runs = document["runs"]
    table = figures_table("seconds in", *(run["name"] for run in runs), "share")
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
    table = figures_table("now / before", *runs)
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
