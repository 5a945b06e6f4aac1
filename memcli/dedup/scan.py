"""Exact similarity search: every pair of vectors whose dot product reaches a threshold, found tile by tile.

Products of int8 codes find the candidates, float64 products of the vectors themselves decide. Vectors are rows of
length one or zero, as an Embedder gives them.

Why no pair is lost: let x = x' + e and y = y' + f, where x' = s a and y' = t b are what the integer codes a and b
stand for. Then x.y = x'.y' + e.y + x'.f, so by Cauchy-Schwarz |x.y - s t (a.b)| <= |e| |y| + |x'| |f|. The norms on the
right are computed, not estimated; a.b is an integer and exact. So a pair with s t (a.b) below the threshold by more
than that is below the threshold.

Every stored row has a step s and norms of its own, the queries of a tile have one step t and the largest of their
norms: so there is one integer that the products of a stored row must reach, and only rows whose largest product does
are looked at. Tiles are spread over threads, each with a product of its own that stays in the cache.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import onnxruntime

from memcli.codes import Codes
from memcli.dedup.blocks import Block
from memcli.dedup.codes import ERROR, LENGTH, QUERY_RANGE, SHIFT, STEP, encode, largest, norms, quantise
from memcli.dedup.flood import SAME_KEY, STRONGEST, Dam, Flood, Floors, Found, Kept, top
from memcli.workers import workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

# A tile of products is looked at while it is still in the cache.
_QUERIES_AT_ONCE = 1024
_ROWS_AT_ONCE = 512
_ROWS_PER_TASK = 4096
_SCORED_AT_ONCE = 1024
# Queries of a self-join that are held in memory while the blocks stream by: each pass reads all blocks once.
HELD = 16384
_GRAPH = Path(__file__).with_name("integer_product.onnx")
# For the rounding of norms, steps and scores in float64: far more than it can be.
_SLACK = 1e-9
_FIRST, _LAST = np.iinfo(np.int64).min, np.iinfo(np.int64).max
_ERRORS_ONLY = 3


_Item = TypeVar("_Item")
_Made = TypeVar("_Made")


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs sorted by (query, id): three arrays of one length.

    `query` is the row of the queries, `id` the id of the stored vector, `score` their float64 dot product.
    """

    query: NDArray[np.int64]
    id: NDArray[np.int64]
    score: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Group:
    """Pairs of stored vectors among themselves, sorted by (later, earlier).

    `ids` int64 (q,) are the vectors that were looked up, in the order of the blocks, and `left_out` int64 (q,) how many
    pairs of each a flood left out; `later`, `earlier` and `score` (p,) are the pairs, by their higher and lower id.
    """

    ids: NDArray[np.int64]
    later: NDArray[np.int64]
    earlier: NDArray[np.int64]
    score: NDArray[np.float64]
    left_out: NDArray[np.int64]


def pairs_above(
    queries: NDArray[np.float32], blocks: Iterable[Block], threshold: float, flood: Flood | None = None
) -> Pairs:
    """Return all pairs of a query and a stored vector with a dot product of at least `threshold`.

    `queries` has shape (b, dim). The blocks are read once, in order. How the stored vectors are cut into blocks changes
    nothing in the result, except for what `flood` leaves out.
    """
    places = np.full(len(queries), _LAST)
    return _pairs(_Queries.cut(queries, places, _FIRST), ((0, block) for block in blocks), threshold, flood)


def pairs_within(vectors: NDArray[np.float32], threshold: float, flood: Flood | None = None) -> Pairs:
    """Return all pairs of rows of `vectors`, shape (b, dim), with a dot product of at least `threshold`.

    Each pair comes once: `query` is the later row, `id` the earlier one.
    """
    places = np.arange(len(vectors))
    parts = _spread(encode, [vectors[at : at + _ROWS_PER_TASK] for at in range(0, len(vectors) or 1, _ROWS_PER_TASK)])
    codes = Codes(np.concatenate([part.values for part in parts]), np.concatenate([part.scales for part in parts]))
    block = Block(places, vectors, codes, flood.keys if flood is not None else None)
    return _pairs(_Queries.cut(vectors, places, _FIRST), [(0, block)], threshold, flood)


