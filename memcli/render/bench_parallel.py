"""Results of `memcli bench parallel`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from memcli.render.bench import figures_table, machine_lines
from memcli.render.terminal import safe, show


def show_parallel_benchmark(document: Mapping[str, Any]) -> None:
    """Print each part with one worker and with several, how much faster that is, and what holds it back."""
    workers = document["workers"]
    facts = [
        *machine_lines(document),
        f"1 and {workers} workers, {document['repeat']} rounds, seed {document['seed']}",
        f"timed: {document['timed']}",
    ]
    table = figures_table("part", "of", "1 worker", f"{workers} workers", "faster", "CPU s")
    for part in document["parts"]:
        mark = "" if part["same_result"] else " !"
        one, several = (f"{seconds:.2f} s" for seconds in part["seconds"])
        cpu = " / ".join(f"{seconds:.1f}" for seconds in part["cpu_seconds"])
        name = safe(part["part"]) + (" *" if part["held_by"] else "") + mark
        table.add_row(name, f"{part['size']:,}", one, several, f"{part['times_faster']:.2f}", cpu)
    held = {part["held_by"] for part in document["parts"]} - {None}
    blocks: list[object] = [*(Text(safe(line), style="dim") for line in facts), Text(""), table, Text("")]
    free = [part for part in document["parts"] if not part["held_by"]]
    reached = sum(part["times_faster"] >= document["goal"] for part in free)
    blocks.append(Text(f"{document['goal']:g} times or more: {reached} of the {len(free)} parts without *"))
    blocks += [Text(f"* cannot be spread over processors: {safe(why)}") for why in sorted(held)]
    if not all(part["same_result"] for part in document["parts"]):
        blocks.append(Text("! the results differ: a bug", style="bold red"))
    show(blocks)
