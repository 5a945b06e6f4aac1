"""Tables, indexes and views, as named migrations that are never edited once released.

No triggers, and no views over the full-text table: `trusted_schema=OFF` refuses both.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database

from memcli.store.schema_forget import FORGOTTEN_TABLE
from memcli.store.schema_models import MODEL_TABLES
from memcli.store.schema_search import COMPRESSION_TABLE, SEARCH_TABLES

APPLICATION_ID = 0x6D656D63  # "memc": tells our files from any other SQLite file before anything in them is run

_SET = "memcli"

_Step = Callable[["Database"], None]
_steps: list[_Step] = []


def migrations() -> Callable[[_Step], _Step]:
    """Make a migration of the function below: it is known by its name, and follows those that stand above it."""

    def add(step: _Step) -> _Step:
        _steps.append(step)
        return step

    return add


def released() -> list[str]:
    """The names of all migrations, in their order."""
    return [step.__name__ for step in _steps]


def applied(conn: sqlite3.Connection) -> list[str]:
    """The names of the migrations that the database has, in their order, as sqlite-utils records them."""
    # Asking sqlite-utils would mean importing it, for 50 ms, in every command that only reads.
    if conn.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '_sqlite_migrations'").fetchone():
        rows = conn.execute("SELECT name FROM _sqlite_migrations WHERE migration_set = ? ORDER BY rowid", (_SET,))
        return [name for (name,) in rows]
    return []


def migrate(conn: sqlite3.Connection) -> None:
    """Apply the migrations that the database lacks, each in a transaction with its record."""
    from sqlite_utils import Database  # noqa: PLC0415 - as in `applied`
    from sqlite_utils.migrations import Migrations  # noqa: PLC0415 - as above

    known = Migrations(_SET)
    for step in _steps:
        known()(step)
    known.apply(Database(conn, use_counts_table=False))


_INGEST_TABLES = """
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value
) WITHOUT ROWID;

CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    command TEXT NOT NULL,
    version TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('running', 'done', 'interrupted')),
    started_at TEXT NOT NULL,
    finished_at TEXT,
    report TEXT
);

CREATE TABLE files (
    id INTEGER PRIMARY KEY,
    path TEXT NOT NULL,
    format TEXT NOT NULL,
    inode INTEGER,
    size INTEGER,
    mtime_ns INTEGER,
    offset INTEGER NOT NULL,
    line INTEGER NOT NULL,
    head_hash BLOB,
    tail_hash BLOB,
    state TEXT NOT NULL DEFAULT '{}'
);
CREATE INDEX files_path ON files (path);

CREATE TABLE rejected_lines (
    id INTEGER PRIMARY KEY,
    file_id INTEGER NOT NULL REFERENCES files (id),
    line INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    reason TEXT NOT NULL,
    head TEXT NOT NULL,
    run_id INTEGER NOT NULL REFERENCES runs (id),
    UNIQUE (file_id, offset, head)
);

CREATE TABLE sessions (
    id INTEGER PRIMARY KEY,
    agent_id TEXT NOT NULL,
    key TEXT NOT NULL,
    UNIQUE (agent_id, key)
);

CREATE TABLE session_tags (
    session_id INTEGER NOT NULL REFERENCES sessions (id),
    tag TEXT NOT NULL,
    PRIMARY KEY (session_id, tag)
) WITHOUT ROWID;

CREATE TABLE batches (
    id INTEGER PRIMARY KEY,
    run_id INTEGER NOT NULL REFERENCES runs (id),
    source_message_ids TEXT NOT NULL,
    started_at TEXT NOT NULL,
    ended_at TEXT NOT NULL,
    lines_read INTEGER NOT NULL,
    lines_skipped TEXT NOT NULL,
    messages_in INTEGER NOT NULL,
    messages_duplicate INTEGER NOT NULL,
    messages_kept INTEGER NOT NULL,
    messages_filtered TEXT NOT NULL,
    memories_created INTEGER NOT NULL,
    memories_merged INTEGER NOT NULL,
    methods TEXT NOT NULL,
    tokens INTEGER NOT NULL,
    cost_usd REAL NOT NULL,
    error TEXT,
    timings TEXT NOT NULL
);

