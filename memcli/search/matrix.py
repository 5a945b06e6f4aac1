"""One scan of the vectors for several queries: cosines of all rows from their codes, exact ones where they decide."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memcli.codes import Codes
from memcli.dedup.codes import STEP, encode
from memcli.dedup.nearest import Approximate, approximate, begin, coded, exact, floor_of_best
from memcli.embed.compressed import INT7
from memcli.embed.packed import can_pack, pack, packed_bytes, unpack
from memcli.store.db import Store
from memcli.store.reindex import compression
from memcli.store.search import matrix_shape
from memcli.store.vectors import Coding, StoredRows, Vectors

_Ids = NDArray[np.int64]
_Rows = NDArray[np.float32]
_Mask = NDArray[np.bool_]

_SCALES = 3
# What a row takes beside its code: scales, id, and its entry in the table of places.
_ROW_BYTES = 12 + 8 + 4


@dataclass(frozen=True, slots=True)
class _Floats:
    """Where the float rows of a segment are; `start` is the place of the first one."""

    segment_id: int
    start: int
    rows: _Rows | StoredRows


@dataclass(frozen=True, slots=True)
class _Rest:
    """What is known of all rows beside their codes: `ids` int64 (n,), and the segments that they are in.

    `places` int32 says for each memory id up to the highest where its row is, -1 where it has none.
    """

    ids: _Ids
    places: NDArray[np.int32]
    floats: tuple[_Floats, ...]

    @classmethod
    def of(cls, ids: _Ids, floats: list[_Floats]) -> _Rest:
        """Find the place of each id."""
        places = np.full(int(ids.max(initial=0)) + 1, -1, dtype=np.int32)
        places[ids] = np.arange(len(ids), dtype=np.int32)
        return cls(ids, places, tuple(floats))


@dataclass(frozen=True, slots=True)
class _Held:
    """A matrix in memory; `key` is the corpus generation and the agent (None: all) that it is of.

    Where it `is_packed`, the values of the codes are as memcli.embed.packed has them.
    """

    key: tuple[int, str | None]
    codes: Codes
    rest: _Rest
    is_packed: bool

    def codes_at(self, rows: slice) -> Codes:
        """The codes of some rows."""
        values = self.codes.values[rows]
        return Codes(unpack(values) if self.is_packed else values, self.codes.scales[rows])


class Matrix:
    """The vectors of one model as a search reads them.

    Codes stay in memory for the next query where all of them fit into `max_memory`; else each scan streams them. What
    is left of the room takes the float rows that were asked for.
    """

    def __init__(self, store: Store, model_id: str, max_memory: int) -> None:
        self._store = store
        self._model_id = model_id
        self._max_memory = max_memory
        # It caches nothing: codes are held here as one matrix, or not at all. Nobody asks for merge keys.
        self._vectors = Vectors(store, model_id, 0, Coding(encode, len, ""))
        made = compression(store, model_id)
        self._is_seven_bits = made is not None and made.spec == INT7
        self._held: _Held | None = None
        self._kept: OrderedDict[int, _Rows] = OrderedDict()
        self._kept_bytes = 0

    def scan(self, queries: _Rows, agent: str | None) -> Scan:
        """Multiply all codes with all queries, float32 (b, dim)."""
        key = (self._store.generation(), agent)
        if self._held is None or self._held.key != key:
            self._forget()
            count, dim = matrix_shape(self._store, self._model_id, agent)
            is_packed = self._is_seven_bits and can_pack(dim)
            width = packed_bytes(dim) if is_packed else dim
            if count * (width + _ROW_BYTES) > self._max_memory:
                return self._streamed(queries, agent, count)
            self._held = self._read(key, count, width, is_packed=is_packed)
        held = self._held
        return Scan(self, held.rest, len(queries), begin(held.codes_at, held.codes.scales, coded(queries)))

    def float_rows(self, floats: _Floats, rows: _Ids) -> _Rows:
        """Rows of a segment, float32 (len(rows), dim), from memory where there is room for its vectors.

        SQLite finds a row of a large blob by walking to it, page by page: to read the whole costs little more.
        """
        if not isinstance(floats.rows, StoredRows):
            return floats.rows[rows]
        whole = self._kept.get(floats.segment_id)
        if whole is None:
            count, dim = floats.rows.shape
            room = self._max_memory - (self._held.codes.nbytes if self._held is not None else 0)
            while self._kept and self._kept_bytes + 4 * count * dim > room:
                self._kept_bytes -= self._kept.popitem(last=False)[1].nbytes
            if self._kept_bytes + 4 * count * dim > room:
                return floats.rows[rows]
            whole = self._kept[floats.segment_id] = floats.rows[np.arange(count)]
            self._kept_bytes += whole.nbytes
        self._kept.move_to_end(floats.segment_id)
        return whole[rows]

    def _read(self, key: tuple[int, str | None], count: int, width: int, *, is_packed: bool) -> _Held:
        codes = Codes(np.empty((count, width), dtype=np.uint8), np.empty((count, _SCALES), dtype=np.float32))
        ids = np.empty(count, dtype=np.int64)
        floats: list[_Floats] = []
        for place, own_ids, part in self._parts(key[1], floats):
            ids[place], codes.scales[place] = own_ids, part.scales
            codes.values[place] = pack(part.values) if is_packed else part.values
            if is_packed:
                # The codes of a zero row are no odd ones: its step says that it is zero.
                codes.scales[place, STEP] *= part.values[:, 0] & 1
        return _Held(key, codes, _Rest.of(ids, floats), is_packed)

    def _streamed(self, queries: _Rows, agent: str | None, count: int) -> Scan:
        ids = np.empty(count, dtype=np.int64)
        floats: list[_Floats] = []

        def parts() -> Iterator[Codes]:
            for place, own_ids, part in self._parts(agent, floats):
                ids[place] = own_ids
                yield part

        found = approximate(parts(), coded(queries))
        return Scan(self, _Rest.of(ids, floats), len(queries), lambda: found)

    def _parts(self, agent: str | None, floats: list[_Floats]) -> Iterator[tuple[slice, _Ids, Codes]]:
        """Yield the place, ids and codes of each segment, and note where its float rows are."""
        end = 0
        for _, segment in self._vectors.segments(None if agent is None else [agent]):
            place = slice(end, end := end + len(segment.memory_ids))
            floats.append(_Floats(segment.id, place.start, segment.vectors))
            yield place, segment.memory_ids, segment.codes or encode(segment.whole())

    def _forget(self) -> None:
        self._held = None
        self._kept.clear()
        self._kept_bytes = 0


@dataclass(frozen=True, slots=True)
class Scan:
    """All rows of a matrix with their products with the queries, which may still be on their way."""

    matrix: Matrix
    rest: _Rest
    queries: int
    wait: Callable[[], Approximate]

    @property
    def found(self) -> Approximate:
        """The products."""
        return self.wait()

    def __len__(self) -> int:
        return len(self.rest.ids)

    def place(self, memory_ids: _Ids) -> NDArray[np.int32]:
        """The rows of memories, -1 where there is none; ids below 0 have none."""
        places = self.rest.places
        known = (memory_ids >= 0) & (memory_ids < len(places))
        found: NDArray[np.int32] = np.where(known, places[np.where(known, memory_ids, 0)], np.int32(-1))
        return found

    def cosines(self, query: int, memory_ids: _Ids) -> NDArray[np.float64]:
        """Cosines from the codes, which are off by about 0.001; 0 for memories without a row."""
        if not len(self):
            return np.zeros(memory_ids.shape)
        places = self.place(memory_ids)
        return np.where(places >= 0, self.found.scores[query][places], np.float32(0)).astype(np.float64)

    def best(self, query: int, k: int, passing: _Mask | None) -> _Ids:
        """The ids of the `k` rows with the largest cosines from the codes."""
        scores = self.found.scores[query]
        if passing is not None:
            scores = np.where(passing, scores, np.float32(-np.inf))
        rows = np.flatnonzero(scores >= floor_of_best(scores, k))
        rows = rows[np.argsort(-scores[rows], kind="stable")[:k]]
        return self.rest.ids[rows if passing is None else rows[passing[rows]]]

    def nearest(self, query: int, k: int, passing: _Mask | None) -> list[tuple[int, float]]:
        """The `k` nearest (memory id, float64 cosine), best first, the lower id first among equal ones; exact."""
        rows = self.found.survivors(query, k, passing)
        wanted, ids = self.found.queries.vectors[query], self.rest.ids
        scores = np.empty(len(rows))
        for floats, at, end in self._by_segment(rows):
            scores[at:end] = exact(wanted, self.matrix.float_rows(floats, rows[at:end] - floats.start))
        order = np.lexsort((ids[rows], -scores))[:k]
        return [(int(ids[rows[at]]), float(scores[at])) for at in order]

    def _by_segment(self, rows: _Ids) -> Iterator[tuple[_Floats, int, int]]:
        starts = np.array([each.start for each in self.rest.floats], dtype=np.int64)
        edges = np.searchsorted(rows, starts).tolist()
        for floats, at, end in zip(self.rest.floats, edges, [*edges, len(rows)][1:], strict=True):
            if end > at:
                yield floats, at, end
