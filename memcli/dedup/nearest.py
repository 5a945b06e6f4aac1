"""The nearest stored vectors of a query, exactly: products of int8 codes rule out, float64 products decide.

The bound is the one of scan.py: with x = x' + e and y = y' + f, where x' and y' are what the codes stand for,
|x.y - x'.y'| <= |e| |y| + |x'| |f|. A query is coded in two digits, y' = t (64 h + l), which makes f two hundred times
smaller than e: what is left of the bound is the error of the stored codes.

Let L be the k-th largest of the lower bounds. k vectors reach L for sure, so one whose upper bound is below L is not
among the k nearest. All others are scored in float64.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from memcli.codes import Codes
from memcli.dedup.codes import ERROR, LENGTH, QUERY_RANGE, STEP, largest, norms, quantise
from memcli.dedup.scan import product_of_codes
from memcli.workers import workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

_DIGIT = 64
_LOW = _DIGIT // 2
_RANGE = QUERY_RANGE * _DIGIT + _LOW - 1
# Rows that a thread takes at once: handing fewer over costs more than it gains.
_ROWS_PER_TASK = 1 << 15
# Of codes in memory a thread takes one tile after another.
_ROWS_PER_TILE = 1 << 13
# More of them than this wait for the memory.
_MOST_THREADS = 4
_CHUNK = 64
# For the rounding of products in float32 and of norms: a score of 1 is rounded by 1e-7.
_SLACK = 2e-6


@dataclass(frozen=True, slots=True)
class CodedQueries:
    """Queries float32 (b, dim), their codes int8 (dim, 2 b): all high digits, then all low ones."""

    vectors: NDArray[np.float32]
    codes: NDArray[np.int8]
    steps: NDArray[np.float32]
    errors: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Approximate:
    """Products of the codes of n stored vectors with b queries: `scores` float32 (b, n), `scales` as Codes has them."""

    queries: CodedQueries
    scores: NDArray[np.float32]
    scales: NDArray[np.float32]

    def bounds(self, query: int) -> NDArray[np.float32]:
        """How far each score of a query may be off, (n,)."""
        error, length = self.scales[:, ERROR], self.scales[:, LENGTH]
        own, left = np.float32(norms(self.queries.vectors[query : query + 1])[0]), self.queries.errors[query]
        found: NDArray[np.float32] = error * own + (length + error) * np.float32(left) + np.float32(_SLACK)
        return found

    def survivors(self, query: int, k: int, passing: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
        """Rows, ascending, that hold the `k` nearest of a query among those that are `passing` (n,)."""
        scores, bounds = self.scores[query], self.bounds(query)
        lower = scores - bounds if passing is None else np.where(passing, scores - bounds, np.float32(-np.inf))
        upper = scores + bounds if passing is None else np.where(passing, scores + bounds, np.float32(-np.inf))
        rows = np.flatnonzero(upper >= floor_of_best(lower, k))
        rows = rows[upper[rows] >= _kth(lower[rows], k)]
        return rows if passing is None else rows[passing[rows]]


def coded(queries: NDArray[np.float32]) -> CodedQueries:
    """Quantise queries, float32 (b, dim), each with a step of its own."""
    steps = largest(queries, axis=1) / np.float32(_RANGE)
    steps = np.where(steps > 0, steps, np.float32(1))
    whole, errors = quantise(queries, steps[:, None], _RANGE)
    high = np.rint(whole / _DIGIT)
    both = np.concatenate([high, whole - _DIGIT * high])
    return CodedQueries(queries, np.ascontiguousarray(both.T, dtype=np.int8), steps, errors)


def approximate(parts: Iterable[Codes], queries: CodedQueries) -> Approximate:
    """Multiply all stored codes with all queries; threads share the work, the parts are read in order."""
    scales: list[NDArray[np.float32]] = []
    scores: list[NDArray[np.float32]] = []
    waiting: deque[Future[NDArray[np.float32]]] = deque()
    task: list[Codes] = []
    rows, threads = 0, min(workers(), _MOST_THREADS)
    for part in parts:
        scales.append(part.scales)
        task.append(part)
        rows += len(part.values)
        if rows >= _ROWS_PER_TASK:
            waiting.append(_pool(threads).submit(_scores, task, queries))
            task, rows = [], 0
        if len(waiting) > threads:
            scores.append(waiting.popleft().result())
    last = _scores(task, queries)
    scores.extend(future.result() for future in waiting)
    return Approximate(queries, np.concatenate([*scores, last], axis=1), np.concatenate([_NO_SCALES, *scales]))


def begin(
    codes_at: Callable[[slice], Codes], scales: NDArray[np.float32], queries: CodedQueries
) -> Callable[[], Approximate]:
    """Begin to multiply n stored codes with all queries; who calls what is given does the rest.

    All workers but one, which is the caller's, begin at once. `codes_at` gives the codes of some rows; threads call
    it. `scales` (n, 3) are those of all rows.
    """
    rows, threads = len(scales), min(workers(), _MOST_THREADS)
    found = np.empty((len(queries.vectors), rows), dtype=np.float32)
    tiles = deque(slice(at, min(at + _ROWS_PER_TILE, rows)) for at in range(0, rows, _ROWS_PER_TILE))

    def work() -> None:
        while tiles:
            try:
                tile = tiles.popleft()
            except IndexError:  # Another thread was faster.
                return
            _score(codes_at(tile), queries, found[:, tile])

    working = [_pool(threads).submit(work) for _ in range(threads - 1)]

    def finish() -> Approximate:
        work()
        for other in working:
            other.result()
        return Approximate(queries, found, scales)

    return finish


def floor_of_best(values: NDArray[np.float32], k: int) -> np.float32:
    """A number that at least `k` of the values (n,) reach, and not many more: several times faster than a partition.

    It is the k-th largest among the largest of each 64 values, so k values reach it.
    """
    whole = len(values) - len(values) % _CHUNK
    return _kth(values if whole < _CHUNK * k else values[:whole].reshape(-1, _CHUNK).max(axis=1), k)


def _kth(values: NDArray[np.float32], k: int) -> np.float32:
    if k >= len(values):
        return np.float32(-np.inf)
    found: np.float32 = np.partition(values, len(values) - k)[len(values) - k]
    return found


def exact(queries: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Float64 products of one query (dim,) with rows (n, dim); every row is summed in the same way."""
    found: NDArray[np.float64] = (vectors.astype(np.float64) * queries).sum(axis=1)
    return found


def _scores(parts: list[Codes], queries: CodedQueries) -> NDArray[np.float32]:
    found = np.empty((len(queries.vectors), sum(len(part.values) for part in parts)), dtype=np.float32)
    end = 0
    for part in parts:
        place = slice(end, end := end + len(part.values))
        _score(part, queries, found[:, place])
    return found


def _score(part: Codes, queries: CodedQueries, found: NDArray[np.float32]) -> None:
    """Write the products of codes with b queries into `found` (b, n)."""
    count = len(queries.vectors)
    product = product_of_codes(part.values, queries.codes)
    # As whole numbers: the sum of both digits has more of them than float32.
    whole = product[:, :count] * _DIGIT + product[:, count:]
    np.multiply(whole.T, part.scales[:, STEP], out=found)
    found *= queries.steps[:, None]


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="nearest")


_NO_SCALES = np.empty((0, 3), dtype=np.float32)
