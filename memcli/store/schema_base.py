"""The tables of the first migration: what ingest writes, the memories, and the views that outsiders may rely on."""

INGEST_TABLES = """
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

MEMORY_TABLES = """
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
VIEWS = """
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
