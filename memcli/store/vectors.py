"""The vector matrix: immutable segments of float32 rows, appended per batch and merged geometrically."""

from __future__ import annotations

import hashlib
import sqlite3
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memcli.errors import DamagedError
from memcli.store.db import Store, now

FANOUT = 4
# Merging holds the rows in memory several times over: larger segments would decide the peak of a run.
MAX_MERGED_ROWS = 1 << 14


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

    def segments(self, agent: str | None = None) -> Iterator[Segment]:
        """Yield the segments of `agent` (None: of all agents), oldest memories first."""
        rows = self._store.conn.execute(
            "SELECT id FROM segments WHERE model_id = ? AND (?2 IS NULL OR agent_id = ?2) ORDER BY first_memory_id, id",
            (self._model_id, agent),
        ).fetchall()
        for (segment_id,) in rows:
            yield self._load(segment_id)

    def rows(self, memory_ids: Sequence[int]) -> dict[int, NDArray[np.float32]]:
        """The vectors of the memories `memory_ids`, each float32 (dim,)."""
        wanted = self._store.by_ids(
            "SELECT DISTINCT s.id FROM json_each(:ids) AS wanted JOIN segments AS s"
            " ON wanted.value BETWEEN s.first_memory_id AND s.last_memory_id",
            memory_ids,
        )
        found: dict[int, NDArray[np.float32]] = {}
        ids = np.array(memory_ids, dtype=np.int64)
        for (segment_id,) in wanted:
            segment = self._load(segment_id)
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

    def _load(self, segment_id: int) -> Segment:
        segment = self._cached.get(segment_id)
        if segment is not None:
            self._cached.move_to_end(segment_id)
            return segment
        row = self._store.conn.execute(
            "SELECT count, dim, memory_ids, vectors FROM segments WHERE id = ?", (segment_id,)
        ).fetchone()
        count, dim, raw_ids, raw_vectors = row
        if len(raw_ids) != 8 * count or len(raw_vectors) != 4 * count * dim:
            raise DamagedError(f"segment {segment_id} of {self._store.path} is damaged", "restore a backup")
        segment = Segment(
            segment_id,
            np.frombuffer(raw_ids, dtype="<i8"),
            np.frombuffer(raw_vectors, dtype="<f4").reshape(count, dim),
        )
        self._cached[segment_id] = segment
        self._cached_bytes += segment.size
        while self._cached_bytes > self._max_memory and len(self._cached) > 1:
            _, dropped = self._cached.popitem(last=False)
            self._cached_bytes -= dropped.size
        return segment


def append_segments(
    conn: sqlite3.Connection, model_id: str, blocks: dict[str, tuple[NDArray[np.int64], NDArray[np.float32]]]
) -> list[int]:
    """Append one block (ids ascending, vectors) per agent, merging small neighbours; part of a batch's transaction.

    Segments grow as the levels of a log-structured store: once the last FANOUT segments of an agent are of one
    level (rows within a factor FANOUT) or below, they become one, so that n batches leave O(log n) segments and each
    row is rewritten O(log n) times (O'Neil et al., The Log-Structured Merge-Tree, 1996).

    Returns:
        The ids of the segments that went into larger ones.
    """
    gone: list[int] = []
    rows = []
    created = now()
    for agent, (ids, vectors) in blocks.items():
        merged_ids, merged_vectors = [ids], [vectors]
        for segment_id in _to_merge(conn, agent, model_id, len(ids)):
            raw_ids, raw_vectors = conn.execute(
                "SELECT memory_ids, vectors FROM segments WHERE id = ?", (segment_id,)
            ).fetchone()
            merged_ids.insert(0, np.frombuffer(raw_ids, dtype="<i8"))
            merged_vectors.insert(0, np.frombuffer(raw_vectors, dtype="<f4").reshape(-1, vectors.shape[1]))
            gone.append(segment_id)
        rows.append(_row(agent, model_id, np.concatenate(merged_ids), np.concatenate(merged_vectors), created))
    conn.executemany("DELETE FROM segments WHERE id = ?", [(segment_id,) for segment_id in gone])
    conn.executemany(
        "INSERT INTO segments (agent_id, model_id, count, dim, first_memory_id, last_memory_id, memory_ids, vectors,"
        " hash, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        rows,
    )
    return gone


def _to_merge(conn: sqlite3.Connection, agent: str, model_id: str, rows: int) -> list[int]:
    """The newest segments that the next one of `rows` rows should take in, newest first."""
    newest_first = conn.execute(
        "SELECT id, count FROM segments WHERE agent_id = ? AND model_id = ? ORDER BY last_memory_id DESC",
        (agent, model_id),
    ).fetchall()
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
