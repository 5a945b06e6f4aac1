"""What thousands of templated lines cost: the real ingest, on lines that differ by one number or not at all."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from memcli.bench.child import run_python
from memcli.bench.machine import machine, versions
from memcli.store import metrics
from memcli.store.db import Store

LINES = "one in ten the same sentence again, the others of five templates that differ by one number"
TIMED = "memcli ingest --extract verbatim --flush in a process of its own: reading, embedding, dedup, writing"
_TENTH = 10
_SESSION_LENGTH = 40
_SAME = "The backup of the customer database has finished without any errors."
_TEMPLATES = (
    "The nightly job {} of the billing service has finished without any errors.",
    "Ticket {} was moved from the backlog to the sprint by the planning bot.",
    "Crate {} stands in the second row of the hall in Porto.",
    "The sensor in room {} was calibrated by the night shift.",
    "The request {} to the payments gateway timed out after the usual delay.",
)


def bench_templated(lines: int, announce: Callable[[str], None]) -> dict[str, Any]:
    """Ingest `lines` templated lines and a tenth of them; one JSON document of what each took and left behind."""
    runs = []
    for count in (max(lines // _TENTH, 1), lines):
        announce(f"ingesting {count:,} templated lines")
        runs.append(_run(count))
    return {
        "benchmark": "scan --templated",
        "versions": versions(),
        "machine": machine(),
        "lines": LINES,
        "timed": TIMED,
        "runs": runs,
    }


def _run(count: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="memcli-bench-") as name:
        folder = Path(name)
        with (folder / "lines.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(message) + "\n" for message in _messages(count))
        options = ["--extract", "verbatim", "--flush", "--json", "--quiet"]
        measured = run_python(["-m", "memcli", "ingest", "lines.jsonl", *options], folder)
        with Store.open(folder / "memory.db") as store:
            kept, pairs = metrics.counts(store, None).review_pairs, metrics.similar_pairs(store)
    report = measured.document["memories"]
    return {
        "lines": count,
        "seconds": round(measured.seconds, 2),
        "cpu_seconds": round(measured.cpu_seconds, 2),
        "dedup_seconds": round(measured.document["timings"]["dedup"], 2),
        "peak_rss_mb": round(measured.peak_rss_mb, 1),
        "memories": report["created"],
        "merged": report["merged_exact"] + report["merged_near"],
        "review_rows": kept,
        "review_pairs": pairs,
    }


def _messages(count: int) -> Iterator[dict[str, object]]:
    for number in range(count):
        template = _SAME if number % _TENTH == 0 else _TEMPLATES[number % len(_TEMPLATES)]
        yield {
            "id": f"m{number}",
            "session_id": f"s{number // _SESSION_LENGTH}",
            "role": "user",
            "content": template.format(number),
            "timestamp": 1_700_000_000 + 37 * number,
        }
