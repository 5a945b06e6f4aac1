"""What more workers bring: the parts of memcli with one and with several, each a process of its own."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memcli.bench.child import Measured, run_python
from memcli.bench.corpus import generate
from memcli.bench.machine import machine, versions
from memcli.embed.models import ModelFiles

GOAL = 1.7
TIMED = (
    "the fastest of a few passes in one process, the whole process of search and ingest; one worker: one thread in each"
    " pool"
)
# Why a part cannot use two processors.
HELD = "Python: one thread at a time"
HELD_RUN = "a run is Python for the most part, and one writer; only embedding and the scan are spread"
_QUERIES, _INGEST = "queries, the whole search", "ingest, the whole run"
_FILES = 20
_SEARCHED, _ASKED, _ASKED_CHARS = "searched.db", "queries.txt", 40
# So many that what a process takes to start counts little.
_MOST_ASKED = 5000
# What differs from run to run in the report of an ingest.
_OF_TIME = {"db", "messages_per_second", "scan_seconds", "seconds", "timings"}


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure: each part with 1 and with `workers`, in turns, `repeat` times; `scale` 1 is the usual size.

    Without `with_held` the parts that cannot be spread are left out.
    """

    workers: int = 2
    seed: int = 7
    repeat: int = 3
    scale: float = 1.0
    with_held: bool = True

    def size(self, usual: int) -> int:
        """How many of something where `usual` is the usual number."""
        return max(int(usual * self.scale), 10)


@dataclass(frozen=True, slots=True)
class _Part:
    """A part: what runs it, of what size, and what keeps it on one processor."""

    name: str
    arguments: dict[str, Any]
    held_by: str | None = None


@dataclass(slots=True)
class Benchmark:
    """The seconds of each part by number of workers, and the hashes of what came out."""

    plan: Plan
    parts: list[_Part]
    seconds: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    cpu_seconds: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    results: dict[str, set[str]] = field(default_factory=dict)

    def take(self, part: _Part, workers: int, seconds: float, cpu_seconds: float, result: str) -> None:
        """Add what a process measured."""
        self.seconds.setdefault((part.name, workers), []).append(seconds)
        self.cpu_seconds.setdefault((part.name, workers), []).append(cpu_seconds)
        self.results.setdefault(part.name, set()).add(result)

    def to_json(self) -> dict[str, Any]:
        """The benchmark as one JSON document."""
        return {
            "benchmark": "parallel",
            "versions": versions(),
            "machine": machine(),
            "timed": TIMED,
            "seed": self.plan.seed,
            "repeat": self.plan.repeat,
            "workers": self.plan.workers,
            "goal": GOAL,
            "parts": [self._row(part) for part in self.parts],
        }

    def _row(self, part: _Part) -> dict[str, Any]:
        counts = (1, self.plan.workers)
        one, several = (min(self.seconds[part.name, count]) for count in counts)
        cpu = [min(self.cpu_seconds[part.name, count]) for count in counts]
        return {
            "part": part.name,
            "size": part.arguments["size"],
            "seconds": [round(one, 4), round(several, 4)],
            "cpu_seconds": [round(each, 4) for each in cpu],
            "times_faster": round(one / several, 2),
            "held_by": part.held_by,
            "same_result": len(self.results[part.name]) == 1,
        }


def bench_parallel(
    plan: Plan, static: ModelFiles, transformer: ModelFiles | None, announce: Callable[[str], None]
) -> Benchmark:
    """Run every part with one and with several workers, in turns.

    Raises:
        MemcliError: a measured process failed.
    """
    parts = [part for part in _parts(plan, static, transformer) if plan.with_held or not part.held_by]
    result = Benchmark(plan, parts)
    with tempfile.TemporaryDirectory(prefix="memcli-bench-") as name:
        folder = Path(name)
        messages = list(generate(plan.size(10_000), plan.seed))
        _write_corpus(folder / "transcripts", messages)
        # Each once: who finds the same question again in the same share of them does not search for it twice.
        asked = list(dict.fromkeys(str(message["content"])[:_ASKED_CHARS] for message in messages))
        (folder / _ASKED).write_text("".join(f"{text}\n" for text in asked[: plan.size(_MOST_ASKED)]), encoding="utf-8")
        run_python(["-m", "memcli", "ingest", str(folder / "transcripts"), "--json", "--db", _SEARCHED], folder)
        for number in range(plan.repeat):
            for part in result.parts:
                for workers in (1, plan.workers):
                    announce(f"round {number + 1} of {plan.repeat}: {part.name}, {workers} workers")
                    result.take(part, workers, *_run(part, workers, folder))
    return result


def _parts(plan: Plan, static: ModelFiles, transformer: ModelFiles | None) -> list[_Part]:
    def of(part: str, usual: int, **more: object) -> dict[str, Any]:
        return {"part": part, "size": plan.size(usual), "seed": plan.seed, **more}

    parts = [_Part(f"embedding, {static.name}", of("embedding", 40_000, folder=str(static.folder)))]
    if transformer is not None:
        parts.append(_Part(f"embedding, {transformer.name}", of("embedding", 256, folder=str(transformer.folder))))
    return [
        *parts,
        _Part("similarity scan", of("scan", 40_000)),
        _Part("reading lines", of("reading", 200_000), held_by=HELD),
        _Part("redacting", of("screening", 100_000), held_by=HELD),
        _Part("gates", of("gates", 10_000), held_by=HELD),
        _Part(_QUERIES, {"size": plan.size(_MOST_ASKED)}),
        _Part(_INGEST, {"size": plan.size(10_000)}, held_by=HELD_RUN),
    ]


def _run(part: _Part, workers: int, folder: Path) -> tuple[float, float, str]:
    if "part" in part.arguments:
        request = json.dumps({**part.arguments, "count": workers})
        found = run_python(["-m", "memcli.bench.parallel_part", request], folder)
        return found.document["seconds"], found.document["cpu_seconds"], found.document["result"]
    return _ingest(workers, folder) if part.name == _INGEST else _search(workers, folder)


def _search(workers: int, folder: Path) -> tuple[float, float, str]:
    command = ["-m", "memcli", "search", "--queries", str(folder / _ASKED), "--no-cache", "--json"]
    found = run_python([*command, "--workers", str(workers), "--db", str(folder / _SEARCHED)], folder)
    answers = [{key: value for key, value in answer.items() if key != "seconds"} for answer in found.document]
    return found.seconds, found.cpu_seconds, json.dumps(answers, sort_keys=True)


def _ingest(workers: int, folder: Path) -> tuple[float, float, str]:
    database = folder / "ingested.db"
    command = ["-m", "memcli", "ingest", str(folder / "transcripts"), "--json", "--quiet"]
    found: Measured = run_python([*command, "--db", str(database), "--workers", str(workers)], folder)
    for path in folder.glob(f"{database.name}*"):
        path.unlink()
    counted = {key: value for key, value in found.document.items() if key not in _OF_TIME}
    return found.seconds, found.cpu_seconds, json.dumps(counted, sort_keys=True)


def _write_corpus(folder: Path, messages: Sequence[object]) -> None:
    folder.mkdir()
    for number in range(_FILES):
        lines = (json.dumps(message) + "\n" for message in messages[number::_FILES])
        (folder / f"{number:02}.jsonl").write_text("".join(lines), encoding="utf-8")
