"""What moving a database to another embedding model asks of the store, and writes."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from memcli.store.db import Store


@dataclass(frozen=True, slots=True)
class Embedded:
    """A memory that has a vector of its own."""

    id: int
    agent: str
    content: str
    content_hash: bytes


@dataclass(frozen=True, slots=True)
class Remaining:
    """Memories behind the last one that has a vector of the new model, and their characters; `done` are before it."""

    after_id: int
    done: int
    memories: int
    characters: int


def remaining(store: Store, model_id: str) -> Remaining:
    """How far an earlier, interrupted run came: it goes through the memories by id, so its last one tells.

    `done` counts those that it could not know of as well, see `embedded_up_to`.
    """
    row = store.conn.execute(
        "WITH reached (id) AS (SELECT coalesce(max(last_memory_id), 0) FROM segments WHERE model_id = ?)"
        " SELECT reached.id, count(*) FILTER (WHERE m.id <= reached.id), count(*) FILTER (WHERE m.id > reached.id),"
        " coalesce(sum(length(m.content)) FILTER (WHERE m.id > reached.id), 0)"
        " FROM reached LEFT JOIN memories AS m ON m.embedded",
        (model_id,),
    ).fetchone()
    return Remaining(*row)


def embedded_up_to(store: Store, memory_id: int) -> list[int]:
    """The ids of the memories with a vector of their own, up to that one, ascending.

    An exact duplicate gets a vector when its merge is undone, so there may be more of them than an earlier run saw.
    """
    rows = store.conn.execute("SELECT id FROM memories WHERE id <= ? AND embedded ORDER BY id", (memory_id,))
    return [row[0] for row in rows]


def embedded_of(store: Store, memory_ids: Sequence[int]) -> list[Embedded]:
    """The memories of those ids, by id."""
    rows = store.by_ids(
        "SELECT id, agent_id, content, content_hash FROM memories WHERE id IN (SELECT value FROM json_each(:ids))"
        " ORDER BY id",
        memory_ids,
    )
    return [Embedded(*row) for row in rows]


def embedded_after(store: Store, memory_id: int, limit: int) -> list[Embedded]:
    """The next memories with a vector of their own, by id."""
    rows = store.conn.execute(
        "SELECT id, agent_id, content, content_hash FROM memories WHERE id > ? AND embedded ORDER BY id LIMIT ?",
        (memory_id, limit),
    )
    return [Embedded(*row) for row in rows]


def first_with_text(store: Store, hashes: list[bytes], up_to: int) -> dict[bytes, int]:
    """For each content hash the first embedded memory, of those up to the id `up_to`, that has it."""
    rows = store.by_hashes(
        "SELECT m.content_hash, min(m.id) FROM hashes JOIN memories AS m ON m.content_hash = hashes.hash"
        f" WHERE m.embedded AND m.id <= {int(up_to)} GROUP BY m.content_hash",
        hashes,
    )
    return dict(rows)


def has_memories(store: Store) -> bool:
    """Whether there is any memory."""
    return bool(store.conn.execute("SELECT EXISTS (SELECT 1 FROM memories)").fetchone()[0])


def switch_model(conn: sqlite3.Connection, model_id: str, provider: str | None = None) -> None:
    """Bind the database to another model and drop all vectors of others; part of a transaction.

    `provider` is how to go on where a provider has the model.
    """
    conn.execute(
        "INSERT INTO meta VALUES ('model_id', ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (model_id,)
    )
    conn.execute("DELETE FROM meta WHERE key = 'provider'")
    if provider is not None:
        conn.execute("INSERT INTO meta VALUES ('provider', ?)", (provider,))
    conn.execute("DELETE FROM segments WHERE model_id <> ?", (model_id,))
    conn.execute("DELETE FROM compressions WHERE model_id <> ?", (model_id,))


def stale_segments(store: Store, model_id: str) -> int:
    """How many blocks of vectors are there of models other than `model_id`."""
    return int(store.conn.execute("SELECT count(*) FROM segments WHERE model_id <> ?", (model_id,)).fetchone()[0])


@dataclass(frozen=True, slots=True)
class CompressionRow:
    """How the vectors of a model are computed from those of another; `basis` is float32, little endian, or None."""

    model_id: str
    base_model_id: str
    spec: str
    dims: int
    basis: bytes | None
    energy: float
    rows: int
    last_memory_id: int


_COMPRESSION = "SELECT model_id, base_model_id, spec, dims, basis, energy, rows, last_memory_id FROM compressions"


def compression(store: Store, model_id: str) -> CompressionRow | None:
    """How the vectors of a model are compressed, None where they are not."""
    row = store.conn.execute(f"{_COMPRESSION} WHERE model_id = ?", (model_id,)).fetchone()
    return None if row is None else CompressionRow(*row)


def begun_compression(store: Store, base_model_id: str, spec: str) -> CompressionRow | None:
    """The compression that an interrupted run has begun."""
    row = store.conn.execute(f"{_COMPRESSION} WHERE base_model_id = ? AND spec = ?", (base_model_id, spec)).fetchone()
    return None if row is None else CompressionRow(*row)


def write_compression(conn: sqlite3.Connection, row: CompressionRow, run_id: int) -> None:
    """Keep how vectors are compressed."""
    conn.execute(
        "INSERT OR IGNORE INTO compressions (model_id, base_model_id, spec, dims, basis, energy, rows, last_memory_id,"
        " run_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            row.model_id,
            row.base_model_id,
            row.spec,
            row.dims,
            row.basis,
            row.energy,
            row.rows,
            row.last_memory_id,
            run_id,
        ),
    )


@dataclass(frozen=True, slots=True)
class IndexSize:
    """The vectors of a model: how many, in how many segments, their bytes on the disk and those a scan holds."""

    vectors: int
    segments: int
    stored_bytes: int
    scanned_bytes: int


def index_size(store: Store, model_id: str) -> IndexSize:
    """How large the index of a model is."""
    row = store.conn.execute(
        "SELECT coalesce(sum(count), 0), count(*), coalesce(sum(length(vectors) + coalesce(length(codes), 0)"
        " + coalesce(length(scales), 0) + coalesce(length(keys), 0) + length(memory_ids)), 0),"
        " coalesce(sum(coalesce(length(codes), 0) + coalesce(length(scales), 0) + length(memory_ids)), 0)"
        " FROM segments WHERE model_id = ?",
        (model_id,),
    ).fetchone()
    return IndexSize(*row)


def file_bytes(store: Store) -> int:
    """The size of the database file once all is in it, free pages included."""
    pages = store.conn.execute("PRAGMA page_count").fetchone()[0]
    return int(pages) * int(store.conn.execute("PRAGMA page_size").fetchone()[0])


def free_share(store: Store) -> float:
    """The share of the file's pages that nothing is on."""
    free = store.conn.execute("PRAGMA freelist_count").fetchone()[0]
    return float(free) / max(int(store.conn.execute("PRAGMA page_count").fetchone()[0]), 1)


def texts_after(store: Store, memory_id: int, limit: int) -> list[str]:
    """Texts of memories with a vector behind an id, spread over all of these."""
    rows = store.conn.execute(
        "WITH later AS (SELECT content, row_number() OVER (ORDER BY id) AS place, count(*) OVER () AS total"
        " FROM memories WHERE embedded AND id > ?1) SELECT content FROM later"
        " WHERE place % max(total / ?2, 1) = 0 LIMIT ?2",
        (memory_id, limit),
    )
    return [row[0] for row in rows]
