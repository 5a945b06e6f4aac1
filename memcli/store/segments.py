"""Looking after the segments and the keyword index: what they hold that they should not, and the other way round."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memcli.errors import DamagedError
from memcli.store.db import Store, code_of, now
from memcli.store.vectors import INSERT, MAX_MERGED_ROWS, Coding, Segment, hash_of, row_of, segment_of

_Ids = NDArray[np.int64]
_COLUMNS = "id, count, dim, memory_ids, vectors, codes, scales, keys"
_HASH_BYTES = 16
KEPT_GENERATION = "reindexed_generation"


@dataclass(frozen=True, slots=True)
class Stored:
    """A segment without its vectors: the memories that it has rows of, and whether it has codes and merge keys."""

    id: int
    agent: str
    model_id: str
    ids: _Ids
    is_ready: bool


def stored(store: Store, model_id: str, version: str) -> list[Stored]:
    """The segments of a model, those of an agent in the order of their memories; `version` is that of merge keys."""
    rows = store.conn.execute(
        "SELECT id, agent_id, model_id, memory_ids, codes IS NOT NULL AND gate_version IS ? FROM segments"
        " WHERE model_id = ? ORDER BY agent_id, first_memory_id, id",
        (version, model_id),
    )
    return [
        Stored(segment_id, agent, model, np.frombuffer(ids, dtype="<i8"), bool(ready))
        for segment_id, agent, model, ids, ready in rows
    ]


def embedded_ids(store: Store) -> dict[str, _Ids]:
    """The memories that should have a vector and words of their own, ascending, by agent."""
    found: dict[str, list[int]] = {}
    for memory_id, agent in store.conn.execute("SELECT id, agent_id FROM memories WHERE embedded ORDER BY id"):
        found.setdefault(agent, []).append(memory_id)
    return {agent: np.array(ids, dtype=np.int64) for agent, ids in found.items()}


def groups(listed: Sequence[Stored], alive: dict[str, _Ids]) -> Iterator[list[Stored]]:
    """Yield segments that should become one: neighbours that fit, and any with dead rows or without codes or keys."""
    group: list[Stored] = []
    rows = 0
    for each in listed:
        own = int(np.isin(each.ids, alive.get(each.agent, _NONE)).sum())
        if group and (group[0].agent != each.agent or rows + own > MAX_MERGED_ROWS):
            yield from _worth(group, alive)
            group, rows = [], 0
        group.append(each)
        rows += own
    yield from _worth(group, alive)


_NONE = np.empty(0, dtype=np.int64)


def _worth(group: list[Stored], alive: dict[str, _Ids]) -> Iterator[list[Stored]]:
    if len(group) > 1 or any(not each.is_ready or dead(each, alive) for each in group):
        yield group


def dead(each: Stored, alive: dict[str, _Ids]) -> int:
    """How many rows of a segment are of memories that have none any more."""
    return len(each.ids) - int(np.isin(each.ids, alive.get(each.agent, _NONE)).sum())


def join(conn: sqlite3.Connection, group: Sequence[Stored], alive: dict[str, _Ids], coding: Coding) -> None:
    """Make one segment of several, of the rows of living memories, in the transaction of `conn`.

    Raises:
        DamagedError: one of them cannot be read.
    """
    parts = []
    for each in group:
        row = conn.execute(f"SELECT {_COLUMNS} FROM segments WHERE id = ?", (each.id,)).fetchone()
        try:
            parts.append(segment_of(*row))
        except ValueError as error:
            raise DamagedError(f"segment {each.id} is damaged", "restore a backup") from error
    agent, model_id = group[0].agent, group[0].model_id
    ids = np.concatenate([part.memory_ids for part in parts])
    vectors = np.concatenate([part.whole() for part in parts])
    kept, order = np.unique(ids, return_index=True)
    living = np.isin(kept, alive.get(agent, _NONE))
    kept, order = kept[living], order[living]
    conn.executemany("DELETE FROM segments WHERE id = ?", [(each.id,) for each in group])
    if len(kept):
        texts = dict(
            conn.execute(
                "SELECT id, content FROM memories WHERE agent_id = ? AND id BETWEEN ? AND ?",
                (agent, int(kept[0]), int(kept[-1])),
            )
        )
        keys = np.array([coding.key(texts[memory_id]) for memory_id in kept.tolist()], dtype=np.int64)
        whole = Segment(0, kept, vectors[order], coding.encode(vectors[order]), keys)
        conn.execute(INSERT, (agent, model_id, now(), *row_of(whole, coding.version)))


def damaged(store: Store) -> Iterator[tuple[int, str]]:
    """Yield the segments (id, what is wrong) whose bytes are not those that were written."""
    rows = store.conn.execute(f"SELECT {_COLUMNS}, hash FROM segments ORDER BY id")
    for segment_id, count, dim, ids, vectors, codes, scales, keys, found in rows:
        parts = [ids, vectors] + ([] if codes is None else [codes, scales])
        expected = hash_of(*(memoryview(part) for part in parts)) + (b"" if keys is None else hash_of(memoryview(keys)))
        if expected[: len(found)] != found or len(found) < _HASH_BYTES:
            yield segment_id, "its checksum does not match"
            continue
        try:
            segment = segment_of(segment_id, count, dim, ids, vectors, codes, scales, keys)
        except ValueError:
            yield segment_id, "its parts do not fit"
            continue
        if not np.isfinite(segment.whole()).all():
            yield segment_id, "it holds numbers that are not finite"


def misplaced(store: Store, listed: Sequence[Stored], alive: dict[str, _Ids]) -> Iterator[tuple[int, str]]:
    """Yield the segments (id, what is wrong) that say something else of themselves than their rows do."""
    told = {
        row[0]: row[1:] for row in store.conn.execute("SELECT id, count, first_memory_id, last_memory_id FROM segments")
    }
    for each in listed:
        ids = each.ids
        if not len(ids) or told.get(each.id) != (len(ids), int(ids[0]), int(ids[-1])) or (np.diff(ids) <= 0).any():
            yield each.id, "its range is not that of its memories"
        elif each.agent not in alive:
            yield each.id, "it is of an agent that has no memories"


# --- keywords --------------------------------------------------------------------------------------------------------


def words_of(store: Store) -> _Ids:
    """The memories that the keyword index knows, ascending."""
    rows = store.conn.execute("SELECT id FROM memories_fts_docsize ORDER BY id").fetchall()
    return np.array([row[0] for row in rows], dtype=np.int64)


def words_are_whole(store: Store) -> bool:
    """Whether the keyword index is in itself as it should be."""
    try:
        store.conn.execute("INSERT INTO memories_fts (memories_fts) VALUES ('integrity-check')")
    except sqlite3.DatabaseError as error:
        if code_of(error) == sqlite3.SQLITE_READONLY:
            raise
        return False
    return True


def write_words_anew(conn: sqlite3.Connection) -> None:
    """Fill the keyword index from the memories, in the transaction of `conn`."""
    conn.execute("INSERT INTO memories_fts (memories_fts) VALUES ('delete-all')")
    conn.execute("INSERT INTO memories_fts (rowid, content) SELECT id, content FROM memories WHERE embedded")


def merge_words(conn: sqlite3.Connection) -> None:
    """Bring the keyword index into one piece."""
    conn.execute("INSERT INTO memories_fts (memories_fts) VALUES ('optimize')")


def keep_generation(conn: sqlite3.Connection) -> None:
    """Note that the index is as it should be at the generation that this transaction makes."""
    conn.execute(
        "INSERT INTO meta SELECT ?, value FROM meta WHERE key = 'generation'"
        " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (KEPT_GENERATION,),
    )


def give_back(store: Store) -> bool:
    """Write the database file anew without its free pages; needs as much room on the disk again meanwhile.

    False where that cannot be done now, as another program is at work or the disk is full: then later runs fill them.
    """
    try:
        store.conn.execute("VACUUM")
        store.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.OperationalError:
        return False
    return True


def quick_check(store: Store) -> list[str]:
    """What SQLite finds wrong with the file."""
    found = [row[0] for row in store.conn.execute("PRAGMA quick_check(20)")]
    keys = store.conn.execute("PRAGMA foreign_key_check").fetchmany(20)
    return [text for text in found if text != "ok"] + [
        f"row {rowid} of {table} points to nothing in {parent}" for table, rowid, parent, _ in keys
    ]
