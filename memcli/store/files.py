"""Cursors of the transcripts, and the lines that could not be read."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable

from memcli.model import Cursor, Position
from memcli.store.db import Store
from memcli.store.tombstones import Tombstones

IMPORT = "import"


def load_cursors(store: Store, *, imports: bool = False) -> list[Cursor]:
    """The cursors of all transcripts, or of all files that were imported, oldest first.

    One file may be both, with a cursor each.
    """
    rows = store.conn.execute(
        "SELECT id, path, format, inode, size, mtime_ns, offset, line, head_hash, tail_hash, state FROM files"
        " WHERE (format = ?) = ? ORDER BY id",
        (IMPORT, imports),
    )
    return [
        Cursor(
            file_id=row[0],
            path=row[1],
            format=row[2],
            inode=row[3],
            size=row[4],
            mtime_ns=row[5],
            position=Position(row[6], row[7]),
            head_hash=row[8],
            tail_hash=row[9],
            state=json.loads(row[10]),
        )
        for row in rows
    ]


def write_cursors(conn: sqlite3.Connection, cursors: Iterable[Cursor]) -> None:
    """Insert or update cursors."""
    conn.executemany(
        "INSERT INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
        " path = excluded.path, format = excluded.format, inode = excluded.inode, size = excluded.size,"
        " mtime_ns = excluded.mtime_ns, offset = excluded.offset, line = excluded.line, head_hash = excluded.head_hash,"
        " tail_hash = excluded.tail_hash, state = excluded.state",
        [
            (
                cursor.file_id,
                cursor.path,
                cursor.format,
                cursor.inode,
                cursor.size,
                cursor.mtime_ns,
                cursor.position.offset,
                cursor.position.line,
                cursor.head_hash,
                cursor.tail_hash,
                json.dumps(cursor.state),
            )
            for cursor in cursors
        ],
    )


def write_rejected(conn: sqlite3.Connection, rows: Iterable[tuple[int, int, int, str, str]], run_id: int) -> None:
    """Record rejected lines as (file id, line, offset, reason, redacted head); one seen before stays as it is.

    One that was forgotten is left out.
    """
    tombstones = Tombstones(conn)
    if tombstones:
        marks = {row: tombstones.line(row[-1]) for row in rows}
        gone = tombstones.known(marks.values())
        rows = [row for row, mark in marks.items() if mark not in gone]
    conn.executemany(
        "INSERT OR IGNORE INTO rejected_lines (file_id, line, offset, reason, head, run_id) VALUES (?, ?, ?, ?, ?, ?)",
        [(*row, run_id) for row in rows],
    )
