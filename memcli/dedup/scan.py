"""Exact similarity search: every pair of vectors whose dot product reaches a threshold, found tile by tile.

Products of int8 codes find the candidates, float64 products of the vectors themselves decide. Vectors are rows of
length one or zero, as an Embedder gives them.

Why no pair is lost: let x = x' + e and y = y' + f, where x' = s a and y' = t b are what the integer codes a and b
stand for. Then x.y = x'.y' + e.y + x'.f, so by Cauchy-Schwarz |x.y - s t (a.b)| <= |e| |y| + |x'| |f|. The norms on the
right are computed, not estimated; a.b is an integer and exact. So a pair with s t (a.b) below the threshold by more
than that is below the threshold.

Measured on 2 cores at 256 dimensions, a tile of 1,024 x 2,048: 1.0 ms for the integer product (onnxruntime's
MatMulInteger), 0.6 ms to look at it, against 4.1 ms for the float32 product.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

# A tile of products is looked at while it is still in the cache; larger tiles were not faster, smaller ones slower.
_QUERIES_AT_ONCE = 1024
_ROWS_AT_ONCE = 2048
_SCORED_AT_ONCE = 4096
FLOOD_PAIRS, STRONGEST = 64, 8
_GRAPH = Path(__file__).with_name("integer_product.onnx")
# Left codes are shifted to unsigned bytes, right ones keep to 7 bits: on processors without VNNI two products are
# added up in 16 bits, and 2 * 255 * 63 still fits.
_LEFT_RANGE, _RIGHT_RANGE, _SHIFT = 127, 63, 128
# For the rounding of norms, scales and scores in float64: far more than it can be.
_SLACK = 1e-9
_ERRORS_ONLY = 3

_Found = tuple["NDArray[np.int64]", "NDArray[np.int64]", "NDArray[np.float64]"]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs sorted by (query, id): three arrays of one length.

    `query` is the row of the queries, `id` the id of the stored vector, `score` their float64 dot product.
    """

    query: NDArray[np.int64]
    id: NDArray[np.int64]
    score: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Tile:
    """Codes of up to _ROWS_AT_ONCE stored vectors, from row `start` of their block on.

    `codes` is int8 (dim, m), `shifts` int32 (m,) what the unsigned left codes add to a column, `scale` what one step of
    a code stands for, `error` and `length` the largest norm of a residual and of a vector.
    """

    start: int
    codes: NDArray[np.int8]
    shifts: NDArray[np.int32]
    scale: float
    error: float
    length: float


@dataclass(frozen=True, slots=True)
class Block:
    """Stored vectors made ready to be searched: `ids` int64 (n,), `vectors` float32 (n, dim), and their codes."""

    ids: NDArray[np.int64]
    vectors: NDArray[np.float32]
    tiles: tuple[Tile, ...]


def make_block(ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> Block:
    """Quantise vectors, float32 (n, dim), for any number of searches; tile by tile, so that little memory is needed."""
    return Block(ids, vectors, tuple(_tile(vectors, start) for start in range(0, len(vectors), _ROWS_AT_ONCE)))


def _tile(vectors: NDArray[np.float32], start: int) -> Tile:
    rows = vectors[start : start + _ROWS_AT_ONCE]
    codes, scale, error = _quantised(rows, _RIGHT_RANGE)
    shifts = _SHIFT * codes.sum(axis=1, dtype=np.int32)
    return Tile(start, np.ascontiguousarray(codes.T), shifts, scale, error, _norm(rows))


@dataclass(frozen=True, slots=True)
class Flood:
    """What to do where thousands of templated texts are all near one another, and their pairs past counting.

    In a tile with more than FLOOD_PAIRS candidates per query only those are scored that have the query's key, which
    is all that can matter, and the STRONGEST ones of each query by their codes. `keys` gives those of the queries,
    int64 (b,), and `keys_of` those of stored ids; both are asked only in a flood. `left_out` int64 (b,) counts what was
    left out.
    """

    keys: Callable[[], NDArray[np.int64]]
    keys_of: Callable[[NDArray[np.int64]], NDArray[np.int64]]
    left_out: NDArray[np.int64]


def pairs_above(
    queries: NDArray[np.float32], blocks: Iterable[Block], threshold: float, flood: Flood | None = None
) -> Pairs:
    """Return all pairs of a query and a stored vector with a dot product of at least `threshold`.

    `queries` has shape (b, dim). The blocks are read once, in order. How the stored vectors are cut into blocks changes
    nothing in the result, except for what `flood` leaves out.
    """
    found: list[_Found] = []
    lefts = [_Left.of(queries, first) for first in range(0, len(queries), _QUERIES_AT_ONCE)]
    for block in blocks:
        for left in lefts:
            for query, row, score in _search(left, block, threshold, flood):
                found.append((query, block.ids[row], score))
    return _sorted(found)


def pairs_within(vectors: NDArray[np.float32], threshold: float, flood: Flood | None = None) -> Pairs:
    """Return all pairs of rows of `vectors`, shape (b, dim), with a dot product of at least `threshold`.

    Each pair comes once: `query` is the later row, `id` the earlier one.
    """
    found: list[_Found] = []
    for start in range(0, len(vectors), _QUERIES_AT_ONCE):
        left = _Left.of(vectors, start)
        earlier = vectors[: start + _QUERIES_AT_ONCE]
        block = make_block(np.arange(len(earlier)), earlier)
        for query, row, score in _search(left, block, threshold, flood, within=True):
            found.append((query, row, score))
    return _sorted(found)


@dataclass(frozen=True, slots=True)
class _Left:
    """Up to _QUERIES_AT_ONCE queries from row `first` on, with unsigned codes of `scale`."""

    first: int
    vectors: NDArray[np.float32]
    codes: NDArray[np.uint8]
    scale: float
    error: float
    length: float

    @classmethod
    def of(cls, queries: NDArray[np.float32], first: int) -> _Left:
        vectors = queries[first : first + _QUERIES_AT_ONCE]
        codes, scale, error = _quantised(vectors, _LEFT_RANGE)
        unsigned = (codes.astype(np.int16) + _SHIFT).astype(np.uint8)
        return cls(first, vectors, unsigned, scale, error, _norm(vectors))


def _quantised(vectors: NDArray[np.float32], limit: int) -> tuple[NDArray[np.int8], float, float]:
    """Codes within +-limit, int8 (n, dim), what one step stands for, and the largest norm of what codes leave over."""
    largest = float(np.abs(vectors).max(initial=0.0))
    scale = np.float32(largest / limit) or np.float32(1)
    codes = np.clip(np.rint(vectors / scale), -limit, limit)
    # The float32 product and difference round once more than the proof does: by far less than this.
    error = _norm(vectors - codes * scale) + _norm(vectors) * 2.0**-22
    return codes.astype(np.int8), float(scale), error


def _norm(vectors: NDArray[np.float32]) -> float:
    """The largest Euclidean length of a row."""
    return float(np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64).max(initial=0.0)))


