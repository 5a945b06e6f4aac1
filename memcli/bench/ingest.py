"""How fast `memcli ingest` is: the real command in a process of its own, on generated flat JSONL."""

from __future__ import annotations

import hashlib
import json
import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from memcli.bench.child import run_python
from memcli.bench.corpus import generate
from memcli.bench.machine import machine, versions
from memcli.store.db import Store
from memcli.store.metrics import matrix_bytes

FIRST, NO_CHANGE, GROWTH, TENTH = "first run", "no change", "1 % growth", "a tenth"
# Start of the interpreter, imports, looking at the files, exit.
OUTSIDE = "outside stages"
TIMED = "one process per run, from its start to its exit: interpreter, imports, model, reading, writing"
_GROWTH_DIVISOR = 100
_TENTH_DIVISOR = 10
_MEGA = 1e6


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure: `messages` in `files` files, generated from `seed`, everything `repeat` times over."""

    messages: int = 50_000
    files: int = 1000
    seed: int = 7
    repeat: int = 1


@dataclass(frozen=True, slots=True)
class Sample:
    """One measured process. `report` is what it printed; `matrix_mb` the vectors in the database afterwards."""

    seconds: float
    cpu_seconds: float
    peak_rss_mb: float
    matrix_mb: float
    report: dict[str, Any]

    @property
    def stages(self) -> dict[str, float]:
        """Seconds by stage as the run reported them; the rest of the process is outside of them."""
        stages = {stage: float(seconds) for stage, seconds in self.report["timings"].items()}
        return stages | {OUTSIDE: max(self.seconds - sum(stages.values()), 0.0)}


@dataclass(frozen=True, slots=True)
class Run:
    """One kind of run with its samples; all figures are medians over them. `messages` are those that were new."""

    name: str
    messages: int
    files: int
    samples: list[Sample]

    @property
    def seconds(self) -> float:
        """Seconds of the process."""
        return self.median(lambda sample: sample.seconds)

    @property
    def cpu_seconds(self) -> float:
        """Processor time of all threads, which other programs on the machine disturb less."""
        return self.median(lambda sample: sample.cpu_seconds)

    @property
    def peak_rss_mb(self) -> float:
        """Largest resident memory in millions of bytes."""
        return self.median(lambda sample: sample.peak_rss_mb)

    @property
    def stages(self) -> dict[str, float]:
        """Seconds by stage."""
        return {
            stage: statistics.median(sample.stages[stage] for sample in self.samples)
            for stage in self.samples[0].stages
        }

    def median(self, what: Callable[[Sample], float]) -> float:
        """The median of a figure over the samples."""
        return statistics.median(map(what, self.samples))

    def to_json(self) -> dict[str, object]:
        """The run as part of the JSON document."""
        return {
            "name": self.name,
            "messages": self.messages,
            "files": self.files,
            "seconds": round(self.seconds, 4),
            "cpu_seconds": round(self.cpu_seconds, 4),
            "messages_per_second": round(self.messages / self.seconds, 1),
            "peak_rss_mb": round(self.peak_rss_mb, 1),
            "matrix_mb": round(self.median(lambda sample: sample.matrix_mb), 1),
            "stages": {stage: round(seconds, 4) for stage, seconds in self.stages.items()},
            "samples": [
                {
                    "seconds": round(sample.seconds, 4),
                    "cpu_seconds": round(sample.cpu_seconds, 4),
                    "peak_rss_mb": round(sample.peak_rss_mb, 1),
                    "stages": {stage: round(seconds, 4) for stage, seconds in sample.stages.items()},
                }
                for sample in self.samples
            ],
            "report": self.samples[-1].report,
        }


@dataclass(frozen=True, slots=True)
class Benchmark:
    """The measured runs and what they were measured on; `corpus` is a hash of all generated messages."""

    plan: Plan
    corpus: str
    runs: list[Run]

    def run(self, name: str) -> Run:
        """The run of that name."""
        return next(run for run in self.runs if run.name == name)

    def memory_growth(self) -> dict[str, float]:
        """How the peak of a first run grows with ten times the input; `without_matrix` leaves out the vectors."""
        few, many = self.run(TENTH), self.run(FIRST)
        rest = [run.peak_rss_mb - run.median(lambda sample: sample.matrix_mb) for run in (few, many)]
        return {
            "messages_ratio": round(many.messages / few.messages, 2),
            "peak_rss_ratio": round(many.peak_rss_mb / few.peak_rss_mb, 3),
            "without_matrix_ratio": round(rest[1] / rest[0], 3),
        }

    def to_json(self) -> dict[str, Any]:
        """The benchmark as one JSON document."""
        return {
            "benchmark": "ingest",
            "versions": versions(),
            "machine": machine(),
            "timed": TIMED,
            "messages": self.plan.messages,
            "files": self.plan.files,
            "seed": self.plan.seed,
            "repeat": self.plan.repeat,
            "corpus": self.corpus,
            "runs": [run.to_json() for run in self.runs],
            "memory_growth": self.memory_growth(),
        }


def bench_ingest(plan: Plan, announce: Callable[[str], None]) -> Benchmark:
    """Measure a first run, a run with nothing new, one with 1 % more in 1 % of the files, and a first run of a tenth.

    Each run is a process of its own; generating and appending are outside the timed region. The four follow each
    other, and that is repeated, so that what slows the machine for a while does not fall on one kind of run alone.
    """
    samples: dict[str, list[Sample]] = {name: [] for name in (FIRST, NO_CHANGE, GROWTH, TENTH)}
    grown, tenth = max(plan.messages // _GROWTH_DIVISOR, 1), max(plan.messages // _TENTH_DIVISOR, 1)
    corpus = ""
    for number in range(plan.repeat):
        with tempfile.TemporaryDirectory(prefix="memcli-bench-") as name:
            folder = Path(name)
            announce(f"round {number + 1} of {plan.repeat}: generating {plan.messages:,} messages")
            corpus = _write_corpus(folder, plan, grown, tenth)
            _run(folder / "warm", folder / "warm.db")
            for run, source, database in (
                (FIRST, "all", "memory.db"),
                (NO_CHANGE, "all", "memory.db"),
                (GROWTH, "all", "memory.db"),
                (TENTH, "tenth", "tenth.db"),
            ):
                announce(f"round {number + 1} of {plan.repeat}: {run}")
                if run == GROWTH:
                    _append(folder / "more", folder / "all")
                samples[run].append(_run(folder / source, folder / database))
    sizes = {FIRST: plan.messages, NO_CHANGE: 0, GROWTH: grown, TENTH: tenth}
    files = dict.fromkeys((FIRST, NO_CHANGE, GROWTH), plan.files) | {TENTH: _tenth_files(plan)}
    runs = [Run(name, sizes[name], files[name], found) for name, found in samples.items()]
    return Benchmark(plan, corpus, runs)


def _tenth_files(plan: Plan) -> int:
    return max(plan.files // _TENTH_DIVISOR, 1)


def _write_corpus(folder: Path, plan: Plan, grown: int, tenth: int) -> str:
    """Write `all`, the `tenth` of it, what is `more` later, and a `warm` message; the hash of all messages."""
    lines = (json.dumps(message) + "\n" for message in generate(plan.messages + grown, plan.seed))
    checksum = hashlib.blake2b(digest_size=16)

    def hashed() -> Iterator[str]:
        for line in lines:
            checksum.update(line.encode())
            yield line

    stream = hashed()
    _write_files(folder / "all", islice(stream, plan.messages), plan.messages, plan.files)
    _write_files(folder / "more", stream, grown, max(plan.files // _GROWTH_DIVISOR, 1))
    again = (json.dumps(message) + "\n" for message in generate(tenth, plan.seed))
    _write_files(folder / "tenth", again, tenth, _tenth_files(plan))
    _write_files(folder / "warm", (json.dumps(message) + "\n" for message in generate(1, plan.seed)), 1, 1)
    return checksum.hexdigest()


def _write_files(folder: Path, lines: Iterable[str], count: int, files: int) -> None:
    folder.mkdir()
    stream = iter(lines)
    for number in range(files):
        share = count * (number + 1) // files - count * number // files
        path = folder / f"{number:06}.jsonl"
        path.write_text("".join(islice(stream, share)), encoding="utf-8")


def _append(more: Path, folder: Path) -> None:
    """Append each file of `more` to one of the newest files of `folder`."""
    sources = sorted(more.iterdir())
    for source, target in zip(sources, sorted(folder.iterdir())[-len(sources) :], strict=True):
        with target.open("ab") as out:
            out.write(source.read_bytes())


def _run(source: Path, database: Path) -> Sample:
    """One `memcli ingest` of a folder into a database, with the default settings."""
    command = ["-m", "memcli", "ingest", str(source), "--json", "--quiet", "--db", str(database)]
    found = run_python(command, database.parent)
    with Store.open(database) as store:
        matrix = matrix_bytes(store)
    return Sample(found.seconds, found.cpu_seconds, found.peak_rss_mb, matrix / _MEGA, found.document)
