"""The key of the hashes that stand in names in the place of credentials; see `memcli.redact.names`."""

from __future__ import annotations

import sqlite3

from memcli.store.db import Store

KEY = "names_key"


def names_key(store: Store) -> bytes | None:
    """The database's key; None while no name needed one."""
    key = store.meta(KEY)
    return key if isinstance(key, bytes) and key else None


def write_names_key(conn: sqlite3.Connection, key: bytes | None) -> None:
    """Keep a key that was made, in the transaction that writes the first names that depend on it."""
    if key is not None:
        conn.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (KEY, key))


def is_named(store: Store, name: str) -> bool:
    """Whether an agent or a session is stored under this name."""
    query = "SELECT 1 FROM sessions WHERE key = ?1 OR agent_id = ?1 LIMIT 1"
    return store.conn.execute(query, (name,)).fetchone() is not None


def is_in_a_path(store: Store, part: str) -> bool:
    """Whether the path of some transcript holds these characters."""
    return store.conn.execute("SELECT 1 FROM files WHERE instr(path, ?) LIMIT 1", (part,)).fetchone() is not None
