"""How fast `memcli ingest` is: the real command in a process of its own, on generated flat JSONL."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memcli import __version__
from memcli.bench.corpus import generate
from memcli.errors import MemcliError


@dataclass(frozen=True, slots=True)
class IngestResult:
    """One measured run. `process_seconds` is from start to exit of the process, `peak_rss_mb` its largest memory."""

    name: str
    messages: int
    process_seconds: float
    peak_rss_mb: float
    report: dict[str, Any]

    @property
    def stages(self) -> dict[str, float]:
        """Seconds per stage, as the run reported them."""
        return dict(self.report["timings"])

    def to_json(self) -> dict[str, object]:
        """The result as part of the JSON document."""
        return {
            "name": self.name,
            "messages": self.messages,
            "process_seconds": round(self.process_seconds, 3),
            "messages_per_second": round(self.messages / self.process_seconds, 1),
            "peak_rss_mb": round(self.peak_rss_mb, 1),
            "report": self.report,
        }


@dataclass(frozen=True, slots=True)
class IngestBenchmark:
    """The results, and on what they were measured."""

    seed: int
    results: tuple[IngestResult, ...]

    def to_json(self) -> dict[str, object]:
        """The benchmark as one JSON document."""
        return {
            "benchmark": "ingest",
            "memcli": __version__,
            "python": platform.python_version(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "seed": self.seed,
            "results": [result.to_json() for result in self.results],
        }


def bench_ingest(messages: int, seed: int) -> IngestBenchmark:
    """Generate a corpus, ingest it into an empty database, then run once more with nothing new.

    The timed region is the whole process: interpreter start, imports, model, reading, writing. Generating the corpus
    is outside of it.
    """
    with tempfile.TemporaryDirectory(prefix="memcli-bench-") as name:
        folder = Path(name)
        with (folder / "corpus.jsonl").open("w", encoding="utf-8") as out:
            for message in generate(messages, seed):
                out.write(json.dumps(message) + "\n")
        first = _run("first run", messages, folder)
        return IngestBenchmark(seed, (first, _run("nothing new", messages, folder)))


def _run(name: str, messages: int, folder: Path) -> IngestResult:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MEMCLI_")}
    environment |= {"MEMCLI_DATA_DIR": str(folder), "MEMCLI_DB": str(folder / "memory.db")}
    command = [sys.executable, "-m", "memcli", "ingest", str(folder / "corpus.jsonl"), "--json", "--quiet"]
    began = time.perf_counter()
    with (folder / "report.json").open("w+b") as report:
        # No shell, and nothing in the command comes from outside.
        process = subprocess.Popen(command, stdout=report, env=environment, cwd=folder)  # noqa: S603 - as said
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise MemcliError(f"the measured ingest failed with exit code {process.returncode}")
        report.seek(0)
        return IngestResult(name, messages, seconds, _megabytes(usage.ru_maxrss), json.load(report))


def _megabytes(maxrss: int) -> float:
    # Linux counts kilobytes, macOS bytes.
    return maxrss / (1e6 if sys.platform == "darwin" else 1e3)
