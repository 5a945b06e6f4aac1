"""The vector matrix: immutable segments of float32 rows, appended per batch and merged geometrically."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memcli.errors import DamagedError
from memcli.store.db import Store, now

FANOUT = 4
_ID_BYTES, _FLOAT_BYTES = 8, 4
# Merging holds the rows in memory several times over, and the heap keeps room for the largest block it has seen: larger
# segments would decide the peak of a run.
MAX_MERGED_ROWS = 1 << 12


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Segment:
    """One immutable block: `memory_ids` int64 (n,) ascending, `vectors` float32 (n, dim), row i belongs to id i."""

    id: int
    memory_ids: NDArray[np.int64]
    vectors: NDArray[np.float32]

    @property
    def size(self) -> int:
        """Bytes held in memory."""
        return self.memory_ids.nbytes + self.vectors.nbytes


class Vectors:
    """The segments of one model, with a cache of recently used ones of at most `max_memory` bytes."""

    def __init__(self, store: Store, model_id: str, max_memory: int) -> None:
        self._store = store
        self._model_id = model_id
        self._max_memory = max_memory
        self._cached: OrderedDict[int, Segment] = OrderedDict()
        self._cached_bytes = 0

    def segments(self, agents: Sequence[str] | None = None) -> Iterator[tuple[str, Segment]]:
        """Yield (agent, segment) of some agents (None: of all), the segments of an agent oldest memories first."""
        listed = self._store.conn.execute(
            "SELECT id, agent_id FROM segments WHERE model_id = ?1"
            " AND (?2 IS NULL OR agent_id IN (SELECT value FROM json_each(?2))) ORDER BY agent_id, first_memory_id, id",
            (self._model_id, None if agents is None else json.dumps(agents)),
        ).fetchall()
        absent = [segment_id for segment_id, _ in listed if segment_id not in self._cached]
        reading, read_in_order = self._read(absent), set(absent)
        for segment_id, agent in listed:
            if segment_id in read_in_order:
                segment = next(reading)
            else:
                # What was cached may have had to make room for what was read since.
                segment = self._cached.get(segment_id) or next(self._read([segment_id]))
            self._keep(segment)
            yield agent, segment

    def rows(self, memory_ids: Sequence[int]) -> dict[int, NDArray[np.float32]]:
        """The vectors of the memories `memory_ids`, each float32 (dim,)."""
        wanted = self._store.conn.execute(
            "SELECT DISTINCT s.id FROM json_each(?) AS wanted JOIN segments AS s"
            " ON wanted.value BETWEEN s.first_memory_id AND s.last_memory_id AND s.model_id = ?",
            (json.dumps(memory_ids), self._model_id),
        ).fetchall()
        found: dict[int, NDArray[np.float32]] = {}
        ids = np.array(memory_ids, dtype=np.int64)
        for segment in self._loaded([segment_id for (segment_id,) in wanted]):
            places = np.searchsorted(segment.memory_ids, ids)
            for memory_id, place in zip(memory_ids, places.tolist(), strict=True):
                if place < len(segment.memory_ids) and segment.memory_ids[place] == memory_id:
                    found[memory_id] = segment.vectors[place]
        return found

    def forget(self, segment_ids: Sequence[int]) -> None:
        """Drop segments from the cache that were merged into another."""
        for segment_id in segment_ids:
            segment = self._cached.pop(segment_id, None)
            if segment is not None:
                self._cached_bytes -= segment.size

    def _loaded(self, segment_ids: Sequence[int]) -> Iterator[Segment]:
        absent = [segment_id for segment_id in segment_ids if segment_id not in self._cached]
        yield from [self._cached[segment_id] for segment_id in segment_ids if segment_id in self._cached]
        for segment in self._read(absent):
            self._keep(segment)
            yield segment

    def _read(self, segment_ids: Sequence[int]) -> Iterator[Segment]:
        """Read segments in the order of `segment_ids`: one statement, one segment in memory at a time.

        The join keeps the order of the list. An ORDER BY would first take all vectors through a sorter in memory.
        """
        rows = self._store.conn.execute(
            "SELECT s.id, s.count, s.dim, s.memory_ids, s.vectors FROM json_each(?) AS wanted"
            " CROSS JOIN segments AS s ON s.id = wanted.value",
            (json.dumps(segment_ids),),
        )
        for segment_id, count, dim, raw_ids, raw_vectors in rows:
            if len(raw_ids) != _ID_BYTES * count or len(raw_vectors) != _FLOAT_BYTES * count * dim:
                raise DamagedError(f"segment {segment_id} of {self._store.path} is damaged", "restore a backup")
            yield Segment(
                segment_id,
                np.frombuffer(raw_ids, dtype="<i8"),
                np.frombuffer(raw_vectors, dtype="<f4").reshape(count, dim),
            )

    def _keep(self, segment: Segment) -> None:
        if segment.id not in self._cached:
            self._cached_bytes += segment.size
        self._cached[segment.id] = segment
        self._cached.move_to_end(segment.id)
        while self._cached_bytes > self._max_memory and len(self._cached) > 1:
            _, dropped = self._cached.popitem(last=False)
            self._cached_bytes -= dropped.size


def append_segments(
    conn: sqlite3.Connection, model_id: str, blocks: dict[str, tuple[NDArray[np.int64], NDArray[np.float32]]]
) -> list[int]:
    """Append one block (ids ascending, vectors) per agent, merging small neighbours; part of a batch's transaction.

    Segments grow as the levels of a log-structured store: once the last FANOUT segments of an agent are of one level
    (rows within a factor FANOUT) or below, they become one. So n batches leave O(log n) segments below MAX_MERGED_ROWS,
    where each row is rewritten O(log n) times; larger segments are left alone (O'Neil et al., The Log-Structured
    Merge-Tree, 1996).

    Returns:
        The ids of the segments that went into larger ones.
    """
    newest_first: dict[str, list[tuple[int, int]]] = {agent: [] for agent in blocks}
    for agent, segment_id, count in conn.execute(
        "SELECT agent_id, id, count FROM segments WHERE model_id = ?"
        " AND agent_id IN (SELECT value FROM json_each(?)) ORDER BY last_memory_id DESC",
        (model_id, json.dumps(list(blocks))),
    ):
        newest_first[agent].append((segment_id, count))
    merged = {agent: _to_merge(newest_first[agent], len(ids)) for agent, (ids, _) in blocks.items()}
    gone = [segment_id for taken in merged.values() for segment_id in taken]
    old = {
        segment_id: (raw_ids, raw_vectors)
        for segment_id, raw_ids, raw_vectors in conn.execute(
            "SELECT id, memory_ids, vectors FROM segments WHERE id IN (SELECT value FROM json_each(?))",
            (json.dumps(gone),),
        )
    }
    created = now()
    rows = []
    for agent, (ids, vectors) in blocks.items():
        parts = [old.pop(segment_id) for segment_id in reversed(merged[agent])]
        all_ids = [*(np.frombuffer(raw, dtype="<i8") for raw, _ in parts), ids]
        all_vectors = [*(np.frombuffer(raw, dtype="<f4").reshape(-1, vectors.shape[1]) for _, raw in parts), vectors]
        rows.append(_row(agent, model_id, np.concatenate(all_ids), np.concatenate(all_vectors), created))
    conn.executemany("DELETE FROM segments WHERE id = ?", [(segment_id,) for segment_id in gone])
    conn.executemany(
        "INSERT INTO segments (agent_id, model_id, count, dim, first_memory_id, last_memory_id, memory_ids, vectors,"
        " hash, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        rows,
    )
    return gone


def _to_merge(newest_first: Sequence[tuple[int, int]], rows: int) -> list[int]:
    """Of an agent's segments (id, count) those that the next one of `rows` rows should take in, newest first."""
    taken = 0
    while True:
        level = _level(rows)
        same = taken
        while same < len(newest_first) and _level(newest_first[same][1]) <= level:
            same += 1
        total = rows + sum(count for _, count in newest_first[taken:same])
        if same - taken < FANOUT - 1 or total > MAX_MERGED_ROWS:
            return [segment_id for segment_id, _ in newest_first[:taken]]
        rows, taken = total, same


def _level(rows: int) -> int:
    return (max(rows, 1).bit_length() - 1) // (FANOUT.bit_length() - 1)


def _row(
    agent: str, model_id: str, ids: NDArray[np.int64], vectors: NDArray[np.float32], created: str
) -> tuple[object, ...]:
    raw_ids = np.ascontiguousarray(ids, dtype="<i8").data
    raw_vectors = np.ascontiguousarray(vectors, dtype="<f4").data
    checksum = hashlib.blake2b(raw_ids, digest_size=16)
    checksum.update(raw_vectors)
    count, dim = vectors.shape
    return (agent, model_id, count, dim, int(ids[0]), int(ids[-1]), raw_ids, raw_vectors, checksum.digest(), created)
