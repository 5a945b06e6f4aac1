"""A small program that finds all similar pairs among the vectors of a file in one of three ways, and times that.

`python -m memcli.bench.peers WAY VECTORS.npy THRESHOLD PAIRS.npy` writes the pairs (later row, earlier row) and prints
the seconds as JSON. Imports, loading the vectors and writing the pairs are not timed.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable
from importlib import import_module

import numpy as np
from numpy.typing import NDArray

_Way = Callable[[NDArray[np.float32], float], list[NDArray[np.int64]]]

_SEGMENT_ROWS = 4096
_BLOCK_ROWS = 2048
# A float32 score at the threshold may be off by this much: whoever asked decides in float64.
MARGIN = 1e-4


def with_memcli() -> _Way:
    """The engine of dedup: blocks like segments, whose codes are made here and timed."""
    from memcli.dedup.blocks import make_block  # noqa: PLC0415 - imports of the other ways stay out
    from memcli.dedup.scan import pairs_among  # noqa: PLC0415 - as above

    def find(vectors: NDArray[np.float32], threshold: float) -> list[NDArray[np.int64]]:
        cuts = [slice(at, at + _SEGMENT_ROWS) for at in range(0, len(vectors), _SEGMENT_ROWS)]
        ids = np.arange(len(vectors))
        blocks = [make_block(ids[cut], vectors[cut]) for cut in cuts]
        groups = pairs_among(lambda: blocks, threshold, after=-1)
        return [np.stack([group.later, group.earlier], axis=1) for group in groups]

    return find


def with_numpy() -> _Way:
    """Float32 products of blocks, each pair of blocks once; only blocks with a hit are looked at closer."""

    def find(vectors: NDArray[np.float32], threshold: float) -> list[NDArray[np.int64]]:
        found = []
        least = np.float32(threshold - MARGIN)
        product = np.empty((_BLOCK_ROWS, _BLOCK_ROWS), dtype=np.float32)
        for at in range(0, len(vectors), _BLOCK_ROWS):
            rows = vectors[at : at + _BLOCK_ROWS]
            for other in range(0, at + 1, _BLOCK_ROWS):
                columns = vectors[other : other + _BLOCK_ROWS]
                tile = np.matmul(rows, columns.T, out=product[: len(rows), : len(columns)])
                if tile.max() >= least:
                    later, earlier = np.divmod(np.flatnonzero(tile >= least), len(columns))
                    pairs = np.stack([later + at, earlier + other], axis=1)
                    found.append(pairs[pairs[:, 0] > pairs[:, 1]])
        return found

    return find


def with_semhash() -> _Way:
    """SemHash as it comes: its default index and self_deduplicate; what that is given as neighbours are the pairs."""
    semhash = import_module("semhash")

    def find(vectors: NDArray[np.float32], threshold: float) -> list[NDArray[np.int64]]:
        texts = [str(row) for row in range(len(vectors))]
        hasher = semhash.SemHash.from_embeddings(vectors, texts, model=None)
        given: list[list[tuple[NDArray[np.int64], NDArray[np.float32]]]] = []
        ask = hasher.index.query_threshold

        def remember(*args: object, **named: object) -> object:
            given.append(ask(*args, **named))
            return given[0]

        hasher.index.query_threshold = remember
        hasher.self_deduplicate(threshold)
        counts = [len(near) for near, _ in given[0]]
        rows = np.repeat(np.arange(len(counts)), counts)
        others = np.concatenate([near for near, _ in given[0]]).astype(np.int64)
        pairs = np.stack([np.maximum(rows, others), np.minimum(rows, others)], axis=1)
        return [np.unique(pairs[pairs[:, 0] > pairs[:, 1]], axis=0)]

    return find


WAYS = {"memcli": with_memcli, "numpy": with_numpy, "semhash": with_semhash}


def main(way: str, source: str, threshold: str, target: str) -> None:
    """Run one way on the vectors in `source`; the pairs go to `target`."""
    # Interrupted, it just ends: whoever started it says so.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    find, vectors = WAYS[way](), np.load(source)
    began = time.perf_counter()
    found = find(vectors, float(threshold))
    seconds = time.perf_counter() - began
    np.save(target, np.concatenate([np.empty((0, 2), np.int64), *found]))
    json.dump({"seconds": seconds}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
