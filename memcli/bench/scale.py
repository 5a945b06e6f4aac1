"""How ingest grows: generated messages in tenfold numbers through the real command, and the exponent of each stage."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from memcli.bench import scan
from memcli.bench.child import Measured, run_python
from memcli.bench.corpus import EXACT_SHARE, NOISE_SHARE, REFORMATTED_SHARE, TRAP_SHARE, generate
from memcli.bench.ingest import OUTSIDE
from memcli.bench.machine import machine, versions
from memcli.embed.installed import DEFAULT, resolve
from memcli.errors import UsageError
from memcli.store.db import Store
from memcli.store.metrics import matrix_bytes

SIZES = (10_000, 100_000, 1_000_000)
# The stage dedup in two: the search for similar pairs, and what is decided about them.
SCAN, JUDGE = "dedup: scan", "dedup: judge"
TIMED = "one process per run, from its start to its exit; generating the messages is outside"
MESSAGES = (
    f"{EXACT_SHARE:.0%} repeat an earlier text, {REFORMATTED_SHARE:.0%} in other formatting, {TRAP_SHARE:.0%} but for a"
    f" number, {NOISE_SHARE:.0%} noise"
)
# An exponent above it is marked: twice the messages take more than 2.3 times as long.
LINEAR = 1.2
ADDED = 100
_FILE_MESSAGES = 500
# Of the generated file, the database and its write-ahead log together.
_DISK_BYTES = 6000
_VECTORS, _ROUNDS = 20_000, 3
_MEGA, _TERA = 1e6, 1e12


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure: each of `sizes` messages, generated from `seed`; `quiet` leaves out the progress of ingest."""

    sizes: Sequence[int] = SIZES
    seed: int = 7
    quiet: bool = False


def bench_scale(plan: Plan, announce: Callable[[str], None]) -> dict[str, Any]:
    """Ingest each size into a database of its own, then run again with nothing new, then with ADDED messages more.

    The document of `memcli bench scale --json`. Files and database of a size are deleted before the next one.

    Raises:
        UsageError: there is no room on the disk.
        MemcliError: a measured process failed.
    """
    sizes = sorted(set(plan.sizes))
    _check_room(sizes[-1])
    announce("the exact product of dedup alone")
    constant = _constant(plan.seed)
    found = [_size(count, plan, announce) for count in sizes]
    return {
        "benchmark": "scale",
        "versions": versions(),
        "machine": machine(),
        "timed": TIMED,
        "messages": MESSAGES,
        "seed": plan.seed,
        "sizes": found,
        "exponents": exponents(found),
        "linear": LINEAR,
        "product": product(found, constant),
    }


def exponents(sizes: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """The growth exponent of each figure, over `all` sizes and from the last but one to the `last`: 1 is linear.

    What a run takes however little there is flattens the first; the second shows what begins to grow faster.
    """
    counts = [float(size["messages"]) for size in sizes]
    stages = {name: [size["stages"][name] for size in sizes] for name in sizes[0]["stages"]}
    whole = {name: [size[name] for size in sizes] for name in ("seconds", "cpu_seconds", "peak_rss_mb", "file_mb")}
    runs = {name: [size[name]["seconds"] for size in sizes] for name in ("no_change", "added")}
    return {
        name: {"all": slope(counts, values), "last": slope(counts[-2:], values[-2:])}
        for name, values in (stages | whole | runs).items()
    }


def slope(sizes: Sequence[float], values: Sequence[float]) -> float | None:
    """The exponent e of values = c * sizes ** e, by least squares of the logarithms; None where it has no meaning."""
    if len(sizes) < 2 or min(values) <= 0:  # noqa: PLR2004 - a line needs two points
        return None
    xs, ys = ([math.log(each) for each in row] for row in (sizes, values))
    x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - x_mean) ** 2 for x in xs)
    return round(sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True)) / spread, 2)


def product(sizes: Sequence[Mapping[str, Any]], constant: float) -> dict[str, float | None]:
    """The constants of the exact product, in seconds per 10^12 multiply-adds, and its share of dedup.

    By itself it takes `constant`. In the largest run the scan takes more: it reads the codes of all memories for every
    batch, and the vectors of those that a product cannot rule out.
    """
    largest = sizes[-1]
    tera, scanned = largest["multiply_adds"] / _TERA, largest["stages"][SCAN]
    dedup = scanned + largest["stages"][JUDGE]
    return {
        "seconds_per_tera": round(constant, 3),
        "tera_multiply_adds": round(tera, 4),
        "scan_seconds_per_tera": round(scanned / tera, 3) if tera else None,
        "share": round(scanned / dedup, 3) if dedup else None,
    }