CREATE TABLE messages (
    id INTEGER PRIMARY KEY,
    session_id INTEGER NOT NULL REFERENCES sessions (id),
    identity BLOB NOT NULL UNIQUE,
    external_id TEXT,
    role TEXT NOT NULL,
    speaker TEXT,
    text TEXT NOT NULL,
    text_hash BLOB NOT NULL,
    timestamp TEXT,
    model TEXT,
    filter_reason TEXT,
    file_id INTEGER NOT NULL REFERENCES files (id),
    start INTEGER NOT NULL,
    "end" INTEGER NOT NULL,
    batch_id INTEGER NOT NULL REFERENCES batches (id)
);
CREATE INDEX messages_session ON messages (session_id);
CREATE INDEX messages_system_prompt ON messages (text_hash) WHERE role = 'system';

CREATE TABLE message_records (
    identity BLOB PRIMARY KEY,
    message_id INTEGER NOT NULL REFERENCES messages (id)
) WITHOUT ROWID;

CREATE TABLE message_occurrences (
    digest BLOB NOT NULL,
    file_id INTEGER NOT NULL REFERENCES files (id),
    count INTEGER NOT NULL,
    PRIMARY KEY (digest, file_id)
) WITHOUT ROWID;

CREATE TABLE pending_messages (
    id INTEGER PRIMARY KEY,
    session_id INTEGER NOT NULL REFERENCES sessions (id),
    message_id INTEGER NOT NULL REFERENCES messages (id),
    start INTEGER NOT NULL,
    "end" INTEGER NOT NULL
);
CREATE INDEX pending_messages_session ON pending_messages (session_id);

CREATE TABLE windows (
    id INTEGER PRIMARY KEY,
    session_id INTEGER NOT NULL REFERENCES sessions (id),
    batch_id INTEGER NOT NULL REFERENCES batches (id),
    source_message_ids TEXT NOT NULL,
    source_spans TEXT NOT NULL,
    started_at TEXT,
    ended_at TEXT,
    messages_in INTEGER NOT NULL,
    messages_kept INTEGER NOT NULL,
    messages_filtered INTEGER NOT NULL,
    memories_created INTEGER NOT NULL,
    memories_merged INTEGER NOT NULL,
    methods TEXT NOT NULL,
    tokens INTEGER NOT NULL,
    cost_usd REAL NOT NULL,
    error TEXT,
    timings TEXT NOT NULL
);
CREATE INDEX windows_session ON windows (session_id);
CREATE INDEX windows_batch ON windows (batch_id);

CREATE TABLE window_tiers (
    window_id INTEGER NOT NULL REFERENCES windows (id),
    tier TEXT NOT NULL,
    version TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('done', 'skipped_by_rate', 'failed')),
    attempts INTEGER NOT NULL,
    error TEXT,
    PRIMARY KEY (window_id, tier, version)
) WITHOUT ROWID;
"""

_MEMORY_TABLES = """
CREATE TABLE memories (
    id INTEGER PRIMARY KEY,
    agent_id TEXT NOT NULL,
    session_id INTEGER NOT NULL REFERENCES sessions (id),
    window_id INTEGER NOT NULL REFERENCES windows (id),
    type TEXT NOT NULL CHECK (type IN ('semantic', 'episodic', 'procedural')),
    content TEXT NOT NULL,
    content_hash BLOB NOT NULL,
    importance REAL NOT NULL,
    keywords TEXT NOT NULL,
    extraction_method TEXT NOT NULL,
    timestamp TEXT,
    verdict TEXT NOT NULL CHECK (verdict IN ('new', 'exact', 'near', 'review')),
    embedded INTEGER NOT NULL,
    review_pairs INTEGER NOT NULL,
    run_id INTEGER NOT NULL REFERENCES runs (id),
    created_at TEXT NOT NULL
);
CREATE INDEX memories_content_hash ON memories (content_hash);
CREATE INDEX memories_session ON memories (session_id);

CREATE TABLE provenance (
    memory_id INTEGER NOT NULL REFERENCES memories (id),
    message_id INTEGER NOT NULL REFERENCES messages (id),
    start INTEGER NOT NULL,
    "end" INTEGER NOT NULL,
    kind TEXT NOT NULL DEFAULT 'message' CHECK (kind IN ('message', 'import')),
    PRIMARY KEY (memory_id, message_id, start)
) WITHOUT ROWID;
CREATE INDEX provenance_message ON provenance (message_id);

CREATE TABLE memory_tags (
    memory_id INTEGER NOT NULL REFERENCES memories (id),
    tag TEXT NOT NULL,
    relevance REAL NOT NULL,
    PRIMARY KEY (memory_id, tag)
) WITHOUT ROWID;
CREATE INDEX memory_tags_tag ON memory_tags (tag);

