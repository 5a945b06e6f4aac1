"""The hashes that rows carry, so that `check` can tell what was written from what a disk made of it."""

from __future__ import annotations

import hashlib
import json
import sqlite3

# What of a row its hash covers, in this order; what changes after it was written is not part of it. The text of a
# message grows with its records and has a hash of its own; the content of a memory enters as the hash of its bytes.
MESSAGE_COLUMNS = (
    "id",
    "session_id",
    "identity",
    "external_id",
    "role",
    "speaker",
    "timestamp",
    "model",
    "filter_reason",
    "file_id",
    "start",
    '"end"',
    "batch_id",
)
MEMORY_COLUMNS = (
    "id",
    "agent_id",
    "session_id",
    "window_id",
    "type",
    "content",
    "content_hash",
    "importance",
    "keywords",
    "extraction_method",
    "timestamp",
    "verdict",
    "review_pairs",
    "run_id",
    "created_at",
)
SESSION_COLUMNS = ("id", "agent_id", "key")
RULE_COLUMNS = (
    "id",
    "agent_id",
    "name",
    "pattern",
    "kind",
    "keep",
    "type",
    "importance",
    "keywords",
    "roles",
    "case_sensitive",
)
ANSWER_COLUMNS = ("key", "call_id", "answer")
HASHED = {
    "messages": MESSAGE_COLUMNS,
    "memories": MEMORY_COLUMNS,
    "sessions": SESSION_COLUMNS,
    "rules": RULE_COLUMNS,
    "model_answers": ANSWER_COLUMNS,
}


def row_hash(*values: str | float | bytes | None) -> bytes:
    """16 bytes of BLAKE2b over the values of a row, in the order of its columns above."""
    # Not repr: it depends on what a version of Python holds to be printable.
    return hashlib.blake2b(json.dumps(values, default=bytes.hex).encode(), digest_size=16).digest()


def add_row_hashes(conn: sqlite3.Connection) -> None:
    """Give tables the column `row_hash` and fill it, and forget what the query cache has without one; a migration."""
    conn.execute("DELETE FROM search_cache")
    conn.execute("UPDATE search_cache_use SET entries = 0")
    conn.create_function("memcli_row_hash", -1, row_hash, deterministic=True)
    for table, columns in HASHED.items():
        conn.execute(f"ALTER TABLE {table} ADD COLUMN row_hash BLOB")
        conn.execute(f"UPDATE {table} SET row_hash = memcli_row_hash({', '.join(columns)})")
