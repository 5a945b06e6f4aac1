"""The memories of a scope in the order of their ids, slice by slice, each with its similar earlier ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from memcli.dedup.blocks import Block, make_block
from memcli.dedup.scan import Group, pairs_among
from memcli.model import Known
from memcli.store import dedup as dedup_rows
from memcli.store import memories as memory_rows
from memcli.store.db import Store
from memcli.store.vectors import Segment, Vectors

_ROWS = 4096


@dataclass(slots=True)
class Slice:
    """Memories of an agent ("" where agents are one), ids ascending and all up to `last`.

    `pairs` has, by memory, the earlier ones at or above the threshold as (id ascending, cosine); `left_out` how many
    more there are that it cannot merge with. `compared` counts pairs of vectors.
    """

    agent: str
    last: int
    members: list[Known]
    pairs: dict[int, list[tuple[int, float]]] = field(default_factory=dict)
    left_out: dict[int, int] = field(default_factory=dict)
    compared: int = 0


class Slicer:
    """Compares the memories of agents, up to `size` at a time."""

    def __init__(self, store: Store, vectors: Vectors, model_id: str, threshold: float, size: int) -> None:
        self._store = store
        self._model_id = model_id
        self._vectors = vectors
        self._threshold = threshold
        self._size = size

    def slices(self, agent: str | None, after: int, last: int) -> Iterator[Slice]:
        """Yield the memories of `agent` (None: of all) above the id `after`, up to `last`.

        The cost is one product with all earlier vectors of the scope for each of these memories.
        """
        blocks = partial(self._blocks, agent)
        earlier = int(np.searchsorted(self._ids(agent), after, side="right"))
        for group in pairs_among(blocks, self._threshold, after=after, flood=True):
            for part in self._cut(agent, group, after):
                vectors = int(np.count_nonzero((group.ids > after) & (group.ids <= part.last)))
                part.compared = vectors * earlier + vectors * (vectors - 1) // 2
                earlier += vectors
                after = part.last
                yield part
        # Exact duplicates have no vectors of their own; there may be some behind the last one that has.
        while members := dedup_rows.between(self._store, agent, after, last, self._size):
            after = members[-1].id if len(members) == self._size else last
            yield Slice(agent or "", after, members)

    def _cut(self, agent: str | None, group: Group, after: int) -> Iterator[Slice]:
        end = int(group.ids[-1])
        left_out = dict(zip(group.ids.tolist(), group.left_out.tolist(), strict=True))
        while after < end:
            members = dedup_rows.between(self._store, agent, after, end, self._size)
            last = members[-1].id
            first, stop = np.searchsorted(group.later, [after, last], side="right").tolist()
            part = Slice(agent or "", last, members, _pairs(group, slice(first, stop)))
            part.left_out = {each.id: left_out[each.id] for each in members if each.id in left_out}
            yield part
            after = last

    def _blocks(self, agent: str | None) -> Iterator[Block]:
        if agent is not None:
            yield from (self._block(segment) for _, segment in self._vectors.segments([agent]))
            return
        # The segments of several agents interleave: their rows are brought into the order of the ids.
        ids = self._ids(None)
        for start in range(0, len(ids), _ROWS):
            rows = self._vectors.rows(ids[start : start + _ROWS].tolist())
            own = np.array(sorted(rows), dtype=np.int64)
            yield make_block(own, np.stack([rows[each] for each in own.tolist()]), partial(self._keys, own.tolist()))

    def _block(self, segment: Segment) -> Block:
        keys = partial(self._vectors.keys, segment)
        return make_block(segment.memory_ids, segment.vectors, keys, codes=segment.codes)

    def _ids(self, agent: str | None) -> NDArray[np.int64]:
        raw = b"".join(dedup_rows.vector_ids(self._store, self._model_id, agent))
        return np.sort(np.frombuffer(raw, dtype="<i8"))

    def _keys(self, ids: Sequence[int]) -> NDArray[np.int64]:
        key = self._vectors.coding.key
        return np.array([key(each.content) for each in memory_rows.by_id(self._store, ids)], dtype=np.int64)


def _pairs(group: Group, rows: slice) -> dict[int, list[tuple[int, float]]]:
    found: dict[int, list[tuple[int, float]]] = defaultdict(list)
    columns = group.later[rows].tolist(), group.earlier[rows].tolist(), group.score[rows].tolist()
    for later, earlier, score in zip(*columns, strict=True):
        found[later].append((earlier, score))
    return found