def pairs_among(
    blocks: Callable[[], Iterable[Block]], threshold: float, *, after: int = 0, flood: bool = False
) -> Iterator[Group]:
    """Yield all pairs of stored vectors with a dot product of at least `threshold` and a higher id above `after`.

    Every vector with an id above `after` is looked up among those before it in the order of the blocks, and among all
    with ids up to `after`; so each pair comes once, and where ids ascend over the blocks, all pairs of a vector with
    earlier ones come in one group. Up to HELD vectors are looked up in one pass over the blocks.

    Args:
        blocks: gives the same rows in the same order whenever it is called: once per pass.
        threshold: the least dot product.
        after: the watermark: pairs of two ids up to this one are left out, and cost nothing.
        flood: dam floods, see Flood; every block must have keys then. Without it every pair is given.
    """
    ahead, last_old, place = _Held(0, after), 0, 0
    for block in blocks():
        ahead.take(block, place)
        old = np.flatnonzero(block.ids <= after)
        last_old = place + int(old[-1]) + 1 if len(old) else last_old
        place += len(block.ids)
    while ahead.count:
        held, ahead = ahead, _Held(ahead.end, after)
        ids, vectors, places = held.rows()
        damming = Flood(held.keys, np.zeros(len(ids), dtype=np.int64)) if flood else None
        stream = _stream(blocks(), max(held.end, last_old), ahead)
        found = _pairs(_Queries.cut(vectors, places, after), stream, threshold, damming)
        mine = ids[found.query]
        later, earlier = np.maximum(mine, found.id), np.minimum(mine, found.id)
        order = np.lexsort((earlier, later))
        left_out = np.zeros(len(ids), dtype=np.int64) if damming is None else damming.left_out
        yield Group(ids, later[order], earlier[order], found.score[order], left_out)


def _stream(blocks: Iterable[Block], end: int, ahead: _Held) -> Iterator[tuple[int, Block]]:
    """Yield the blocks up to place `end`, each with the place of its first row, while `ahead` takes what it can."""
    place = 0
    for block in blocks:
        if place >= end and ahead.count == HELD:
            return
        if place < end:
            yield place, block
        ahead.take(block, place)
        place += len(block.ids)


class _Held:
    """Rows with ids above `after` from place `start` on, up to HELD of them, to be looked up in one pass."""

    def __init__(self, start: int, after: int) -> None:
        self.end = start
        self.count = 0
        self._start = start
        self._after = after
        self._parts: list[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]] = []
        self._keys: list[tuple[Block, NDArray[np.int64]]] = []

    def take(self, block: Block, place: int) -> None:
        """Take what there is room for of a block whose first row is at `place`."""
        first = max(self._start - place, 0)
        rows = first + np.flatnonzero(block.ids[first:] > self._after)[: HELD - self.count]
        if len(rows):
            self._parts.append((block.ids[rows], block.vectors[rows], place + rows))
            self._keys.append((block, rows))
            self.count += len(rows)
            self.end = place + int(rows[-1]) + 1

    def rows(self) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
        """Ids, vectors and places of all."""
        ids, vectors, places = zip(*self._parts, strict=True)
        return np.concatenate(ids), np.concatenate(vectors), np.concatenate(places)

    def keys(self) -> NDArray[np.int64]:
        """The merge keys of all."""
        return np.concatenate([_keys_of(block)[rows] for block, rows in self._keys])


