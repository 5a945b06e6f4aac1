"""The vector matrix: immutable segments of float32 rows with their codes, appended per batch, merged geometrically."""

from __future__ import annotations

import bisect
import hashlib
import json
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain, islice, takewhile

import numpy as np
from numpy.typing import NDArray

from memcli.codes import Codes
from memcli.errors import DamagedError
from memcli.store.db import Store, now

FANOUT = 4
_ID_BYTES, _FLOAT_BYTES, _HALF_BYTES, _SCALES, _HASH_BYTES = 8, 4, 2, 3, 16
_READ_ALONG = 8  # rows per row that is wanted: reading them is cheaper than going from one to the next
# Merging holds the rows in memory several times over, and the heap keeps room for the largest block it has seen: larger
# segments would decide the peak of a run.
MAX_MERGED_ROWS = 1 << 11
INSERT = (
    "INSERT INTO segments (agent_id, model_id, created_at, count, dim, first_memory_id, last_memory_id, memory_ids,"
    " vectors, codes, scales, keys, gate_version, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

_SHARED = 3  # of sqlite3.threadsafety: threads may share connections

_Ids = NDArray[np.int64]
_Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Coding:
    """How rows are made ready for the scan: codes of vectors, merge keys of texts, and the version of these keys."""

    encode: Callable[[_Rows], Codes]
    key: Callable[[str], int]
    version: str


@dataclass(frozen=True, slots=True)
class NewRows:
    """Rows to be stored: ids ascending, their vectors float32 (n, dim), and their merge keys if these are known."""

    ids: _Ids
    vectors: _Rows
    keys: _Ids | None = None


class StoredRows:
    """The vectors of a stored segment, each read when it is asked for; `length` is that of their BLOB.

    A scan looks at few of them: its codes rule out the others. Kept in memory they would be four fifths of the matrix.
    Threads may share it where SQLite lets them share a connection.
    """

    nbytes = 0

    def __init__(self, conn: sqlite3.Connection, segment_id: int, count: int, dim: int, length: int) -> None:
        self._conn = conn
        self._id = segment_id
        self._length = length
        self.shape = (count, dim)

    def __getitem__(self, rows: _Ids) -> _Rows:
        """Rows float32 (len(rows), dim), in that order; what lies between them is read along where it is little."""
        dim = self.shape[1]
        if not len(rows):
            return np.empty((0, dim), dtype=np.float32)
        if self._length:
            size = self._length // self.shape[0]
            return _floats(self._read("vectors", size, rows), len(rows), dim, None)
        values, scales = self._read("codes", dim, rows), self._read("scales", _FLOAT_BYTES * _SCALES, rows)
        return _codes(values, scales, len(rows)).decoded()

    def _read(self, column: str, size: int, rows: _Ids) -> bytes:
        """The parts of `size` bytes, one per row, of a column."""
        wanted, places = np.unique(rows, return_inverse=True)
        first, end = int(wanted[0]), int(wanted[-1]) + 1
        with self._conn.blobopen("segments", column, self._id, readonly=True) as blob:
            if end - first <= _READ_ALONG * len(wanted):
                blob.seek(first * size)
                raw, places = blob.read((end - first) * size), rows - first
            else:
                raw = b"".join(_part(blob, row * size, size) for row in wanted.tolist())
        return np.frombuffer(raw, dtype=np.uint8).reshape(-1, size)[places].tobytes()


def _part(blob: sqlite3.Blob, place: int, size: int) -> bytes:
    blob.seek(place)
    return blob.read(size)


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """One immutable block: `memory_ids` int64 (n,) ascending, `vectors` float32 (n, dim), row i belongs to id i.

    `codes` is there where it was asked for, and then the vectors may be left in the database; `keys` int64 (n,) is
    there where it is stored under the present version.
    """

    id: int
    memory_ids: _Ids
    vectors: _Rows | StoredRows
    codes: Codes | None = None
    keys: _Ids | None = None

    def whole(self) -> _Rows:
        """All vectors, float32 (n, dim)."""
        if isinstance(self.vectors, StoredRows):
            return self.vectors[np.arange(len(self.memory_ids))]
        return self.vectors

    @property
    def size(self) -> int:
        """Bytes held in memory."""
        optional = (part.nbytes for part in (self.codes, self.keys) if part is not None)
        return self.memory_ids.nbytes + self.vectors.nbytes + sum(optional)


class Vectors:
    """The segments of one model, with a cache of recently used ones of at most `max_memory` bytes.

    With a `coding` segments have codes, stored ones or made when they are read; where they are stored, the vectors stay
    in the database.
    """

    def __init__(self, store: Store, model_id: str, max_memory: int, coding: Coding | None = None) -> None:
        self._store = store
        self._model_id = model_id
        self._max_memory = max_memory
        self._coding = coding
        self._cached: OrderedDict[int, tuple[int, Segment]] = OrderedDict()
        self._cached_bytes = 0
        self._scan = 0
        self._agents: str | None = None
        self.made_keys: dict[int, _Ids] = {}

    @property
    def coding(self) -> Coding:
        """How rows are made ready for the scan.

        Raises:
            ValueError: nobody said so.
        """
        if self._coding is None:
            raise ValueError("these vectors have no coding")
        return self._coding

    @property
    def cached_bytes(self) -> int:
        """Bytes that are held: the cache, at most `max_memory`, and keys that are not stored yet."""
        return self._cached_bytes + sum(keys.nbytes for keys in self.made_keys.values())

    def segments(self, agents: Sequence[str] | None = None) -> Iterator[tuple[str, Segment]]:
        """Yield (agent, segment) of some agents (None: of all), the segments of an agent oldest memories first."""
        self._scan += 1
        self._agents = None if agents is None else json.dumps(agents)
        listed = self._store.conn.execute(
            "SELECT id, agent_id FROM segments WHERE model_id = ?1"
            " AND (?2 IS NULL OR agent_id IN (SELECT value FROM json_each(?2))) ORDER BY agent_id, first_memory_id, id",
            (self._model_id, self._agents),
        ).fetchall()
        absent = [segment_id for segment_id, _ in listed if segment_id not in self._cached]
        reading, read_in_order = self._read(absent), set(absent)
        for segment_id, agent in listed:
            if segment_id in read_in_order:
                segment = next(reading)
            else:
                # What was cached may have had to make room for what was read since.
                segment = self._hit(segment_id) or next(self._read([segment_id]))
            self._keep(segment)
            yield agent, segment

    def rows(self, memory_ids: Sequence[int]) -> dict[int, _Rows]:
        """The vectors of the memories `memory_ids`, each float32 (dim,)."""
        wanted = self._store.conn.execute(
            "SELECT DISTINCT s.id FROM json_each(?) AS wanted JOIN segments AS s"
            " ON wanted.value BETWEEN s.first_memory_id AND s.last_memory_id AND s.model_id = ?",
            (json.dumps(memory_ids), self._model_id),
        ).fetchall()
        found: dict[int, _Rows] = {}
        ids = np.array(memory_ids, dtype=np.int64)
        for segment in self._loaded([segment_id for (segment_id,) in wanted]):
            _, places, wanted_here = np.intersect1d(segment.memory_ids, ids, return_indices=True)
            found.update(zip(ids[wanted_here].tolist(), segment.vectors[places].copy(), strict=True))
        return found

    def keys(self, segment: Segment) -> _Ids:
        """The merge keys of a segment, int64 (n,).

        Where they are not stored under the present version, they are made from the texts, and in the same two
        statements those of all segments of the agents that were asked for last: `append_segments` stores them.
        """
        if segment.keys is not None:
            return segment.keys
        if segment.id not in self.made_keys:
            self._make_keys()
        return self.made_keys[segment.id]

    def forget(self, segment_ids: Iterable[int]) -> None:
        """Drop segments from the cache that were merged into another, and those whose keys have been stored."""
        for segment_id in (*segment_ids, *self.made_keys):
            self._drop(segment_id)
        self.made_keys = {}

    def insert(self, conn: sqlite3.Connection, agent: str, memory_ids: Sequence[int], rows: Sequence[_Rows]) -> None:
        """Put rows of stored memories (ids ascending) between those of their agent, in the transaction of `conn`.

        Each goes into the segment that its id belongs to, so that the ids of an agent's segments stay apart.
        """
        listed = conn.execute(
            "SELECT id, first_memory_id FROM segments WHERE model_id = ? AND agent_id = ? ORDER BY first_memory_id",
            (self._model_id, agent),
        ).fetchall()
        firsts = [first for _, first in listed]
        places: dict[int | None, list[int]] = {}
        for number, memory_id in enumerate(memory_ids):
            place = max(bisect.bisect_right(firsts, memory_id) - 1, 0)
            places.setdefault(listed[place][0] if listed else None, []).append(number)
        for segment_id, numbers in places.items():
            old = list(self._loaded([] if segment_id is None else [segment_id]))
            ids = np.concatenate([*(part.memory_ids for part in old), [memory_ids[number] for number in numbers]])
            vectors = np.concatenate([*(part.whole() for part in old), [rows[number] for number in numbers]])
            order = np.argsort(ids)
            whole = Segment(0, ids[order], vectors[order], self.coding.encode(vectors[order]))
            conn.execute("DELETE FROM segments WHERE id = ?", (segment_id,))
            conn.execute(INSERT, (agent, self._model_id, now(), *row_of(whole, self.coding.version)))
            self.forget([] if segment_id is None else [segment_id])

    def _make_keys(self) -> None:
        coding = self.coding
        found = self._store.conn.execute(
            "SELECT id, memory_ids FROM segments WHERE model_id = ?1 AND gate_version IS NOT ?3"
            " AND (?2 IS NULL OR agent_id IN (SELECT value FROM json_each(?2)))",
            (self._model_id, self._agents, coding.version),
        )
        segments = {segment_id: np.frombuffer(raw, dtype="<i8") for segment_id, raw in found}
        ids = np.sort(np.concatenate(list(segments.values())))
        keys = np.zeros(len(ids), dtype=np.int64)
        texts = self._store.conn.execute(
            "SELECT m.id, m.content FROM json_each(?) AS wanted JOIN memories AS m ON m.id = wanted.value",
            (json.dumps(ids.tolist()),),
        )
        for memory_id, text in texts:
            keys[np.searchsorted(ids, memory_id)] = coding.key(text)
        self.made_keys = {segment_id: keys[np.searchsorted(ids, own)] for segment_id, own in segments.items()}

    def _loaded(self, segment_ids: Sequence[int]) -> Iterator[Segment]:
        cached = {segment_id: self._hit(segment_id) for segment_id in segment_ids}
        yield from [segment for segment in cached.values() if segment is not None]
        for segment in self._read([segment_id for segment_id, segment in cached.items() if segment is None]):
            self._keep(segment)
            yield segment

    def _read(self, segment_ids: Sequence[int]) -> Iterator[Segment]:
        """Read segments in the order of `segment_ids`: one statement, one segment in memory at a time.

        The join keeps the order of the list. An ORDER BY would first take all vectors through a sorter in memory.
        """
        coding = self._coding
        leaves = coding is not None and sqlite3.threadsafety == _SHARED
        columns = "s.codes, s.scales"
        if coding is None:  # but where they are all there is
            columns = "CASE length(s.vectors) WHEN 0 THEN s.codes END, CASE length(s.vectors) WHEN 0 THEN s.scales END"
        vectors = "CASE WHEN s.codes IS NULL THEN s.vectors END" if leaves else "s.vectors"
        rows = self._store.conn.execute(
            f"SELECT s.id, s.count, s.dim, length(s.vectors), s.memory_ids, {vectors}, {columns},"
            " CASE WHEN s.gate_version = ? THEN s.keys END"
            " FROM json_each(?) AS wanted CROSS JOIN segments AS s ON s.id = wanted.value",
            (None if coding is None else coding.version, json.dumps(segment_ids)),
        )
        for segment_id, count, dim, length, ids, floats, *raw in rows:
            stored = StoredRows(self._store.conn, segment_id, count, dim, length)
            try:
                if length not in {_FLOAT_BYTES * count * dim, _HALF_BYTES * count * dim, 0}:
                    raise ValueError("the vectors do not fit")
                segment = segment_of(segment_id, count, dim, ids, stored if floats is None else floats, *raw)
            except ValueError as error:
                message = f"segment {segment_id} of {self._store.path} is damaged"
                raise DamagedError(message, "restore a backup") from error
            if coding is not None and segment.codes is None:
                codes = coding.encode(segment.whole())
                segment = replace(segment, codes=codes, vectors=stored if leaves else segment.vectors)
            yield segment

    def _hit(self, segment_id: int) -> Segment | None:
        return self._cached[segment_id][1] if segment_id in self._cached else None

    def _keep(self, segment: Segment) -> None:
        """Put a segment into the cache, or see that it was used.

        Only what was used neither in this scan nor in the one before makes room: the matrix is read from its start to
        its end, and a cache too small for it would otherwise lose each segment just before its turn.
        """
        if segment.id not in self._cached:
            while self._cached_bytes + segment.size > self._max_memory and self._drop_stale():
                pass
            if self._cached_bytes + segment.size > self._max_memory:
                return
            self._cached_bytes += segment.size
        self._cached[segment.id] = (self._scan, segment)
        self._cached.move_to_end(segment.id)

    def _drop_stale(self) -> bool:
        oldest = next(iter(self._cached.items()), None)
        if oldest is None or oldest[1][0] >= self._scan - 1:
            return False
        self._drop(oldest[0])
        return True

    def _drop(self, segment_id: int) -> Segment | None:
        _, segment = self._cached.pop(segment_id, (0, None))
        if segment is not None:
            self._cached_bytes -= segment.size
        return segment


def segment_of(
    segment_id: int, count: int, dim: int, ids: bytes | None, vectors: bytes | StoredRows, *raw: bytes | None
) -> Segment:
    """A segment of its columns.

    Raises:
        ValueError: their lengths do not fit.
    """
    values, scales, keys = raw
    codes = None if values is None or scales is None else _codes(values, scales, count)
    if len(ids or b"") != _ID_BYTES * count or len(keys or b"") not in {0, _ID_BYTES * count}:
        raise ValueError("ids or keys do not fit")
    return Segment(
        segment_id,
        np.frombuffer(ids or b"", dtype="<i8"),
        vectors if isinstance(vectors, StoredRows) else _floats(vectors, count, dim, codes),
        codes,
        None if keys is None else np.frombuffer(keys, dtype="<i8"),
    )


def _floats(raw: bytes, count: int, dim: int, codes: Codes | None) -> _Rows:
    """Vectors of what is stored of them: as float32, as float16, or nothing where the codes say it all.

    Raises:
        ValueError: the length does not fit.
    """
    if not raw and codes is not None:
        return codes.decoded()
    kind = "<f2" if len(raw) == _HALF_BYTES * count * dim else "<f4"
    return np.frombuffer(raw, dtype=kind).reshape(count, dim).astype(np.float32, copy=False)


def _shortest(vectors: _Rows, codes: Codes | None) -> memoryview:
    """The shortest BLOB that gives the vectors back, bit by bit; compressed ones have a shorter one."""
    first = vectors[:1]
    # Most vectors are not compressed, which the first one tells.
    is_coded = codes is not None and np.array_equal(Codes(codes.values[:1], codes.scales[:1]).decoded(), first)
    if codes is not None and is_coded and np.array_equal(codes.decoded(), vectors):
        return memoryview(b"")
    if np.array_equal(first.astype("<f2").astype(np.float32), first):
        halves = vectors.astype("<f2")
        if np.array_equal(halves.astype(np.float32), vectors):
            return _raw(halves)
    return _raw(vectors)


def _codes(values: bytes, scales: bytes, count: int) -> Codes:
    return Codes(
        np.frombuffer(values, dtype=np.uint8).reshape(count, -1),
        np.frombuffer(scales, dtype="<f4").reshape(count, _SCALES),
    )


def append_segments(
    conn: sqlite3.Connection,
    model_id: str,
    blocks: Mapping[str, NewRows],
    coding: Coding,
    made_keys: Mapping[int, _Ids],
) -> list[int]:
    """Append one block per agent, merging small neighbours; part of a batch's transaction.

    Segments grow as the levels of a log-structured store: once the last FANOUT segments of an agent are of one level
    (rows within a factor FANOUT) or below, they become one, or as many of them as fit into MAX_MERGED_ROWS. So n
    batches leave O(log n) segments well below it, where each row is rewritten O(log n) times; larger segments are left
    alone (O'Neil et al., The Log-Structured Merge-Tree, 1996).

    Args:
        conn: the connection, in a transaction.
        model_id: the model of the vectors.
        blocks: what is new, by agent.
        coding: makes the codes.
        made_keys: the keys of stored segments, by id, that were made from their texts: they are stored as well.

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
    _write_keys(conn, made_keys, coding.version)
    merged = {agent: _to_merge(newest_first[agent], len(new.ids))[::-1] for agent, new in blocks.items()}
    gone = [segment_id for taken in merged.values() for segment_id in taken]
    # One segment is in memory at a time, whatever the number of agents.
    parts = conn.execute(
        "SELECT s.id, s.count, s.dim, s.memory_ids, s.vectors, s.codes, s.scales,"
        " CASE WHEN s.gate_version = ? THEN s.keys END"
        " FROM json_each(?) AS wanted CROSS JOIN segments AS s ON s.id = wanted.value",
        (coding.version, json.dumps(gone)),
    )
    old = (segment_of(*part) for part in parts)
    counts = {segment_id: count for listed in newest_first.values() for segment_id, count in listed}
    created = now()

    def rows() -> Iterator[tuple[object, ...]]:
        for agent, new in blocks.items():
            taken = merged[agent]
            whole = _joined(islice(old, len(taken)), sum(counts[each] for each in taken), new, coding)
            yield agent, model_id, created, *row_of(whole, coding.version)

    conn.executemany(INSERT, rows())
    conn.executemany("DELETE FROM segments WHERE id = ?", [(segment_id,) for segment_id in gone])
    return gone


def _write_keys(conn: sqlite3.Connection, made_keys: Mapping[int, _Ids], version: str) -> None:
    conn.executemany(
        "UPDATE segments SET keys = ?, gate_version = ?, hash = CAST(substr(hash, 1, 16) || ? AS BLOB) WHERE id = ?",
        [(_raw(keys), version, hash_of(_raw(keys)), segment_id) for segment_id, keys in made_keys.items()],
    )


def _to_merge(newest_first: Sequence[tuple[int, int]], rows: int) -> list[int]:
    """Of an agent's segments (id, count) those that the next one of `rows` rows should take in, newest first."""
    taken = 0
    while True:
        level = _level(rows)
        mates = takewhile(lambda count: _level(count) <= level, (count for _, count in newest_first[taken:]))  # noqa: B023
        totals = list(accumulate(mates, initial=rows))
        same = sum(total <= MAX_MERGED_ROWS for total in totals) - 1
        # Where FANOUT of them would be too large, as many as fit have to do: they would stay small for ever.
        is_full = same >= FANOUT - 1 or totals[-1] + rows > MAX_MERGED_ROWS
        if same < 1 or not is_full:
            return [segment_id for segment_id, _ in newest_first[:taken]]
        rows, taken = totals[same], taken + same


def _level(rows: int) -> int:
    return (max(rows, 1).bit_length() - 1) // (FANOUT.bit_length() - 1)


def _joined(old: Iterable[Segment], old_rows: int, new: NewRows, coding: Coding) -> Segment:
    """Segments with `old_rows` rows and new rows behind them as one; keys only where all parts have them."""
    count, dim = old_rows + len(new.ids), new.vectors.shape[1]
    ids, vectors = np.empty(count, dtype="<i8"), np.empty((count, dim), dtype="<f4")
    codes = Codes(np.empty((count, dim), dtype=np.uint8), np.empty((count, _SCALES), dtype="<f4"))
    keys: list[_Ids | None] = []
    end = 0
    for part in chain(old, [Segment(0, new.ids, new.vectors, None, new.keys)]):
        place = slice(end, end := end + len(part.memory_ids))
        ids[place], vectors[place] = part.memory_ids, part.whole()
        made = part.codes or coding.encode(vectors[place])
        codes.values[place], codes.scales[place] = made.values, made.scales
        keys.append(part.keys)
    known = [each for each in keys if each is not None]
    return Segment(0, ids, vectors, codes, np.concatenate(known) if len(known) == len(keys) else None)


def row_of(segment: Segment, version: str) -> tuple[object, ...]:
    """The columns from `count` on."""
    ids, codes, keys = segment.memory_ids, segment.codes, segment.keys
    vectors = segment.whole()
    parts = [_raw(ids), _shortest(vectors, codes)]
    parts += [] if codes is None else [_raw(codes.values), _raw(codes.scales)]
    hashed = hash_of(*parts) + (b"" if keys is None else hash_of(_raw(keys)))
    stored = (None, None) if keys is None else (_raw(keys), version)
    return (*vectors.shape, int(ids[0]), int(ids[-1]), *parts, *stored, hashed)


def _raw(array: NDArray[np.generic]) -> memoryview:
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).data


def hash_of(*parts: memoryview) -> bytes:
    """The checksum of the BLOBs of a segment."""
    checksum = hashlib.blake2b(digest_size=_HASH_BYTES)
    for part in parts:
        checksum.update(part)
    return checksum.digest()