def _constant(seed: int) -> float:
    """Seconds per 10^12 multiply-adds of the exact product alone, on vectors in memory; the least of some rounds."""
    found = scan.bench_scan(scan.Plan(_VECTORS, seed=seed, repeat=_ROUNDS, alone=True), lambda _: None)
    return float(found.seconds(scan.MEMCLI) or 0.0) / (_VECTORS * (_VECTORS - 1) // 2 * found.dim) * _TERA


def _check_room(messages: int) -> None:
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < messages * _DISK_BYTES:
        raise UsageError(
            f"{messages:,} messages need about {messages * _DISK_BYTES / 1e9:.1f} GB in {tempfile.gettempdir()},"
            f" {free / 1e9:.1f} GB are free",
            "name fewer with --sizes, or another folder in TMPDIR",
        )


def _size(count: int, plan: Plan, announce: Callable[[str], None]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="memcli-bench-") as name:
        folder = Path(name)
        announce(f"{count:,} messages: generating")
        lines = (json.dumps(message) + "\n" for message in generate(count + ADDED, plan.seed))
        files, input_bytes = _write(folder / "all", lines, count)
        announce(f"{count:,} messages: ingesting")
        first = _ingest(folder, plan)
        with Store.open(folder / "memory.db") as store:
            matrix = matrix_bytes(store)
        file_bytes = sum(path.stat().st_size for path in folder.glob("memory.db*"))
        announce(f"{count:,} messages: a run with nothing new, and one with {ADDED} more")
        same = _ingest(folder, plan)
        with (folder / "all" / f"{files - 1:06}.jsonl").open("a", encoding="utf-8") as file:
            file.writelines(lines)
        added = _ingest(folder, plan)
    return _figures(count, first) | {
        "files": files,
        "input_mb": round(input_bytes / _MEGA, 1),
        "file_mb": round(file_bytes / _MEGA, 1),
        "matrix_mb": round(matrix / _MEGA, 1),
        "no_change": _later(same),
        "added": _later(added),
    }


def _write(folder: Path, lines: Iterator[str], count: int) -> tuple[int, int]:
    """Stream `count` lines into files; how many files, and their bytes."""
    folder.mkdir()
    files = -(-count // _FILE_MESSAGES)
    written = 0
    for number in range(files):
        with (folder / f"{number:06}.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(islice(lines, min(_FILE_MESSAGES, count - number * _FILE_MESSAGES)))
            written += file.tell()
    return files, written


def _ingest(folder: Path, plan: Plan) -> Measured:
    quiet = ["--quiet"] if plan.quiet else []
    return run_python(["-m", "memcli", "ingest", str(folder / "all"), "--json", *quiet], folder)


def _figures(count: int, found: Measured) -> dict[str, Any]:
    report = found.document
    stages: dict[str, float] = {}
    for name, seconds in report["timings"].items():
        stages |= (
            {SCAN: report["scan_seconds"], JUDGE: seconds - report["scan_seconds"]}
            if name == "dedup"
            else {name: seconds}
        )
    stages[OUTSIDE] = max(found.seconds - sum(stages.values()), 0.0)
    vectors = int(report["embedded"])
    return {
        "messages": count,
        "seconds": round(found.seconds, 3),
        "cpu_seconds": round(found.cpu_seconds, 3),
        "messages_per_second": round(count / found.seconds, 1),
        "peak_rss_mb": round(found.peak_rss_mb, 1),
        "stages": {name: round(seconds, 4) for name, seconds in stages.items()},
        "batches": report["batches"],
        "memories": report["memories"],
        "vectors": vectors,
        "multiply_adds": vectors * (vectors - 1) // 2 * resolve(DEFAULT, Path()).dim,
    }


def _later(found: Measured) -> dict[str, Any]:
    return {
        "seconds": round(found.seconds, 3),
        "cpu_seconds": round(found.cpu_seconds, 3),
        "peak_rss_mb": round(found.peak_rss_mb, 1),
        "new_messages": found.document["messages"]["new"],
        "unchanged_files": found.document["files"]["unchanged"],
    }
