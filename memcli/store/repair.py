"""Making again what a database holds twice: indexes, keywords, tags, caches, and vectors that their codes vouch for.

Messages, memories, merges and their like are copied as they are, or left alone: nothing here makes one of them anew.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from memcli.store.cache import KINDS
from memcli.store.check import DERIVED
from memcli.store.db import Store, quoted
from memcli.store.segments import write_words_anew
from memcli.store.vectors import Coding, hash_of, segment_of

_HASH_BYTES = 16
_COLUMNS = "dim, memory_ids, vectors, codes, scales, hash"
# Filled by `segments_of`, one by one, and by `mend_tags`; the others fill themselves.
_LEFT_OUT = {*DERIVED, "_sqlite_migrations"}


class UnreadableError(Exception):
    """A table that nobody can make again cannot be read to its end; its name."""


# --- one by one -----------------------------------------------------------------------------------------------------


def mend_segment(conn: sqlite3.Connection, segment_id: int, coding: Coding) -> bool:
    """Make again of a damaged segment what follows from the rest of it; else delete it, which loses its vectors.

    True where its vectors are still those that were written, as the hash says.
    """
    row = conn.execute(f"SELECT {_COLUMNS} FROM segments WHERE id = ?", (segment_id,)).fetchone()
    values = None if row is None else _whole(*row) or _encoded(coding, *row)
    if values is None:
        conn.execute("DELETE FROM segments WHERE id = ?", (segment_id,))
        return False
    conn.execute(
        "UPDATE segments SET count = ?, dim = ?, first_memory_id = ?, last_memory_id = ?, codes = ?, scales = ?,"
        " hash = ?, keys = NULL, gate_version = NULL WHERE id = ?",
        (*values, segment_id),
    )
    conn.execute(
        "UPDATE segments SET agent_id = coalesce((SELECT agent_id FROM memories WHERE id = first_memory_id), agent_id)"
        " WHERE id = ?",
        (segment_id,),
    )
    return True


_Blob = bytes | None


def _whole(
    dim: int, ids: _Blob, vectors: _Blob, codes: _Blob, scales: _Blob, hashed: _Blob
) -> tuple[object, ...] | None:
    """What a segment says of itself, where nothing else of it is damaged; None where its rows are."""
    parts = [each for each in (ids, vectors, codes, scales) if isinstance(each, bytes)]
    if not isinstance(hashed, bytes) or not isinstance(ids, bytes) or not len(ids):
        return None
    if hash_of(*(memoryview(each) for each in parts)) != hashed[:_HASH_BYTES]:
        return None
    found = np.frombuffer(ids, dtype="<i8")
    wide = len(codes) // len(found) if isinstance(codes, bytes) else dim
    return len(found), wide, int(found[0]), int(found[-1]), codes, scales, hashed[:_HASH_BYTES]


def _encoded(
    coding: Coding, dim: int, ids: _Blob, vectors: _Blob, _codes: _Blob, _scales: _Blob, hashed: _Blob
) -> tuple[object, ...] | None:
    """The same with codes made again of the vectors, where the hash says that they are what was written."""
    try:
        segment = segment_of(0, len(ids or b"") // 8, dim, ids, vectors or b"", None, None, None)
        codes = coding.encode(segment.whole())
    except (ValueError, TypeError):
        return None
    values, scales = codes.values.tobytes(), codes.scales.astype("<f4").tobytes()
    return _whole(dim, ids, vectors, values, scales, hashed)


def mend_tags(conn: sqlite3.Connection) -> int:
    """Give memories the environment tags of their sessions, and no others; how many rows that changed."""
    before = conn.total_changes
    conn.execute(
        "DELETE FROM memory_tags WHERE NOT EXISTS (SELECT 1 FROM memories AS m JOIN session_tags AS s"
        " ON s.session_id = m.session_id WHERE m.id = memory_tags.memory_id AND s.tag = memory_tags.tag)"
        " OR typeof(relevance) <> 'real' OR relevance NOT BETWEEN 0 AND 1"
    )
    conn.execute(
        "INSERT OR IGNORE INTO memory_tags SELECT m.id, s.tag, 1.0 FROM session_tags AS s"
        " JOIN memories AS m ON m.session_id = s.session_id"
    )
    return conn.total_changes - before


def empty_cache(conn: sqlite3.Connection) -> None:
    """Forget all answers and vectors of queries; how often they helped stays counted."""
    conn.execute("DELETE FROM search_cache")
    kinds = json.dumps(KINDS)
    conn.execute("DELETE FROM search_cache_use WHERE kind NOT IN (SELECT value FROM json_each(?))", (kinds,))
    conn.execute("INSERT OR IGNORE INTO search_cache_use (kind) SELECT value FROM json_each(?)", (kinds,))
    conn.execute("UPDATE search_cache_use SET entries = 0")


def rewrite_words(store: Store) -> bool:
    """Fill the keyword index anew, in the transaction that the caller has begun; False where it must be made anew."""
    try:
        write_words_anew(store.conn)
    except sqlite3.DatabaseError:
        return False
    return True


def take_over_log(store: Store) -> None:
    """Bring what is whole in the log into the file, and forget the rest of the log."""
    store.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


# --- the whole file -------------------------------------------------------------------------------------------------


def rebuild(path: Path, scratch: Path) -> tuple[int, int]:
    """Put the database at `path` together anew, in one transaction that takes its place: (segments kept, lost).

    All pages, indexes and the keyword index are new. `scratch` is a file to work in, which must not be there yet.

    Raises:
        UnreadableError: a table that cannot be made again cannot be read; the database is as it was.
        sqlite3.Error: it cannot be written.
    """
    source = f"{path.absolute().as_uri()}?mode=ro"
    with Store.create(scratch) as store:
        conn = store.conn
        conn.execute("PRAGMA foreign_keys = OFF")
        conn.execute("ATTACH ? AS old", (source,))
        conn.execute("BEGIN IMMEDIATE")
        _add_the_users(conn)
        for table in _tables(conn):
            _copy(conn, table)
        mend_tags(conn)
        with closing(sqlite3.connect(source, uri=True)) as old:
            kept, lost = _copy_segments(old, conn)
        conn.execute(
            "INSERT INTO main.memories_fts (rowid, content) SELECT id, content FROM main.memories WHERE embedded"
        )
        conn.execute("COMMIT")
        conn.execute("DETACH old")
        if conn.execute("PRAGMA integrity_check(1)").fetchone()[0] != "ok":
            raise UnreadableError("the copy")
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as target:
            target.execute("PRAGMA busy_timeout = 5000")
            conn.backup(target)
    return kept, lost


def _add_the_users(conn: sqlite3.Connection) -> None:
    """Make the tables and indexes that a user has added: opening the file has seen that they only hold data."""
    for (sql,) in conn.execute(
        "SELECT sql FROM old.sqlite_master WHERE sql IS NOT NULL AND type IN ('table', 'index')"
        " AND name NOT LIKE 'sqlite!_%' ESCAPE '!' AND name NOT LIKE '!_sqlite!_%' ESCAPE '!'"
        " AND name NOT GLOB 'memories_fts*' AND lower(tbl_name) NOT IN"
        " (SELECT lower(name) FROM main.sqlite_master WHERE type = 'table') ORDER BY type DESC, rootpage"
    ).fetchall():
        conn.execute(sql)


def _tables(conn: sqlite3.Connection) -> Iterator[str]:
    rows = conn.execute("SELECT name FROM main.sqlite_master WHERE type = 'table' ORDER BY rootpage").fetchall()
    for (table,) in rows:
        if table not in _LEFT_OUT and not table.startswith(("sqlite_", "memories_fts")):
            yield table


def _copy(conn: sqlite3.Connection, table: str) -> None:
    columns = ", ".join(quoted(row[1]) for row in conn.execute(f"PRAGMA main.table_info({quoted(table)})"))
    try:
        conn.execute(f"DELETE FROM main.{quoted(table)}")
        # A text that is no UTF-8 any more goes from page to page as it is.
        conn.execute(
            f"INSERT INTO main.{quoted(table)} ({columns}) SELECT {columns} FROM old.{quoted(table)} NOT INDEXED"
        )
    except sqlite3.DatabaseError as error:
        raise UnreadableError(table) from error


def _copy_segments(old: sqlite3.Connection, conn: sqlite3.Connection) -> tuple[int, int]:
    """Copy the segments that can be read; how many there are, and how many cannot.

    They are read by a connection of their own: one that has come upon a broken page writes to no file any more.
    """
    names = [row[1] for row in conn.execute("PRAGMA main.table_info(segments)")]
    columns, marks = ", ".join(names), ", ".join("?" * len(names))
    ids: list[int] = []
    kept = lost = 0
    try:
        ids.extend(row[0] for row in old.execute("SELECT id FROM segments NOT INDEXED ORDER BY id"))
    except sqlite3.DatabaseError:
        lost += 1
    for segment_id in ids:
        try:
            row = old.execute(f"SELECT {columns} FROM segments WHERE id = ?", (segment_id,)).fetchone()
            conn.execute(f"INSERT INTO main.segments ({columns}) VALUES ({marks})", row)
            kept += 1
        except (sqlite3.DatabaseError, TypeError):
            lost += 1
    return kept, lost
