"""One scan of the vectors for several queries: cosines of all rows from their codes, exact ones where they decide."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memcli.dedup.codes import encode
from memcli.dedup.nearest import Approximate, approximate, coded, exact, floor_of_best
from memcli.model import Codes
from memcli.store.db import Store
from memcli.store.vectors import Coding, Segment, StoredRows, Vectors

_Ids = NDArray[np.int64]
_Rows = NDArray[np.float32]


def open_vectors(store: Store, model_id: str, max_memory: int) -> Vectors:
    """The vectors of a model as a search reads them: codes in memory, no merge keys."""
    return Vectors(store, model_id, max_memory, Coding(encode, len, ""))


class FloatRows:
    """Float vectors of segments that were asked for, kept while there is room for them beside the codes.

    SQLite finds a row of a large blob by walking to it, page by page: the whole blob costs little more.
    """

    def __init__(self, max_memory: int) -> None:
        self._max_memory = max_memory
        self._kept: OrderedDict[int, _Rows] = OrderedDict()
        self._bytes = 0

    def of(self, segment: Stored, rows: _Ids, held_elsewhere: int) -> _Rows:
        """Rows of a segment, float32 (len(rows), dim), while `held_elsewhere` bytes of the cap are in use."""
        if not isinstance(segment.rows, StoredRows):
            return segment.rows[rows]
        whole = self._kept.get(segment.id)
        if whole is None:
            size = 4 * segment.rows.shape[0] * segment.rows.shape[1]
            room = self._max_memory - held_elsewhere
            while self._kept and self._bytes + size > room:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
            if self._bytes + size > room:
                return segment.rows[rows]
            whole = segment.rows[np.arange(segment.rows.shape[0])]
            self._kept[segment.id] = whole
            self._bytes += whole.nbytes
        self._kept.move_to_end(segment.id)
        return whole[rows]


@dataclass(frozen=True, slots=True)
class Stored:
    """Where the float rows of a segment are."""

    id: int
    rows: _Rows | StoredRows


@dataclass(frozen=True, slots=True)
class Scan:
    """All rows of the vectors, `ids` int64 (n,), with their products with the queries.

    `places` int32 says for each memory id up to the highest where its row is, -1 where it has none.
    """

    ids: _Ids
    places: NDArray[np.int32]
    found: Approximate
    starts: _Ids
    segments: tuple[Stored, ...]

    def place(self, memory_ids: _Ids) -> NDArray[np.int32]:
        """The rows of memories, -1 where there is none; ids below 0 have none."""
        known = (memory_ids >= 0) & (memory_ids < len(self.places))
        found: NDArray[np.int32] = np.where(known, self.places[np.where(known, memory_ids, 0)], -1)
        return found

    def cosines(self, query: int, memory_ids: _Ids) -> NDArray[np.float64]:
        """Cosines from the codes, which are off by less than 0.01; 0 for memories without a row."""
        places = self.place(memory_ids)
        if not len(self.ids):
            return np.zeros(memory_ids.shape)
        return np.where(places >= 0, self.found.scores[query][places], np.float32(0)).astype(np.float64)

    def best(self, query: int, k: int, passing: NDArray[np.bool_] | None) -> _Ids:
        """The ids of `k` rows with the largest cosines from the codes."""
        scores = self.found.scores[query]
        if passing is not None:
            scores = np.where(passing, scores, np.float32(-np.inf))
        rows = np.flatnonzero(scores >= floor_of_best(scores, k))
        rows = rows[np.argsort(-scores[rows], kind="stable")[:k]]
        return self.ids[rows if passing is None else rows[passing[rows]]]

    def nearest(
        self, query: int, k: int, passing: NDArray[np.bool_] | None, floats: FloatRows, held: int
    ) -> list[tuple[int, float]]:
        """The `k` nearest (memory id, float64 cosine), best first, the lower id first among equal ones; exact."""
        rows = self.found.survivors(query, k, passing)
        wanted = self.found.queries.vectors[query]
        scores = np.empty(len(rows))
        for number, at, end in self._by_segment(rows):
            local = rows[at:end] - self.starts[number]
            scores[at:end] = exact(wanted, floats.of(self.segments[number], local, held))
        order = np.lexsort((self.ids[rows], -scores))[:k]
        return [(int(self.ids[rows[at]]), float(scores[at])) for at in order]

    def _by_segment(self, rows: _Ids) -> Iterator[tuple[int, int, int]]:
        numbers = np.searchsorted(self.starts, rows, side="right") - 1
        edges = np.flatnonzero(np.diff(numbers)) + 1
        for at, end in zip([0, *edges.tolist()], [*edges.tolist(), len(rows)], strict=True):
            if end > at:
                yield int(numbers[at]), at, end


def scan(vectors: Vectors, queries: _Rows, agent: str | None) -> Scan:
    """Read all codes once and multiply them with all queries, float32 (b, dim)."""
    ids: list[_Ids] = [np.empty(0, dtype=np.int64)]
    segments: list[Stored] = []
    counts: list[int] = []

    def codes(listed: Iterable[tuple[str, Segment]]) -> Iterator[Codes]:
        for _, segment in listed:
            ids.append(segment.memory_ids)
            segments.append(Stored(segment.id, segment.vectors))
            counts.append(len(segment.memory_ids))
            yield segment.codes or encode(segment.whole())

    found = approximate(codes(vectors.segments(None if agent is None else [agent])), coded(queries))
    all_ids = np.concatenate(ids)
    places = np.full(int(all_ids.max(initial=0)) + 1, -1, dtype=np.int32)
    places[all_ids] = np.arange(len(all_ids), dtype=np.int32)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64) if counts else np.empty(0, np.int64)
    return Scan(all_ids, places, found, starts, tuple(segments))
