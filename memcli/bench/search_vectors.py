"""How fast the nearest vectors of a query are found, beside numpy, sqlite-vec, USearch and faiss on the same ones."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memcli.bench.child import Measured, run_python
from memcli.bench.machine import machine, versions
from memcli.bench.search_peers import MODULES, WAYS
from memcli.bench.vectors import GENERATED, generate
from memcli.errors import MemcliError
from memcli.store.rival import can_load_extensions

SIZES = (10_000, 100_000)
TIMED = (
    "one process each, turns; build: index or database from an array; first: the first query; warm: each of the"
    " others; together: all in one call"
)
SQLITE_VEC = "sqlite-vec"
_K = 10
_DIM = 256
_MORE = 50
_ROWS_AT_ONCE = 1 << 16
_PACKAGES = {"sqlite-vec": "sqlite-vec", "usearch": "usearch", "faiss": "faiss-cpu", "apsw": "apsw"}


def bench_vectors(
    sizes: Sequence[int], queries: int, repeat: int, seed: int, announce: Callable[[str], None]
) -> dict[str, Any]:
    """Look up the ten nearest of generated vectors in each way; the document of `memcli bench search --vectors`.

    Queries are vectors of the corpus with as much noise added. Right are the ten with the largest float64 products.

    Raises:
        MemcliError: the measured process of memcli failed.
    """
    absent = [way for way in WAYS if way in MODULES and not find_spec(MODULES[way])]
    notes = [f"not installed: {', '.join(absent)} (pip install 'memcli[bench]')"] if absent else []
    if SQLITE_VEC not in absent and not can_load_extensions():
        absent.append(SQLITE_VEC)
        notes.append("sqlite-vec is left out: this Python's sqlite3 loads no extensions (pip install apsw)")
    ways = [way for way in WAYS if way not in absent]
    return {
        "benchmark": "search --vectors",
        "versions": versions() | _peer_versions(),
        "machine": machine(),
        "timed": TIMED,
        "vectors": GENERATED,
        "dim": _DIM,
        "k": _K,
        "queries": queries,
        "seed": seed,
        "repeat": repeat,
        "sizes": [_size(count, queries, repeat, seed, ways, notes, announce) for count in sizes],
        "notes": notes,
    }


def _size(
    count: int,
    queries: int,
    repeat: int,
    seed: int,
    ways: Sequence[str],
    notes: list[str],
    announce: Callable[[str], None],
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="memcli-bench-") as name:
        folder = Path(name)
        announce(f"generating {count:,} vectors of {_DIM} dimensions")
        vectors = generate(count, _DIM, seed)
        asked = _queries(vectors, queries, seed)
        right = _nearest(vectors, asked)
        np.save(folder / "vectors.npy", vectors)
        np.save(folder / "queries.npy", asked)
        samples: dict[str, list[Measured]] = {way: [] for way in ways}
        for number in range(repeat):
            for way in ways:
                announce(f"{count:,} vectors, round {number + 1} of {repeat}: {way}")
                try:
                    samples[way].append(_run(way, folder))
                except MemcliError as error:
                    if way not in MODULES:
                        raise
                    notes.append(f"{way} failed at {count:,} vectors: {error}")
        figures = {
            way: _figures(found, np.load(folder / f"{way}.npy"), right) for way, found in samples.items() if found
        }
    own = figures["memcli"]["warm_ms"]
    for each in figures.values():
        each["times_as_long"] = round(each["warm_ms"] / own, 2)
    return {"n": count, "ways": figures}


def _run(way: str, folder: Path) -> Measured:
    sources = (str(folder / "vectors.npy"), str(folder / "queries.npy"), str(_K), str(folder / f"{way}.npy"))
    return run_python(["-m", "memcli.bench.search_peers", way, *sources], folder)


def _queries(vectors: NDArray[np.float32], count: int, seed: int) -> NDArray[np.float32]:
    draw = np.random.default_rng(seed + 1)
    found = vectors[draw.integers(0, len(vectors), count)]
    noise = draw.standard_normal(found.shape, dtype=np.float32)
    found = found + noise / np.linalg.norm(noise, axis=1, keepdims=True)
    unit: NDArray[np.float32] = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _nearest(vectors: NDArray[np.float32], queries: NDArray[np.float32]) -> NDArray[np.int64]:
    """The rows with the _K largest float64 products, among _MORE with the largest float32 ones of each stretch."""
    rows, scores = [], []
    for at in range(0, len(vectors), _ROWS_AT_ONCE):
        part = vectors[at : at + _ROWS_AT_ONCE]
        rough = queries @ part.T
        top = np.argpartition(-rough, min(_MORE, len(part) - 1), axis=1)[:, :_MORE]
        rows.append(top + at)
        scores.append(np.einsum("qkd,qd->qk", part[top].astype(np.float64), queries.astype(np.float64)))
    all_rows, all_scores = np.concatenate(rows, axis=1), np.concatenate(scores, axis=1)
    order = np.lexsort((all_rows, -all_scores))[:, :_K]
    found: NDArray[np.int64] = np.take_along_axis(all_rows, order, axis=1)
    return found


def _figures(samples: Sequence[Measured], found: NDArray[np.int64], right: NDArray[np.int64]) -> dict[str, Any]:
    warm = min((each.document["seconds"] for each in samples), key=statistics.median)
    together = min(each.document["together"] for each in samples)
    same = [len(set(mine) & set(best)) / len(best) for mine, best in zip(found.tolist(), right.tolist(), strict=True)]
    return {
        "build_seconds": round(min(each.document["build"] for each in samples), 3),
        "first_ms": round(min(each.document["first"] for each in samples) * 1e3, 2),
        "warm_ms": round(statistics.median(warm) * 1e3, 3),
        "warm_p95_ms": round(sorted(warm)[int(len(warm) * 0.95)] * 1e3, 3),
        "queries_per_second": round(len(found) / together, 1),
        "recall": round(sum(same) / len(same), 4),
        "identical": int((found == right).all(axis=1).sum()),
        "peak_rss_mb": round(max(each.peak_rss_mb for each in samples), 1),
    }


def _peer_versions() -> dict[str, str]:
    found = {}
    for way, package in _PACKAGES.items():
        try:
            found[way] = version(package)
        except PackageNotFoundError:
            continue
    return found
