"""How fast a local embedding model is: one text at a time, in parallel, in batches, and beside its bare parts."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memcli.bench.child import run_python
from memcli.bench.compare import LEAST_NOISE, UNKNOWN_NOISE
from memcli.bench.machine import machine, versions
from memcli.embed.models import ModelFiles
from memcli.errors import MemcliError, UsageError

TIMED = "one pass over all texts in a warm process; each mode and round is a process of its own; the fastest counts"
STATIC_TEXTS = 10_000
TRANSFORMER_TEXTS = 256
BARE = "bare"
# (name, way, threads of onnxruntime)
MODES = (
    ("one at a time", "one", 1),
    ("one at a time", "one", 2),
    ("one at a time, 2 callers", "gathered", 1),
    ("batches as they come", "fixed", 1),
    ("batches as they come", "fixed", 2),
    ("length-sorted batches", "queued", 1),
    ("length-sorted batches", "queued", 2),
    ("bare tokenizer and graph", BARE, 1),
    ("bare tokenizer and graph", BARE, 2),
)
# A program, since nothing down here may import the command line.
_START = """
import json, os, sys
from pathlib import Path
from memcli.cli.app import build
build(["search"])
from memcli import wiring
from memcli.commands import search
from memcli.config import load
from memcli.embed.models import load_card
config, _ = load({}, None, os.environ, Path.cwd())
embedder = wiring.embedder_of(load_card(Path(sys.argv[1])), config, os.environ)
print(json.dumps({"rows": len(embedder.embed_queries(["what did we decide about retries"]))}))
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure: `texts` generated from `seed`, in batches of `batch_size`, `repeat` rounds over all modes."""

    texts: int
    seed: int = 7
    repeat: int = 3
    batch_size: int = 64


def bench_embed(files: ModelFiles, plan: Plan, announce: Callable[[str], None]) -> dict[str, Any]:
    """Measure every mode; the JSON document of `memcli bench embed`.

    The modes take turns, and that is repeated, so that what slows the machine for a while does not fall on one of them.
    Each runs the embedder that ingest uses. Rates are of the fastest round.
    """
    samples: dict[tuple[str, int], list[dict[str, Any]]] = {(way, threads): [] for _, way, threads in MODES}
    for number in range(plan.repeat):
        for name, way, threads in MODES:
            announce(f"round {number + 1} of {plan.repeat}: {name}, graph in {_threads(threads)}")
            samples[way, threads].append(run_mode(files, plan, way, threads))
    announce("the start: import the command line, load the model, embed one query")
    start = _start(files, 1 + 2 * plan.repeat)
    tokens = next(iter(samples.values()))[0]["tokens"]
    modes = [_mode(name, way, threads, plan, tokens, samples[way, threads]) for name, way, threads in MODES]
    return {
        "benchmark": "embed",
        "versions": versions(),
        "machine": machine(),
        "timed": TIMED,
        "model": files.name,
        "model_id": files.model_id,
        "dim": files.dim,
        "texts": plan.texts,
        "tokens": tokens,
        "seed": plan.seed,
        "repeat": plan.repeat,
        "batch_size": plan.batch_size,
        "start": start,
        "modes": modes,
        "ratios": _ratios(modes),
    }


def read_baseline(path: Path, plan: Plan) -> dict[str, Any]:
    """The document of an earlier `memcli bench embed --json` over the same texts, of whatever model.

    Raises:
        UsageError: the file cannot be read, is something else, or measured other texts.
    """
    hint = "name a file made with: memcli bench embed --json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", hint) from error
    except ValueError as error:
        raise UsageError(f"{path} is not JSON", hint) from error
    if not isinstance(document, dict) or document.get("benchmark") != "embed" or "modes" not in document:
        raise UsageError(f"{path} holds no benchmark of embedding", hint)
    for name in ("texts", "seed"):
        if document.get(name) != getattr(plan, name):
            raise UsageError(
                f"{path} was measured with --{name} {document.get(name)}, this run has {getattr(plan, name)}",
                f"add --{name} {document.get(name)}",
            )
    return document


def compare(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """How much faster each mode is now than before (above 1: faster), and whether it is worse by more than the noise.

    `batches_by_one_before` sets the fastest length-sorted mode against one text at a time before: what changing the
    model and batching bring together.
    """
    earlier = {(mode["way"], mode["threads"]): mode for mode in before["modes"]}
    modes = []
    for mode in now["modes"]:
        known = earlier.get((mode["way"], mode["threads"]))
        if known is not None:
            noise = max(_noise(known), _noise(mode))
            ratio = known["seconds"] / mode["seconds"]
            compared = {"ratio": round(ratio, 3), "noise": round(noise, 3), "worse": ratio < 1 / (1 + noise)}
            modes.append({key: mode[key] for key in ("name", "way", "threads")} | compared)
    batches = min(mode["seconds"] for mode in now["modes"] if mode["way"] == "queued")
    return {
        "model": before["model"],
        "machine": before["machine"],
        "modes": modes,
        "batches_by_one_before": round(earlier["one", 1]["seconds"] / batches, 2),
    }


def run_mode(files: ModelFiles, plan: Plan, way: str, threads: int) -> dict[str, Any]:
    """One way of embedding, one round, in a process of its own; what embed_mode.measured gives.

    Raises:
        MemcliError: it failed.
    """
    request = {
        "folder": str(files.folder.resolve()),
        "way": way,
        "threads": threads,
        "size": plan.batch_size,
        "texts": plan.texts,
        "seed": plan.seed,
    }
    # No shell, and nothing in the command comes from outside.
    done = subprocess.run(  # noqa: S603 - as said
        [sys.executable, "-m", "memcli.bench.embed_mode", json.dumps(request)], stdout=subprocess.PIPE, check=False
    )
    if done.returncode:
        raise MemcliError(f"the measured process failed with exit code {done.returncode}", "what it said is above")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _start(files: ModelFiles, runs: int) -> dict[str, float]:
    """Least and median seconds of a whole process that embeds one query, from its start to its end."""
    with tempfile.TemporaryDirectory(prefix="memcli-bench-") as folder:
        done = [run_python(["-c", _START, str(files.folder.resolve())], Path(folder)) for _ in range(runs)]
    seconds = [each.seconds for each in done]
    return {
        "runs": runs,
        "seconds": round(min(seconds), 4),
        "median_seconds": round(statistics.median(seconds), 4),
        "cpu_seconds": round(min(each.cpu_seconds for each in done), 4),
        "peak_rss_mb": round(max(each.peak_rss_mb for each in done), 1),
    }


def _mode(name: str, way: str, threads: int, plan: Plan, tokens: int, samples: list[dict[str, Any]]) -> dict[str, Any]:
    best = min(samples, key=lambda sample: float(sample["seconds"]))
    kept = [{key: round(value, 5) for key, value in sample.items() if key != "tokens"} for sample in samples]
    return {
        "name": name,
        "way": way,
        "threads": threads,
        "seconds": round(best["seconds"], 5),
        "cpu_seconds": round(min(sample["cpu_seconds"] for sample in samples), 5),
        "texts_per_second": round(plan.texts / best["seconds"], 1),
        "tokens_per_second": round(tokens / best["seconds"]),
        "peak_rss_mb": round(max(sample["peak_rss_mb"] for sample in samples), 1),
        "samples": kept,
    }


def _ratios(modes: list[dict[str, Any]]) -> dict[str, float]:
    """What each step brings, as a ratio of times; and how near the batches are to the bare parts."""
    seconds = {(mode["way"], mode["threads"]): mode["seconds"] for mode in modes}
    cpu = {(mode["way"], mode["threads"]): mode["cpu_seconds"] for mode in modes}
    bare = next(mode for mode in modes if (mode["way"], mode["threads"]) == (BARE, 1))
    tokenizer = min(sample["tokenizer_seconds"] for sample in bare["samples"])
    one = seconds["one", 1]
    found = {
        "threads": one / seconds["one", 2],
        "callers": one / seconds["gathered", 1],
        "batches_as_they_come": one / min(seconds["fixed", 1], seconds["fixed", 2]),
        "length_sorted_batches": one / min(seconds["queued", 1], seconds["queued", 2]),
        "of_bare_1": _of_bare(modes, 1),
        "of_bare_2": _of_bare(modes, 2),
        "of_bare_cpu": bare["cpu_seconds"] / cpu["queued", 1],
        "tokenizer_share": tokenizer / seconds["queued", 1],
    }
    return {name: round(value, 3) for name, value in found.items()}


def _of_bare(modes: list[dict[str, Any]], threads: int) -> float:
    """The time of the bare parts, each at its fastest, by that of the whole embedder."""
    by_way = {mode["way"]: mode for mode in modes if mode["threads"] == threads}
    parts = by_way[BARE]["samples"]
    tokenizer, graph = (min(sample[f"{part}_seconds"] for sample in parts) for part in ("tokenizer", "graph"))
    return float((tokenizer + graph) / by_way["queued"]["seconds"])


def _noise(mode: Mapping[str, Any]) -> float:
    samples: list[float] = [sample["seconds"] for sample in mode["samples"]]
    if len(samples) == 1:
        return UNKNOWN_NOISE
    return max((max(samples) - min(samples)) / min(samples), LEAST_NOISE)


def _threads(count: int) -> str:
    return f"{count} thread" if count == 1 else f"{count} threads"