CREATE TABLE merges (
    id INTEGER PRIMARY KEY,
    loser_id INTEGER NOT NULL REFERENCES memories (id),
    winner_id INTEGER NOT NULL REFERENCES memories (id),
    kind TEXT NOT NULL CHECK (kind IN ('exact', 'near')),
    cosine REAL NOT NULL,
    overlap REAL NOT NULL,
    gates_passed TEXT NOT NULL,
    gate_version TEXT NOT NULL,
    threshold REAL,
    model_id TEXT,
    run_id INTEGER NOT NULL REFERENCES runs (id),
    created_at TEXT NOT NULL,
    ended_at TEXT,
    ended_run_id INTEGER REFERENCES runs (id),
    ended_reason TEXT,
    CHECK (loser_id <> winner_id)
);
CREATE UNIQUE INDEX merges_live_loser ON merges (loser_id) WHERE ended_at IS NULL;
CREATE INDEX merges_live_winner ON merges (winner_id) WHERE ended_at IS NULL;

CREATE TABLE review_pairs (
    id INTEGER PRIMARY KEY,
    memory_id INTEGER NOT NULL REFERENCES memories (id),
    other_id INTEGER NOT NULL REFERENCES memories (id),
    cosine REAL NOT NULL,
    overlap REAL NOT NULL,
    gates_failed TEXT NOT NULL,
    differences TEXT NOT NULL,
    gate_version TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'open',
    run_id INTEGER NOT NULL REFERENCES runs (id),
    created_at TEXT NOT NULL,
    UNIQUE (memory_id, other_id)
);

CREATE TABLE segments (
    id INTEGER PRIMARY KEY,
    agent_id TEXT NOT NULL,
    model_id TEXT NOT NULL,
    count INTEGER NOT NULL,
    dim INTEGER NOT NULL,
    first_memory_id INTEGER NOT NULL,
    last_memory_id INTEGER NOT NULL,
    memory_ids BLOB NOT NULL,
    vectors BLOB NOT NULL,
    hash BLOB NOT NULL,
    created_at TEXT NOT NULL
);
CREATE INDEX segments_agent ON segments (agent_id, model_id);

CREATE VIRTUAL TABLE memories_fts USING fts5 (
    content, content='memories', content_rowid='id', tokenize='porter unicode61 remove_diacritics 2'
);
"""

# A star is a memory without a live link to a winner, together with the losers that have a live link to it.
_VIEWS = """
CREATE VIEW active_memories AS
SELECT
    m.id AS memory_id,
    m.agent_id,
    s.key AS session_id,
    m.type,
    m.content,
    (
        SELECT max(member.importance) FROM memories AS member
        WHERE member.id = m.id
           OR member.id IN (SELECT loser_id FROM merges WHERE winner_id = m.id AND ended_at IS NULL)
    ) AS importance,
    (
        SELECT count(DISTINCT p.message_id) FROM provenance AS p
        WHERE p.memory_id = m.id
           OR p.memory_id IN (SELECT loser_id FROM merges WHERE winner_id = m.id AND ended_at IS NULL)
    ) AS mentions,
    m.extraction_method,
    m.created_at
FROM memories AS m
JOIN sessions AS s ON s.id = m.session_id
WHERE NOT EXISTS (SELECT 1 FROM merges WHERE loser_id = m.id AND ended_at IS NULL);

CREATE VIEW merge_log AS
SELECT
    g.id AS merge_id,
    g.kind,
    g.loser_id,
    loser.content AS loser_content,
    g.winner_id,
    winner.content AS winner_content,
    g.cosine,
    g.overlap,
    g.gates_passed,
    g.run_id,
    g.created_at,
    g.ended_at,
    g.ended_reason
FROM merges AS g
JOIN memories AS loser ON loser.id = g.loser_id
JOIN memories AS winner ON winner.id = g.winner_id;
"""


@migrations()
def m001_ingest(db: Database) -> None:
    """Everything that `ingest` and `search` need."""
    for script in (_INGEST_TABLES, _MEMORY_TABLES, _VIEWS):
        for statement in script.split(";\n"):
            if statement.strip():
                db.conn.execute(statement)
    db.conn.execute("INSERT INTO meta VALUES ('generation', 0), ('recall_horizon', 0)")


_RULE_TABLES = """
CREATE TABLE rules (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    agent_id TEXT,
    name TEXT NOT NULL,
    pattern TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('regex', 'simple')),
    keep TEXT NOT NULL CHECK (keep IN ('match', 'sentence', 'message')),
    type TEXT NOT NULL CHECK (type IN ('semantic', 'episodic', 'procedural')),
    importance REAL NOT NULL CHECK (importance BETWEEN 0 AND 1),
    keywords TEXT NOT NULL DEFAULT '[]',
    roles TEXT NOT NULL CHECK (roles IN ('user', 'assistant', 'both')),
    case_sensitive INTEGER NOT NULL DEFAULT 0,
    active INTEGER NOT NULL DEFAULT 1,
    run_id INTEGER NOT NULL REFERENCES runs (id),
    changed_at TEXT NOT NULL
);
CREATE UNIQUE INDEX rules_name ON rules (coalesce(agent_id, ''), name);

