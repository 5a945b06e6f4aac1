"""Exact similarity search: every pair of vectors whose dot product reaches a threshold, found tile by tile.

A float32 matrix product finds the candidates, float64 decides. Vectors are rows of length one or zero, as an Embedder
gives them.

Why no pair is lost: a float32 dot product of length d, in any order of summation and with or without fused
multiply-add, errs by at most d u / (1 - d u) |x| |y| with u = 2^-24 (Higham, Accuracy and Stability of Numerical
Algorithms, section 3.1). Up to d = 65,536 and lengths up to 1.001 that is below 1.007 d u, and what is left of
1.01 d u is far more than underflow (d 2^-126) and the rounding of the float64 score (d 2^-53). So a pair whose float32
product is below the threshold by more than 1.01 d u has a float64 score below the threshold.

A cheaper bound first (the leading columns, and Cauchy-Schwarz on the length of the rest) was measured on 50,000 x 256
vectors of the shipped model at threshold 0.9: 64 columns take 70 % of the full product's time and leave 0.6 % of the
pairs, whose scoring costs more than was saved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

# A tile of products is looked at while it is still in the cache; larger tiles were not faster, smaller ones slower.
_QUERIES_AT_ONCE = 1024
_ROWS_AT_ONCE = 2048
_SCORED_AT_ONCE = 4096

_Found = tuple["NDArray[np.int64]", "NDArray[np.int64]", "NDArray[np.float64]"]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs sorted by (query, id): three arrays of one length.

    `query` is the row of the queries, `id` the id of the stored vector, `score` their float64 dot product.
    """

    query: NDArray[np.int64]
    id: NDArray[np.int64]
    score: NDArray[np.float64]


def pairs_above(
    queries: NDArray[np.float32],
    blocks: Iterable[tuple[NDArray[np.int64], NDArray[np.float32]]],
    threshold: float,
) -> Pairs:
    """Return all pairs of a query and a stored vector with a dot product of at least `threshold`.

    `queries` has shape (b, dim); each block is (ids of shape (n,), vectors of shape (n, dim)). The blocks are read
    once, in order. How the stored vectors are cut into blocks changes nothing in the result.
    """
    found: list[_Found] = []
    tile = np.empty(_QUERIES_AT_ONCE * _ROWS_AT_ONCE, dtype=np.float32)
    for ids, vectors in blocks:
        for query, row, score in _search(queries, vectors, threshold, tile):
            found.append((query, ids[row], score))
    return _sorted(found)


def pairs_within(vectors: NDArray[np.float32], threshold: float) -> Pairs:
    """Return all pairs of rows of `vectors`, shape (b, dim), with a dot product of at least `threshold`.

    Each pair comes once: `query` is the later row, `id` the earlier one.
    """
    found: list[_Found] = []
    tile = np.empty(_QUERIES_AT_ONCE * _ROWS_AT_ONCE, dtype=np.float32)
    for start in range(0, len(vectors), _QUERIES_AT_ONCE):
        end = start + _QUERIES_AT_ONCE
        for query, row, score in _search(vectors[start:end], vectors[:end], threshold, tile):
            later = query + start
            once = row < later
            found.append((later[once], row[once], score[once]))
    return _sorted(found)


def _search(
    queries: NDArray[np.float32], vectors: NDArray[np.float32], threshold: float, tile: NDArray[np.float32]
) -> Iterator[_Found]:
    """Yield (query, row, score) arrays of the pairs, tile by tile."""
    margin = 1.01 * queries.shape[1] * 2.0**-24
    floor = np.nextafter(np.float32(threshold - margin), np.float32(-np.inf))
    for first in range(0, len(queries), _QUERIES_AT_ONCE):
        left = queries[first : first + _QUERIES_AT_ONCE]
        for start in range(0, len(vectors), _ROWS_AT_ONCE):
            right = vectors[start : start + _ROWS_AT_ONCE]
            product = tile[: len(left) * len(right)].reshape(len(left), len(right))
            np.matmul(left, right.T, out=product)
            candidates = np.flatnonzero(product >= floor)
            for begin in range(0, len(candidates), _SCORED_AT_ONCE):
                query, row = np.divmod(candidates[begin : begin + _SCORED_AT_ONCE], len(right))
                score = _scores(left[query], right[row])
                kept = score >= threshold
                if kept.any():
                    yield query[kept] + first, row[kept] + start, score[kept]


def _scores(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the float64 dot products of the rows; the products are exact, and each row is summed in the same way."""
    scores: NDArray[np.float64] = (left.astype(np.float64) * right).sum(axis=1)
    return scores


def _sorted(found: list[_Found]) -> Pairs:
    if not found:
        return Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64))
    query, ids, score = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((ids, query))
    return Pairs(query[order], ids[order], score[order])