@dataclass(frozen=True, slots=True)
class _Queries:
    """Up to _QUERIES_AT_ONCE queries from row `first` on, with codes int8 (dim, b), their one step and largest norms.

    A query is compared with the rows before its place, and with those whose id is at most `after`.
    """

    first: int
    vectors: NDArray[np.float32]
    places: NDArray[np.int64]
    after: int
    codes: NDArray[np.int8]
    step: float
    error: float
    length: float

    @classmethod
    def cut(cls, queries: NDArray[np.float32], places: NDArray[np.int64], after: int) -> list[_Queries]:
        """Cut queries (b, dim), their places ascending, into so many that one tile takes."""
        cuts = [slice(first, first + _QUERIES_AT_ONCE) for first in range(0, len(queries), _QUERIES_AT_ONCE)]
        return _spread(lambda cut: cls._of(cut.start, queries[cut], places[cut], after), cuts)

    @classmethod
    def _of(cls, first: int, vectors: NDArray[np.float32], places: NDArray[np.int64], after: int) -> _Queries:
        step = np.float32(largest(vectors) / np.float32(QUERY_RANGE)) or np.float32(1)
        rounded, errors = quantise(vectors, step, QUERY_RANGE)
        codes = np.ascontiguousarray(rounded.T, dtype=np.int8)
        length = float(norms(vectors).max())
        return cls(first, vectors, places, after, codes, float(step), float(errors.max()), length)


@dataclass(frozen=True, slots=True)
class _Task:
    """Rows `begin` to `end` of a block, whose first row is at `place`, to be searched for some queries."""

    queries: _Queries
    block: Block
    place: int
    begin: int
    end: int
    threshold: float

    def is_vain(self) -> bool:
        """Whether all of these rows come after all of the queries."""
        comes_after = self.place + self.begin >= int(self.queries.places[-1])
        return comes_after and int(self.block.ids[self.begin : self.end].min()) > self.queries.after


