"""The report of `memcli bench scale`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from memcli.render.bench import figures_table, machine_lines
from memcli.render.layout import duration, wrapped
from memcli.render.terminal import show

_WHOLE = {
    "seconds": ("the whole process", "s"),
    "cpu_seconds": ("processor time", "s"),
    "peak_rss_mb": ("peak memory", "MB"),
    "file_mb": ("database", "MB"),
}
_LATER = {"no_change": "nothing new", "added": "100 messages more"}


def show_scale_benchmark(document: Mapping[str, Any]) -> None:
    """Print time, memory and file size for each number of messages, the growth exponents, and the exact product."""
    lines = [
        *machine_lines(document),
        f"generated messages, seed {document['seed']}: {document['messages']}",
        f"timed: {document['timed']}",
    ]
    head = [text for line in lines for text in wrapped(line)]
    blocks: list[object] = [*head, Text(""), _table(document), Text("")]
    blocks.append(Text("exponents: 1 is linear, 2 quadratic; over all sizes, and of the last step alone"))
    above = [name for name, found in document["exponents"].items() if max(_known(found)) > document["linear"]]
    if above:
        said = f"! above {document['linear']:g}: {', '.join(above)}"
    elif len(document["sizes"]) > 1:
        said = "nothing grows faster than linearly"
    else:
        said = "one size tells nothing of growth; name more with --sizes"
    blocks += wrapped(said, style="")
    blocks += [text for line in _product(document) for text in wrapped(line, style="")]
    show(blocks)


def _table(document: Mapping[str, Any]) -> Table:
    sizes = document["sizes"]
    table = figures_table("messages", *(f"{size['messages']:,}" for size in sizes), "exponent", "last")
    exponents = document["exponents"]

    def row(label: str, name: str, values: list[float], unit: str) -> None:
        found = exponents[name]
        figures = [f"{value:,.0f} MB" if unit == "MB" else duration(value) for value in values]
        mark = "!" if max(_known(found)) > document["linear"] else " "
        table.add_row(label, *figures, *(_exponent(found[key]) for key in ("all", "last")), mark)

    table.add_column("")
    for stage in sizes[0]["stages"]:
        row(stage, stage, [size["stages"][stage] for size in sizes], "s")
    for name, (label, unit) in _WHOLE.items():
        row(label, name, [size[name] for size in sizes], unit)
    for name, label in _LATER.items():
        row(f"then {label}", name, [size[name]["seconds"] for size in sizes], "s")
    table.add_row("memories", *(f"{size['memories']['created']:,}" for size in sizes))
    table.add_row("merged", *(_merged(size["memories"]) for size in sizes))
    return table


def _merged(memories: Mapping[str, int]) -> str:
    return f"{memories['merged_exact'] + memories['merged_near']:,}"


def _known(found: Mapping[str, float | None]) -> list[float]:
    return [value for value in found.values() if value is not None] or [0.0]


def _exponent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _product(document: Mapping[str, Any]) -> list[str]:
    """The exact product: its constants, and its share of dedup."""
    found = document["product"]
    constant = f"{found['seconds_per_tera']:.2f} s per 10^12 multiply-adds by itself, on vectors in memory"
    lines = [f"the scan is an exact product of all with all, so it is quadratic: {constant}"]
    if found["scan_seconds_per_tera"] is not None:
        lines.append(
            f"in the largest run {found['scan_seconds_per_tera']:.2f} s, with what it reads for every batch; it takes"
            f" {found['tera_multiply_adds']:,.4g} x 10^12, {found['share']:.0%} of dedup"
        )
    return lines
