"""The reports of `memcli bench search`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from memcli.render.bench import figures_table, machine_lines
from memcli.render.terminal import one_line, safe, show


def show_search_benchmark(document: Mapping[str, Any]) -> None:
    """Print latencies from the shell and warm, for each number of memories."""
    table = figures_table("memories", "mode", "from the shell", "cached", "first", "warm", "p95", "queries/s", "RSS")
    for size in document["sizes"]:
        for mode, figures in size["modes"].items():
            first = mode == next(iter(size["modes"]))
            table.add_row(
                f"{size['memories']:,}" if first else "",
                mode,
                _ms(size["cold_ms"]) if first else "",
                _ms(size["cold_cached_ms"]) if first else "",
                f"{figures['first_ms']:,.0f} ms",
                _ms(figures["warm_ms"]),
                _ms(figures["warm_ms"], "p95"),
                f"{figures['queries_per_second']:,.0f}",
                f"{size['cold_peak_rss_mb']:,.0f} MB" if first else "",
            )
    show([*_head(document, f"{document['queries']:,} queries of one to four words; medians"), table])


def show_vectors_benchmark(document: Mapping[str, Any]) -> None:
    """Print how long each way took for the nearest vectors, and how many of the right ones it gave."""
    table = figures_table("vectors", "with", "build", "first", "warm", "", "queries/s", "recall", "peak RSS")
    for size in document["sizes"]:
        for way, figures in size["ways"].items():
            table.add_row(
                f"{size['n']:,}" if way == "memcli" else "",
                way,
                f"{figures['build_seconds']:.1f} s",
                f"{figures['first_ms']:,.1f} ms",
                f"{figures['warm_ms']:,.2f} ms",
                "" if way == "memcli" else f"x{figures['times_as_long']:.1f}",
                f"{figures['queries_per_second']:,.0f}",
                f"{figures['recall']:.4f}",
                f"{figures['peak_rss_mb']:,.0f} MB",
            )
    about = f"the {document['k']} nearest of {document['dim']} dimensions, {document['queries']:,} queries; medians"
    notes = [Text(safe(f"- {note}")) for note in document["notes"]]
    show([*_head(document, about), table, *([Text(""), *notes] if notes else [])])


def show_locomo_benchmark(document: Mapping[str, Any]) -> None:
    """Print evidence recall: each mode over all conversations, and hybrid search for each conversation."""
    table = figures_table("conversation", "turns", "questions", "recall@5", "recall@10", "left out: @5", "@10")
    for each in document["conversations"]:
        table.add_row(
            one_line(each["name"]),
            f"{each['turns']:,}",
            f"{each['questions']:,}",
            *_recalls(each["hybrid"]),
            *_recalls(each["leave_one_out"]),
        )
    for mode, found in document["recall"].items():
        left_out = _recalls(document["leave_one_out"] if mode == "hybrid" else None)
        counts = (f"{document['turns']:,}", f"{document['questions']:,}") if mode == "hybrid" else ("", "")
        table.add_row(f"all, {mode}", *counts, *_recalls(found), *left_out)
    about = "each turn a memory; recall is the share of a question's evidence turns among the first 5 and 10 hits"
    note = 'under "left out" the weights were chosen on all other conversations'
    lines = [about, note] if document["leave_one_out"] else [about]
    show([*_head(document, *lines), table])


def show_zipf_benchmark(document: Mapping[str, Any]) -> None:
    """Print the hit rate of the query cache, and what hits and misses took."""
    table = figures_table("queries", "from the cache", "median", "p95")
    hits, misses = document["hits"], document["queries"] - document["hits"]
    for count, name, took in ((hits, "yes", document["hit_ms"]), (misses, "no", document["miss_ms"])):
        table.add_row(f"{count:,}", name, _ms(took), _ms(took, "p95"))
    about = (
        f"{document['queries']:,} queries, {document['distinct']:,} different ones, over {document['memories']:,}"
        f" memories: hit rate {document['hit_rate']:.1%}"
    )
    show([*_head(document, about, f"log: {document['log']}"), table])


def _head(document: Mapping[str, Any], *about: str) -> Sequence[Text]:
    timed = [f"timed: {document['timed']}"] if "timed" in document else []
    return [*(Text(safe(line), style="dim") for line in (*machine_lines(document), *about, *timed)), Text("")]


def _ms(figures: Mapping[str, float] | None, which: str = "median") -> str:
    return "-" if figures is None else f"{figures[which]:,.1f} ms"


def _recalls(found: Mapping[str, float] | None) -> tuple[str, str]:
    return ("", "") if found is None else (f"{found['5']:.3f}", f"{found['10']:.3f}")
