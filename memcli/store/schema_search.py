"""The tables of the query cache, of compressed vectors and of the words, and the indexes that searches need."""

SEARCH_TABLES = """
CREATE TABLE search_cache (
    kind TEXT NOT NULL CHECK (kind IN ('answer', 'embedding')),
    key BLOB NOT NULL,
    value BLOB NOT NULL,
    created_at REAL NOT NULL,
    used INTEGER NOT NULL,
    PRIMARY KEY (kind, key)
) WITHOUT ROWID;
CREATE INDEX search_cache_used ON search_cache (kind, used);

CREATE TABLE search_cache_use (
    kind TEXT PRIMARY KEY,
    entries INTEGER NOT NULL DEFAULT 0,
    clock INTEGER NOT NULL DEFAULT 0,
    hits INTEGER NOT NULL DEFAULT 0,
    misses INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
INSERT INTO search_cache_use (kind) VALUES ('answer'), ('embedding');

CREATE INDEX messages_kept ON messages (session_id) WHERE filter_reason IS NULL;
CREATE INDEX messages_speaker ON messages (speaker COLLATE NOCASE) WHERE speaker IS NOT NULL;
"""

COMPRESSION_TABLE = """
CREATE TABLE compressions (
    model_id TEXT PRIMARY KEY,
    base_model_id TEXT NOT NULL,
    spec TEXT NOT NULL,
    dims INTEGER NOT NULL,
    basis BLOB,
    energy REAL NOT NULL,
    rows INTEGER NOT NULL,
    last_memory_id INTEGER NOT NULL,
    run_id INTEGER NOT NULL REFERENCES runs (id)
) WITHOUT ROWID;
"""

# Datasette and sqlite-utils know the words of a table by its name in double quotes.
WORDS_TABLE = """
DROP TABLE memories_fts;
CREATE VIRTUAL TABLE memories_fts USING fts5 (
    content, content="memories", content_rowid="id", tokenize='porter unicode61 remove_diacritics 2'
);
INSERT INTO memories_fts (rowid, content) SELECT id, content FROM memories WHERE embedded;
"""