def _pairs(
    queries: list[_Queries], blocks: Iterable[tuple[int, Block]], threshold: float, flood: Flood | None
) -> Pairs:
    """Search blocks, each with the place of its first row, for queries; tasks run in threads and are taken in order."""
    dams = [Dam(flood, each.first, len(each.vectors)) for each in queries]
    waiting: deque[tuple[_Task, Future[Found | Kept | None]]] = deque()
    threads = workers()
    pool = _pool(threads)

    def dam_of(task: _Task) -> Dam:
        return dams[task.queries.first // _QUERIES_AT_ONCE]

    def start(task: _Task) -> Future[Found | Kept | None]:
        dam = dam_of(task)
        if dam.is_flooded:
            keys = dam.keys(), _keys_of(task.block)[task.begin : task.end]
            return pool.submit(_search_flood, task, keys, dam.floors)
        return pool.submit(_search, task, dam.most)

    def settle() -> None:
        task, future = waiting.popleft()
        if not dam_of(task).take(future.result()):
            dam_of(task).take(start(task).result())

    for task in _tasks(queries, blocks, threshold):
        waiting.append((task, start(task)))
        if len(waiting) > threads:
            settle()
    while waiting:
        settle()
    return _sorted([pairs for dam in dams for pairs in dam.pairs()])


def _tasks(queries: list[_Queries], blocks: Iterable[tuple[int, Block]], threshold: float) -> Iterator[_Task]:
    for place, block in blocks:
        for begin in range(0, len(block.ids), _ROWS_PER_TASK):
            end = min(begin + _ROWS_PER_TASK, len(block.ids))
            tasks = (_Task(each, block, place, begin, end, threshold) for each in queries)
            yield from (task for task in tasks if not task.is_vain())


def _search(task: _Task, most: int | None) -> Found | None:
    """Return (query, id, score) of all pairs of a task, None when there are more than `most` candidates for them."""
    likely: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    candidates = 0
    for rows, passing in _passing(task):
        place, query = _entries(passing)
        candidates += len(query)
        if most is not None and candidates > most:
            return None
        likely.append((query, rows[place]))
    if not likely:
        return _joined([])
    # All at once: to begin to read rows takes longer than to read a few more.
    both = (np.concatenate(parts) for parts in zip(*likely, strict=True))
    return _joined(list(_scored(task, *_likely(task, *both))))


def _search_flood(task: _Task, both_keys: tuple[NDArray[np.int64], NDArray[np.int64]], floors: Floors) -> Kept:
    """Return what is worth keeping of a task with more pairs than can be scored.

    Args:
        task: what to search.
        both_keys: the merge keys of the queries and of the rows.
        floors: scores below which a query's pairs are not worth it, with its key and without.
    """
    keys, keys_of_rows = both_keys
    same: list[Found] = []
    others: list[Found] = []
    total = np.zeros(len(keys), dtype=np.int64)
    for rows, candidates in _passing(task):
        scores, pairs, off = _verified(task, rows, candidates)
        total += np.count_nonzero(pairs, axis=0)
        equal = keys_of_rows[rows - task.begin][:, None] == keys[None, :]
        for kept, mine, limit, floor in ((same, equal, SAME_KEY, floors[0]), (others, ~equal, STRONGEST, floors[1])):
            among = pairs & mine & (scores >= (floor - off).astype(np.float32))
            place, query = _entries(top(scores, among, limit))
            kept.extend(_scored(task, query, rows[place]))
    return Kept(_joined(same), _joined(others), total)


def _passing(task: _Task) -> Iterator[tuple[NDArray[np.int64], NDArray[np.bool_]]]:
    """Yield rows (h,) and which of the queries may reach the threshold with them (h, b)."""
    queries, block = task.queries, task.block
    for begin in range(task.begin, task.end, _ROWS_AT_ONCE):
        tile = slice(begin, min(begin + _ROWS_AT_ONCE, task.end))
        product = _product(block.codes.values[tile], queries.codes)
        floors = _floors(queries, block.codes.scales[tile], task.threshold)
        hit = np.flatnonzero(product.max(axis=1) >= floors)
        if not len(hit):
            continue
        passing = product[hit] >= floors[hit, None]
        rows = begin + hit
        if task.place + tile.stop > queries.places[0]:
            passing &= (task.place + rows[:, None] < queries.places) | (block.ids[rows, None] <= queries.after)
        yield rows, passing


def _bounds(queries: _Queries, scales: NDArray[np.float32]) -> NDArray[np.float64]:
    """How far the products of codes of each row may be off (see the proof above)."""
    error, length = scales[:, ERROR].astype(np.float64), scales[:, LENGTH].astype(np.float64)
    return error * queries.length + (length + error) * queries.error + _SLACK


def _floors(queries: _Queries, scales: NDArray[np.float32], threshold: float) -> NDArray[np.int32]:
    """The least product of codes, for each row, that a pair at the threshold can have."""
    steps = scales[:, STEP].astype(np.float64) * queries.step
    # Sums of codes are far below the limits; a floor outside of them lets all or nothing pass.
    floors = np.clip(np.floor((threshold - _bounds(queries, scales)) / steps) - 1, -(2.0**30), 2.0**30)
    whole: NDArray[np.int32] = floors.astype(np.int32)
    return whole


def _verified(
    task: _Task, rows: NDArray[np.int64], passing: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.bool_], float]:
    """Float32 scores of rows and queries (h, b), which of `passing` are pairs, and how far the scores may be off.

    Float64 decides where the scores are too close to the threshold.
    """
    queries, block = task.queries, task.block
    scores: NDArray[np.float32] = block.vectors[rows] @ queries.vectors.T
    # What n roundings of float32 can do (Higham, Accuracy and Stability of Numerical Algorithms, 3.5), twice over.
    lengths = float(block.codes.scales[rows, LENGTH].max()) * queries.length
    off = _SLACK + 1e-6 + 2.0**-22 * len(queries.codes) * lengths
    pairs = passing & (scores >= task.threshold + off)
    place, query = _entries(passing & ~pairs & (scores >= task.threshold - off))
    for some in _slices(len(place)):
        exact = _scores(queries.vectors[query[some]], block.vectors[rows[place[some]]])
        pairs[place[some], query[some]] = exact >= task.threshold
    return scores, pairs, off