def _search(
    left: _Left, block: Block, threshold: float, flood: Flood | None, *, within: bool = False
) -> Iterator[_Found]:
    """Yield (query, row, score) arrays of the pairs, tile by tile; `within` gives only rows before the query's."""
    for tile in block.tiles:
        product = _product(left.codes, tile.codes)
        passing = product >= tile.shifts + _floor(left, tile, threshold)
        if within:
            rows = tile.start + np.arange(passing.shape[1])
            passing &= rows < (left.first + np.arange(len(passing)))[:, None]
        if flood is not None and np.count_nonzero(passing) > FLOOD_PAIRS * len(passing):
            passing = _dammed(passing, product - tile.shifts, block.ids[tile.start :][: passing.shape[1]], left, flood)
        candidates = np.flatnonzero(passing)
        for begin in range(0, len(candidates), _SCORED_AT_ONCE):
            query, row = np.divmod(candidates[begin : begin + _SCORED_AT_ONCE], len(tile.shifts))
            score = _scores(left.vectors[query], block.vectors[tile.start + row])
            kept = score >= threshold
            if kept.any():
                yield query[kept] + left.first, row[kept] + tile.start, score[kept]


def _dammed(
    passing: NDArray[np.bool_], product: NDArray[np.int32], ids: NDArray[np.int64], left: _Left, flood: Flood
) -> NDArray[np.bool_]:
    """Of the candidates `passing` (queries, rows) those worth scoring; the others are counted in `flood.left_out`."""
    mine = slice(left.first, left.first + len(passing))
    kept: NDArray[np.bool_] = passing & (flood.keys()[mine, None] == flood.keys_of(ids)[None, :])
    strongest = np.argpartition(product, -min(STRONGEST, product.shape[1]), axis=1)[:, -STRONGEST:]
    queries = np.arange(len(passing))[:, None]
    kept[queries, strongest] |= passing[queries, strongest]
    flood.left_out[mine] += np.count_nonzero(passing, axis=1) - np.count_nonzero(kept, axis=1)
    return kept


def _bound(left: _Left, tile: Tile) -> float:
    """How far the product of codes may be off (see the proof above)."""
    return left.error * tile.length + (left.length + left.error) * tile.error + _SLACK


def _floor(left: _Left, tile: Tile, threshold: float) -> np.int32:
    """The least product of codes that a pair at the threshold can have."""
    floor = math.floor((threshold - _bound(left, tile)) / (left.scale * tile.scale)) - 1
    # Sums of codes are far below this; a floor outside of it lets all or nothing pass.
    return np.int32(max(min(floor, 2**30), -(2**30)))


def _product(left: NDArray[np.uint8], right: NDArray[np.int8]) -> NDArray[np.int32]:
    """The product of codes, int32 (len(left), columns of right); valid until the next one is asked for.

    All products are written into one buffer: fresh ones of 8 MB each leave the heap in pieces, and twice the size.
    """
    shape = (left.shape[0], right.shape[1])
    product = _buffer(max(_QUERIES_AT_ONCE * _ROWS_AT_ONCE, shape[0] * shape[1]))[: shape[0] * shape[1]].reshape(shape)
    binding = _session().io_binding()
    binding.bind_cpu_input("left", left)
    binding.bind_cpu_input("right", right)
    binding.bind_output("product", "cpu", 0, np.int32, shape, product.ctypes.data)
    _session().run_with_iobinding(binding)
    return product


@lru_cache(maxsize=1)
def _buffer(size: int) -> NDArray[np.int32]:
    return np.empty(size, dtype=np.int32)


@lru_cache(maxsize=1)
def _session() -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.enable_cpu_mem_arena = False
    # By default onnxruntime counts physical cores; two threads of one core are still faster than one here.
    options.intra_op_num_threads = os.cpu_count() or 1
    # Waiting threads would spin and take the processor from whoever works between two products.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(_GRAPH), options, providers=["CPUExecutionProvider"])


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
