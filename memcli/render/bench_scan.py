"""The reports of `memcli bench scan`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from memcli.render.bench import figures_table, machine_lines
from memcli.render.terminal import safe, show


def show_scan_benchmark(document: Mapping[str, Any]) -> None:
    """Print how long each way took, what it found, and how large it became."""
    table = figures_table("all pairs with", "seconds", "memcli is", "pairs found", "peak RSS")
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
        *machine_lines(document),
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
    table = figures_table("lines", "seconds", "dedup", "peak RSS", "memories", "merged", "kept pairs", "all pairs")
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
    lines = [*machine_lines(document), f"lines: {document['lines']}", f"timed: {document['timed']}"]
    show([*_dim(lines), Text(""), table])


def _dim(lines: Sequence[str]) -> list[Text]:
    return [Text(safe(line), style="dim") for line in lines]