def _likely(
    task: _Task, query: NDArray[np.int64], row: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Leave out the candidates that a closer look at codes rules out; that takes less time than reading the rows.

    With the query itself in place of its code, only e.y is unknown of x.y (see the proof above).
    """
    queries, block = task.queries, task.block
    kept = np.ones(len(query), dtype=np.bool_)
    for some in _slices(len(query)):
        scales, vectors = block.codes.scales[row[some]].astype(np.float64), queries.vectors[query[some]]
        product = np.einsum("ij,ij->i", block.codes.values[row[some]].astype(np.float32) - SHIFT, vectors)
        lengths = scales[:, LENGTH] + scales[:, ERROR]
        # What n roundings of float32 can do, as in `_verified`.
        off = (scales[:, ERROR] + 2.0**-22 * len(queries.codes) * lengths) * queries.length + _SLACK
        kept[some] = scales[:, STEP] * product + off >= task.threshold
    return query[kept], row[kept]


def _scored(task: _Task, query: NDArray[np.int64], row: NDArray[np.int64]) -> Iterator[Found]:
    """Yield those of the candidates that reach the threshold."""
    queries, block = task.queries, task.block
    for some in _slices(len(query)):
        score = _scores(queries.vectors[query[some]], block.vectors[row[some]])
        kept = score >= task.threshold
        if kept.any():
            yield query[some][kept] + queries.first, block.ids[row[some][kept]], score[kept]


def _entries(marked: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of what is marked: several times faster than numpy's nonzero of two dimensions."""
    row, column = np.divmod(np.flatnonzero(marked), marked.shape[1])
    return row, column


def _slices(count: int) -> Iterator[slice]:
    return (slice(begin, begin + _SCORED_AT_ONCE) for begin in range(0, count, _SCORED_AT_ONCE))


def _scores(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the float64 dot products of the rows; the products are exact, and each row is summed in the same way."""
    scores: NDArray[np.float64] = (left.astype(np.float64) * right).sum(axis=1)
    return scores


def _product(left: NDArray[np.uint8], right: NDArray[np.int8]) -> NDArray[np.int32]:
    """The product of codes, int32 (rows of left, columns of right); valid until this thread asks for the next one.

    All products of a thread are written into one buffer: fresh ones leave the heap in pieces, and twice the size.
    """
    shape = (left.shape[0], right.shape[1])
    size = shape[0] * shape[1]
    if len(_MINE.buffer) < size:
        _MINE.buffer = np.empty(max(_ROWS_AT_ONCE * _QUERIES_AT_ONCE, size), dtype=np.int32)
    product: NDArray[np.int32] = _MINE.buffer[:size].reshape(shape)
    session = _session()
    binding = session.io_binding()
    binding.bind_cpu_input("left", left)
    binding.bind_cpu_input("right", right)
    binding.bind_output("product", "cpu", 0, np.int32, shape, product.ctypes.data)
    session.run_with_iobinding(binding)
    return product


class _Mine(threading.local):
    """What each thread has of its own."""

    def __init__(self) -> None:
        self.buffer: NDArray[np.int32] = np.empty(0, dtype=np.int32)


_MINE = _Mine()


@lru_cache(maxsize=1)
def _session() -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.enable_cpu_mem_arena = False
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(_GRAPH), options, providers=["CPUExecutionProvider"])


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    _session()  # Here, or several threads at once would each make one.
    return ThreadPoolExecutor(threads, thread_name_prefix="scan")


def _spread(work: Callable[[_Item], _Made], items: Sequence[_Item]) -> list[_Made]:
    """The work of each item, in their order; threads share it."""
    threads = workers()
    return list(map(work, items) if threads == 1 or len(items) == 1 else _pool(threads).map(work, items))


def _keys_of(block: Block) -> NDArray[np.int64]:
    if block.keys is None:
        raise ValueError("damming a flood takes blocks with merge keys")
    return block.keys()


def _joined(found: list[Found]) -> Found:
    if not found:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64)
    query, ids, score = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return query, ids, score


def _sorted(found: list[Found]) -> Pairs:
    query, ids, score = _joined(found)
    order = np.lexsort((ids, query))
    return Pairs(query[order], ids[order], score[order])


def product_of_codes(left: NDArray[np.uint8], right: NDArray[np.int8]) -> NDArray[np.int32]:
    """The product of stored codes (n, dim) and of query codes (dim, b), int32 (n, b); right's within +-QUERY_RANGE.

    It is valid until this thread asks for the next one.
    """
    return _product(left, right)
