"""How fast the scan finds all similar pairs among vectors, beside numpy and SemHash on the same vectors."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memcli.bench.child import Measured, run_python
from memcli.bench.machine import machine, versions
from memcli.bench.peers import WAYS
from memcli.bench.vectors import GENERATED, generate, load
from memcli.errors import UsageError

MEMCLI, NUMPY, SEMHASH = WAYS
TIMED = "one process each: codes or index, and all pairs; not imports, nor loading the vectors"
_PAIRS_AT_ONCE = 1 << 14


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure: all pairs at `threshold` among generated vectors, or the first `count` of a .npy file.

    `repeat` is how often each way is run, in turns; `alone` leaves out all but memcli.
    """

    count: int | None = None
    dim: int | None = None
    threshold: float = 0.9
    vectors: Path | None = None
    seed: int = 7
    repeat: int = 2
    alone: bool = False


@dataclass(slots=True)
class Benchmark:
    """Samples of each way, the least seconds of which count, and its pairs: all, and those that are expected."""

    plan: Plan
    count: int
    dim: int
    samples: dict[str, list[Measured]]
    pairs: dict[str, int] = field(default_factory=dict)
    expected: int | None = None
    notes: list[str] = field(default_factory=list)

    def seconds(self, way: str) -> float | None:
        """The least seconds of a way; None when it was not run."""
        return min((float(each.document["seconds"]) for each in self.samples.get(way, ())), default=None)

    def cpu_seconds(self, way: str) -> float | None:
        """The least processor time of a way's whole process, which other programs on the machine disturb less."""
        return min((each.cpu_seconds for each in self.samples.get(way, ())), default=None)

    def times_faster(self, way: str) -> float | None:
        """How many times the seconds of memcli a way took."""
        own, other = self.seconds(MEMCLI), self.seconds(way)
        return None if own is None or other is None else other / own

    def to_json(self) -> dict[str, Any]:
        """The benchmark as one JSON document."""
        return {
            "benchmark": "scan",
            "versions": versions() | _semhash_version(),
            "machine": machine(),
            "timed": TIMED,
            "vectors": GENERATED if self.plan.vectors is None else str(self.plan.vectors),
            "seed": self.plan.seed if self.plan.vectors is None else None,
            "repeat": self.plan.repeat,
            "n": self.count,
            "dim": self.dim,
            "threads": machine()["cores"],
            "threshold": self.plan.threshold,
            "seconds": {way: _rounded(self.seconds(way), 3) for way in WAYS},
            "cpu_seconds": {way: _rounded(self.cpu_seconds(way), 2) for way in WAYS},
            "times_faster": {way: _rounded(self.times_faster(way), 2) for way in (NUMPY, SEMHASH)},
            "pairs": {"expected": self.expected} | {way: self.pairs.get(way) for way in (MEMCLI, SEMHASH)},
            "peak_rss_mb": self._peak(MEMCLI),
            "peers_peak_rss_mb": {way: self._peak(way) for way in (NUMPY, SEMHASH)},
            "samples": {
                way: [round(float(each.document["seconds"]), 3) for each in samples]
                for way, samples in self.samples.items()
            },
            "notes": self.notes,
        }

    def _peak(self, way: str) -> float | None:
        return _rounded(max((each.peak_rss_mb for each in self.samples.get(way, ())), default=None), 1)


def bench_scan(plan: Plan, announce: Callable[[str], None]) -> Benchmark:
    """Run each way `repeat` times, in turns, in processes of their own, and compare the pairs.

    Expected are the pairs whose float64 product reaches the threshold, among those that numpy's float32 products give
    at a slightly lower one.

    Raises:
        UsageError: the file of vectors is not one, or not of the dimension that was asked for.
        MemcliError: a measured process failed.
    """
    with tempfile.TemporaryDirectory(prefix="memcli-bench-") as name:
        folder = Path(name)
        vectors = _vectors(plan, announce)
        np.save(folder / "vectors.npy", vectors)
        ways = [MEMCLI] if plan.alone else [way for way in WAYS if way != SEMHASH or find_spec(SEMHASH)]
        result = Benchmark(plan, len(vectors), vectors.shape[1], {way: [] for way in ways})
        if not plan.alone and SEMHASH not in ways:
            result.notes.append("SemHash is not installed: pip install 'memcli[bench]'")
        for number in range(plan.repeat):
            for way in ways:
                announce(f"round {number + 1} of {plan.repeat}: {way}")
                result.samples[way].append(_run(way, plan.threshold, folder))
        _compare(result, vectors, folder)
    return result


def _vectors(plan: Plan, announce: Callable[[str], None]) -> NDArray[np.float32]:
    if plan.vectors is None:
        count, dim = plan.count or 100_000, plan.dim or 256
        announce(f"generating {count:,} vectors of {dim} dimensions")
        return generate(count, dim, plan.seed)
    vectors = load(plan.vectors, plan.count)
    if plan.dim not in {None, vectors.shape[1]}:
        raise UsageError(f"{plan.vectors} holds vectors of {vectors.shape[1]} dimensions", "leave out --dim")
    return vectors


def _run(way: str, threshold: float, folder: Path) -> Measured:
    sources = (str(folder / "vectors.npy"), repr(threshold), str(folder / f"{way}.npy"))
    return run_python(["-m", "memcli.bench.peers", way, *sources], folder)


def _compare(result: Benchmark, vectors: NDArray[np.float32], folder: Path) -> None:
    numbers = {
        way: np.sort(pairs[:, 0] * len(vectors) + pairs[:, 1])
        for way in result.samples
        for pairs in [np.load(folder / f"{way}.npy")]
    }
    if NUMPY not in numbers:
        result.pairs = {way: len(pairs) for way, pairs in numbers.items()}
        return
    expected = _exact(vectors, numbers[NUMPY], result.plan.threshold)
    result.expected = len(expected)
    for way in numbers.keys() - {NUMPY}:
        found = numbers[way]
        right = np.isin(expected, found, assume_unique=True).sum()
        result.pairs[way] = int(right)
        if way == MEMCLI and (right < len(expected) or len(found) > right):
            result.notes.append(
                f"memcli gave {len(found) - right:,} pairs too many and {len(expected) - right:,} too few"
            )
        if way == SEMHASH:
            result.notes.append(f"SemHash misses {len(expected) - right:,} of {len(expected):,} pairs")


def _exact(vectors: NDArray[np.float32], numbers: NDArray[np.int64], threshold: float) -> NDArray[np.int64]:
    """Those of the pairs (later * n + earlier) whose float64 product reaches the threshold."""
    kept = [np.empty(0, dtype=np.int64)]
    for at in range(0, len(numbers), _PAIRS_AT_ONCE):
        some = numbers[at : at + _PAIRS_AT_ONCE]
        later, earlier = np.divmod(some, len(vectors))
        scores = (vectors[later].astype(np.float64) * vectors[earlier]).sum(axis=1)
        kept.append(some[scores >= threshold])
    return np.concatenate(kept)


def _semhash_version() -> dict[str, str]:
    try:
        return {SEMHASH: version(SEMHASH)}
    except PackageNotFoundError:
        return {}


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
