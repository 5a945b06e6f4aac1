"""The tables of the model tiers (m006 of `memcli.store.schema`)."""

MODEL_TABLES = """
CREATE TABLE model_calls (
    id INTEGER PRIMARY KEY,
    run_id INTEGER NOT NULL REFERENCES runs (id),
    window_id INTEGER REFERENCES windows (id),
    agent_id TEXT NOT NULL,
    tier TEXT NOT NULL,
    model TEXT NOT NULL,
    key BLOB NOT NULL,
    messages INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('reserved', 'done', 'failed', 'lost')),
    tokens_in INTEGER NOT NULL,
    tokens_out INTEGER NOT NULL,
    cost_usd REAL,
    seconds REAL,
    error TEXT,
    started_at TEXT NOT NULL
);
CREATE INDEX model_calls_key ON model_calls (key);
CREATE INDEX model_calls_run ON model_calls (run_id);
CREATE INDEX model_calls_started ON model_calls (started_at);
CREATE INDEX model_calls_reserved ON model_calls (id) WHERE status = 'reserved';

CREATE TABLE model_answers (
    key BLOB PRIMARY KEY,
    call_id INTEGER NOT NULL REFERENCES model_calls (id),
    answer TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE rejected_statements (
    window_id INTEGER NOT NULL REFERENCES windows (id),
    tier TEXT NOT NULL,
    version TEXT NOT NULL,
    reason TEXT NOT NULL,
    statements INTEGER NOT NULL,
    PRIMARY KEY (window_id, tier, version, reason)
) WITHOUT ROWID;

CREATE TABLE memory_links (
    memory_id INTEGER NOT NULL REFERENCES memories (id),
    related_id INTEGER NOT NULL REFERENCES memories (id),
    kind TEXT NOT NULL CHECK (kind IN ('relates_to')),
    run_id INTEGER NOT NULL REFERENCES runs (id),
    PRIMARY KEY (memory_id, related_id, kind),
    CHECK (memory_id <> related_id)
) WITHOUT ROWID;
CREATE INDEX memory_links_related ON memory_links (related_id);

CREATE TABLE boot_lines (
    agent_id TEXT NOT NULL,
    line_hash BLOB NOT NULL,
    PRIMARY KEY (agent_id, line_hash)
) WITHOUT ROWID;

CREATE TABLE window_tiers_new (
    window_id INTEGER NOT NULL REFERENCES windows (id),
    tier TEXT NOT NULL,
    version TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('done', 'skipped_by_rate', 'too_short', 'failed', 'waiting')),
    attempts INTEGER NOT NULL,
    error TEXT,
    PRIMARY KEY (window_id, tier, version)
) WITHOUT ROWID;
INSERT INTO window_tiers_new SELECT * FROM window_tiers;
DROP TABLE window_tiers;
ALTER TABLE window_tiers_new RENAME TO window_tiers;
CREATE INDEX window_tiers_open ON window_tiers (tier, window_id) WHERE status IN ('failed', 'waiting');

ALTER TABLE batches ADD COLUMN embed_calls INTEGER;
ALTER TABLE batches ADD COLUMN embed_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE batches ADD COLUMN embed_usd REAL NOT NULL DEFAULT 0;
UPDATE batches SET embed_tokens = tokens, embed_usd = cost_usd;
"""
