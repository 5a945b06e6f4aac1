"""Tables, indexes and views, as named migrations that are never edited once released.

No triggers, and no views over the full-text table: `trusted_schema=OFF` refuses both.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database

from memcli.store.hashes import add_row_hashes
from memcli.store.schema_base import INGEST_TABLES, MEMORY_TABLES, VIEWS
from memcli.store.schema_forget import FORGOTTEN_TABLE
from memcli.store.schema_models import MODEL_TABLES
from memcli.store.schema_search import COMPRESSION_TABLE, SEARCH_TABLES, WORDS_TABLE

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


def steps() -> list[_Step]:
    """All migrations, in their order. Each uses the connection of its database and nothing else of sqlite-utils."""
    return list(_steps)


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


@migrations()
def m001_ingest(db: Database) -> None:
    """Everything that `ingest` and `search` need."""
    for script in (INGEST_TABLES, MEMORY_TABLES, VIEWS):
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


@migrations()
def m010_row_hashes(db: Database) -> None:
    """A hash over what never changes of a row that holds texts, so that `check` finds what a disk has changed."""
    add_row_hashes(db.conn)


@migrations()
def m011_words(db: Database) -> None:
    """The keyword index once more, declared as other programs look for it."""
    for statement in WORDS_TABLE.split(";\n"):
        if statement.strip():
            db.conn.execute(statement)
