"""A small program that looks up the nearest vectors of a file in one of several ways, and times that.

`python -m memcli.bench.search_peers WAY VECTORS.npy QUERIES.npy K FOUND.npy` writes the rows found for each query,
nearest first, and prints the times as JSON. Imports and loading the vectors are not timed.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_Rows = NDArray[np.float32]
# One query (dim,) or several (b, dim) -> the rows found, (k,) or (b, k).
_Ask = Callable[[_Rows], NDArray[np.int64]]

_SEGMENT_ROWS = 2048
_ROOM = 1_000_000_000
_MODEL = "bench"


def with_memcli(vectors: _Rows, k: int, folder: Path) -> _Ask:
    """Segments in a database, as ingest leaves them, and the scan of search with the default --max-memory."""
    from memcli.dedup.codes import encode  # noqa: PLC0415 - imports of the other ways stay out
    from memcli.search.matrix import Matrix  # noqa: PLC0415 - as above
    from memcli.store.db import Store  # noqa: PLC0415 - as above
    from memcli.store.vectors import Coding, NewRows, append_segments  # noqa: PLC0415 - as above

    store, coding = Store.create(folder / "memory.db"), Coding(encode, len, "")
    with store.transaction(store.generation()) as conn:
        for at in range(0, len(vectors), _SEGMENT_ROWS):
            some = vectors[at : at + _SEGMENT_ROWS]
            append_segments(conn, _MODEL, {"": NewRows(np.arange(at, at + len(some)), some)}, coding, {})
    matrix = Matrix(store, _MODEL, _ROOM)

    def ask(queries: _Rows) -> NDArray[np.int64]:
        several = np.atleast_2d(queries)
        scan = matrix.scan(several, None)
        found = [[row for row, _ in scan.nearest(number, k, None)] for number in range(len(several))]
        return np.array(found).reshape(*queries.shape[:-1], -1)

    return ask


def with_numpy(vectors: _Rows, k: int, _folder: Path) -> _Ask:
    """Brute force in float32: one product, and a partition."""

    def ask(queries: _Rows) -> NDArray[np.int64]:
        scores = queries @ vectors.T
        top = np.argpartition(-scores, k, axis=-1)[..., :k]
        order = np.argsort(-np.take_along_axis(scores, top, -1), axis=-1, kind="stable")
        found: NDArray[np.int64] = np.take_along_axis(top, order, -1)
        return found

    return ask


def with_sqlite_vec(vectors: _Rows, k: int, folder: Path) -> _Ask:
    """A vec0 table of float32 vectors in a file: brute force in C."""
    from memcli.store.rival import SqliteVec  # noqa: PLC0415 - imports of the other ways stay out

    index = SqliteVec(folder / "vec.db", vectors)

    def ask(queries: _Rows) -> NDArray[np.int64]:
        found = [index.nearest(query, k) for query in np.atleast_2d(queries)]
        return np.array(found).reshape(*queries.shape[:-1], -1)

    return ask


def with_usearch(vectors: _Rows, k: int, _folder: Path) -> _Ask:
    """USearch's index of small worlds as it comes (HNSW, approximate), float32."""
    index = import_module("usearch.index").Index(ndim=vectors.shape[1], metric="ip", dtype="f32")
    index.add(np.arange(len(vectors)), vectors)

    def ask(queries: _Rows) -> NDArray[np.int64]:
        return np.asarray(index.search(queries, k).keys).astype(np.int64)

    return ask


def with_faiss(vectors: _Rows, k: int, _folder: Path) -> _Ask:
    """The flat index of faiss: brute force in float32."""
    index = import_module("faiss").IndexFlatIP(vectors.shape[1])
    index.add(vectors)

    def ask(queries: _Rows) -> NDArray[np.int64]:
        found: NDArray[np.int64] = index.search(np.atleast_2d(queries), k)[1]
        return found.reshape(*queries.shape[:-1], -1)

    return ask


WAYS = {
    "memcli": with_memcli,
    "numpy": with_numpy,
    "sqlite-vec": with_sqlite_vec,
    "usearch": with_usearch,
    "faiss": with_faiss,
}
MODULES = {"sqlite-vec": "sqlite_vec", "usearch": "usearch", "faiss": "faiss"}


def main(way: str, source: str, asked: str, k: str, target: str) -> None:
    """Run one way on the vectors in `source` and the queries in `asked`; the rows go to `target`."""
    # Interrupted, it just ends: whoever started it says so.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    vectors, queries = np.load(source), np.load(asked)
    with tempfile.TemporaryDirectory(prefix="memcli-bench-") as name:
        began = time.perf_counter()
        ask = WAYS[way](vectors, int(k), Path(name))
        built = time.perf_counter() - began
        began = time.perf_counter()
        found = [ask(queries[0])]
        first = time.perf_counter() - began
        seconds = []
        for query in queries[1:]:
            began = time.perf_counter()
            found.append(ask(query))
            seconds.append(time.perf_counter() - began)
        began = time.perf_counter()
        ask(queries)
        together = time.perf_counter() - began
    np.save(target, np.stack(found))
    json.dump({"build": built, "first": first, "seconds": seconds, "together": together}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
