"""The table of what was forgotten (m009 of `memcli.store.schema`)."""

# `digest` is keyed with a random key of this database: it tells what comes back, and nothing to anyone else.
FORGOTTEN_TABLE = """
CREATE TABLE forgotten (
    digest BLOB PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('message', 'text', 'session', 'tag', 'line')),
    run_id INTEGER NOT NULL REFERENCES runs (id)
) WITHOUT ROWID
"""