CREATE TABLE disabled_starter_rules (
    id TEXT PRIMARY KEY,
    run_id INTEGER NOT NULL REFERENCES runs (id)
) WITHOUT ROWID;
"""


@migrations()
def m002_rules(db: Database) -> None:
    """The user's rules, and which of the built-in ones are switched off."""
    for statement in _RULE_TABLES.split(";\n"):
        if statement.strip():
            db.conn.execute(statement)


_CODE_COLUMNS = ("codes BLOB", "scales BLOB", "keys BLOB", "gate_version TEXT")


@migrations()
def m004_codes(db: Database) -> None:
    """Int8 codes with their scales, and merge keys under a gate version; older segments go without.

    The hash of a segment covers memory_ids and vectors, from here on codes and scales too; 16 bytes more cover keys.
    """
    for column in _CODE_COLUMNS:
        db.conn.execute(f"ALTER TABLE segments ADD COLUMN {column}")


_DEDUP_TABLES = """
CREATE TABLE dedup_watermarks (
    scope TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    model_id TEXT NOT NULL,
    threshold REAL NOT NULL,
    gate_version TEXT NOT NULL,
    memory_id INTEGER NOT NULL,
    run_id INTEGER NOT NULL REFERENCES runs (id),
    PRIMARY KEY (scope, agent_id, model_id, threshold, gate_version)
) WITHOUT ROWID;

ALTER TABLE review_pairs ADD COLUMN decided_run_id INTEGER REFERENCES runs (id);
ALTER TABLE review_pairs ADD COLUMN decided_at TEXT;
CREATE INDEX review_pairs_decided ON review_pairs (other_id) WHERE decided_run_id IS NOT NULL;

CREATE INDEX merges_run ON merges (run_id);
CREATE INDEX merges_ended_loser ON merges (loser_id) WHERE ended_at IS NOT NULL;
CREATE INDEX merges_ended_run ON merges (ended_run_id) WHERE ended_at IS NOT NULL;
CREATE INDEX merges_undone_winner ON merges (winner_id) WHERE ended_reason = 'undone';

DROP VIEW merge_log;
CREATE VIEW merge_log AS
SELECT
    g.id AS merge_id,
    g.kind,
    g.loser_id,
    loser.content AS loser_content,
    g.winner_id,
    winner.content AS winner_content,
    g.cosine,
    g.overlap,
    g.gates_passed,
    g.run_id,
    g.created_at,
    g.ended_at,
    g.ended_reason,
    g.ended_run_id,
    loser.agent_id,
    loser.type,
    g.threshold,
    g.model_id,
    g.gate_version,
    r.command
FROM merges AS g
JOIN memories AS loser ON loser.id = g.loser_id
JOIN memories AS winner ON winner.id = g.winner_id
JOIN runs AS r ON r.id = g.run_id;
"""


@migrations()
def m005_dedup(db: Database) -> None:
    """What `dedup` remembers: how far it has compared, what the user decided, and by which run a merge ended."""
    for statement in _DEDUP_TABLES.split(";\n"):
        if statement.strip():
            db.conn.execute(statement)


@migrations()
def m006_models(db: Database) -> None:
    """What model tiers asked, what that cost, what they answered; links between memories; tiers that are not done."""
    for statement in MODEL_TABLES.split(";\n"):
        if statement.strip():
            db.conn.execute(statement)


@migrations()
def m007_search_cache(db: Database) -> None:
    """What searches have found and embedded, and indexes for the turns around a memory and for names in questions."""
    for statement in SEARCH_TABLES.split(";\n"):
        if statement.strip():
            db.conn.execute(statement)


@migrations()
def m008_compression(db: Database) -> None:
    """How vectors are compressed: what a model that is computed from another one's vectors is made of."""
    db.conn.execute(COMPRESSION_TABLE)


@migrations()
def m009_forgotten(db: Database) -> None:
    """What must not come back: keyed hashes of it."""
    db.conn.execute(FORGOTTEN_TABLE)
