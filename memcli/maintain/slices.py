"""The memories of a scope in the order of their ids, slice by slice, each with its similar earlier ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from memcli.dedup.gates import merge_key
from memcli.dedup.scan import Block, Flood, make_block, pairs_above, pairs_within
from memcli.model import Known
from memcli.store import dedup as dedup_rows
from memcli.store import memories as memory_rows
from memcli.store.db import Store
from memcli.store.vectors import Vectors


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
    """Compares the memories of agents."""

    def __init__(self, store: Store, vectors: Vectors, threshold: float, size: int) -> None:
        self._store = store
        self._vectors = vectors
        self._threshold = threshold
        self._size = size
        self._keys: dict[int, int] = {}

    def slices(self, agent: str | None, after: int, last: int) -> Iterator[Slice]:
        """Yield the memories of `agent` (None: of all) above the id `after`, up to `last`.

        The cost is one product with all earlier vectors of the scope for each of these memories.
        """
        while members := dedup_rows.between(self._store, agent, after, last, self._size):
            reached = members[-1].id if len(members) == self._size else last
            yield self._compared(agent, members, reached)
            after = reached

    def _compared(self, agent: str | None, members: Sequence[Known], reached: int) -> Slice:
        found = Slice(agent or "", reached, list(members))
        rows = self._vectors.rows([each.id for each in members if each.embedded])
        ids = np.array(sorted(rows), dtype=np.int64)
        if not len(ids):
            return found
        queries = np.stack([rows[memory_id] for memory_id in ids.tolist()])
        texts = {each.id: each.content for each in members}

        @cache
        def keys() -> NDArray[np.int64]:
            return np.array([merge_key(texts[memory_id]) for memory_id in ids.tolist()], dtype=np.int64)

        flood = Flood(keys, self._keys_of, np.zeros(len(ids), dtype=np.int64))
        earlier = self._earlier(agent, members[0].id, found, len(ids))
        above = pairs_above(queries, earlier, self._threshold, flood)
        own = Flood(keys, partial(_taken, keys), flood.left_out)
        within = pairs_within(queries, self._threshold, own)
        found.compared += len(ids) * (len(ids) - 1) // 2
        later = np.concatenate([ids[above.query], ids[within.query]])
        others = np.concatenate([above.id, ids[within.id]])
        scores = np.concatenate([above.score, within.score])
        for place in np.lexsort((others, later)).tolist():
            pair = int(others[place]), float(scores[place])
            found.pairs.setdefault(int(later[place]), []).append(pair)
        found.left_out = dict(zip(ids.tolist(), flood.left_out.tolist(), strict=True))
        return found

    def _earlier(self, agent: str | None, first: int, found: Slice, queries: int) -> Iterator[Block]:
        for _, segment in self._vectors.segments(None if agent is None else [agent]):
            end = int(np.searchsorted(segment.memory_ids, first))
            found.compared += end * queries
            if end:
                yield make_block(segment.memory_ids[:end], segment.vectors[:end])

    def _keys_of(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        missing = [memory_id for memory_id in ids.tolist() if memory_id not in self._keys]
        for each in memory_rows.by_id(self._store, missing):
            self._keys[each.id] = merge_key(each.content)
        return np.array([self._keys[memory_id] for memory_id in ids.tolist()], dtype=np.int64)


def _taken(keys: Callable[[], NDArray[np.int64]], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return keys()[rows]
