"""What the tables and views hold, in words, and questions that are worth asking them: for README.md and Datasette."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TableInfo:
    """A table or view: what a row stands for, its columns, the one that names a row to a reader, units of numbers.

    `machinery` tables serve memcli only. `newest` is the column whose largest values come first. `words` is the column
    that is the rowid of the keyword index, where the table can be searched by it.
    """

    row: str
    columns: Mapping[str, str] = field(default_factory=dict)
    label: str | None = None
    newest: str | None = None
    words: str | None = None
    machinery: bool = False
    units: Mapping[str, str] = field(default_factory=dict)
    facets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """A query with a name; what stands behind a colon in it is asked of the reader."""

    title: str
    description: str
    sql: str = field(repr=False)


WORDS_INDEX = "memories_fts"
# Tables of libraries.
RECORDS_OF_OTHERS = ("_sqlite_migrations",)

_RUN = "the run that wrote this"
_UTC = "when, in UTC"
_MEMORY = {
    "agent_id": "whose memory it is; dedup never crosses agents",
    "type": "semantic (facts), episodic (what happened) or procedural (how to)",
    "content": "the statement, redacted",
    "importance": "0 to 1",
    "extraction_method": "the tier and the rule or model that found it",
    "created_at": _UTC + ", it was stored",
}
_PAIR = {
    "cosine": "similarity of the two vectors, at most 1",
    "overlap": "share of the words that agree, 0 to 1",
    "gate_version": "version of the gates that judged the pair",
}
_MERGE = {
    "kind": "exact (the same text) or near",
    "loser_id": "the duplicate; its text and vector stay",
    "winner_id": "the earlier memory that it went into",
    **_PAIR,
    "gates_passed": "what was compared and agreed",
    "threshold": "least cosine of a near duplicate at that time",
    "model_id": "embedding model of the cosine",
    "run_id": "the run that merged them; memcli dedup --undo takes its number",
    "created_at": _UTC,
    "ended_at": "when it was undone or replaced; empty while it holds",
    "ended_reason": "why it ended",
    "ended_run_id": "the run that ended it",
}
_SPENT = {
    "messages_in": "messages that were read",
    "messages_kept": "messages that passed the filter",
    "messages_filtered": "messages that were dropped",
    "memories_created": "new memories",
    "memories_merged": "memories that were duplicates",
    "methods": "tiers that ran",
    "tokens": "tokens that providers counted",
    "cost_usd": "dollars",
    "error": "what failed",
    "timings": "seconds per stage",
    "source_message_ids": "ids in messages",
}
_SPAN = {"start": "first character of the span", "end": "the character behind the span"}

VIEWS = {
    "active_memories": TableInfo(
        "memory that is no duplicate, with what its duplicates add up to",
        {
            **_MEMORY,
            "memory_id": "id in memories; memcli dedup --explain takes it",
            "session_id": "the conversation's key, as in its transcript",
            "importance": "0 to 1, the highest of its duplicates",
            "mentions": "messages that say it, in it and in its duplicates",
        },
        newest="memory_id",
        words="memory_id",
    ),
    "merge_log": TableInfo(
        "merge of two memories, live or ended, with both texts and the evidence",
        {
            **_MERGE,
            "merge_id": "memcli dedup --undo-merge takes it",
            "loser_content": "text of the duplicate",
            "winner_content": "text of the memory that it went into",
            "command": "of the run that merged them",
            "agent_id": "of the duplicate",
            "type": "of the duplicate",
        },
        newest="merge_id",
    ),
}

TABLES = {
    "runs": TableInfo(
        "invocation of a command that wrote; every other row leads back to one",
        {
            "command": "the subcommand of memcli",
            "version": "of memcli",
            "status": "running, done or interrupted",
            "started_at": _UTC,
            "finished_at": _UTC,
            "report": "what the command reported, as JSON",
        },
        label="command",
        newest="id",
    ),
    "batches": TableInfo(
        "committed batch: messages in, kept, filtered, memories, time per stage",
        {
            **_SPENT,
            "run_id": _RUN,
            "lines_read": "lines of transcripts",
            "messages_duplicate": "messages known already",
        },
        label="started_at",
        newest="id",
    ),
    "files": TableInfo(
        "transcript: how far it was read, and hashes that prove it is still that file",
        {
            "format": "as memcli formats lists them",
            "size": "bytes, when it was last read",
            "offset": "bytes that were read",
            "line": "lines, or elements of an array, that were read",
            "mtime_ns": "last change of the file, nanoseconds since 1970",
        },
        label="path",
        units={"size": "byte", "offset": "byte"},
        facets=("format",),
    ),
    "rejected_lines": TableInfo(
        "line that could not be read: where, why, its redacted first bytes",
        {"file_id": "the transcript", "line": "its number in the file", "offset": "its first byte", "run_id": _RUN},
        label="reason",
        newest="id",
        facets=("reason",),
    ),
    "sessions": TableInfo(
        "conversation of an agent",
        {"key": "the conversation's id in its transcript", "agent_id": _MEMORY["agent_id"]},
        label="key",
        newest="id",
        facets=("agent_id",),
    ),
    "session_tags": TableInfo(
        "environment tag of a session: project, branch, tool, model", {"tag": "KIND:VALUE"}, label="tag"
    ),
    "messages": TableInfo(
        "message: role, redacted text, where it stands in its file, why it was dropped if it was",
        {
            "session_id": "the conversation",
            "external_id": "its id in the transcript",
            "speaker": "a name, where the transcript has one that is no role",
            "text": "what was said, redacted",
            "timestamp": _UTC + ", as the transcript says",
            "model": "that wrote it",
            "filter_reason": "why no memory is taken from it; empty where one may be",
            "file_id": "the transcript",
            "start": "its first byte in the file",
            "end": "the byte behind it",
            "batch_id": "the batch that stored it",
        },
        label="role",
        newest="id",
        facets=("role", "filter_reason"),
    ),
    "message_records": TableInfo("transcript record that a message was put together from", machinery=True),
    "message_occurrences": TableInfo("message without an id: how often it was seen in a file", machinery=True),
    "pending_messages": TableInfo("message that waits for its window", _SPAN),
    "windows": TableInfo(
        "window: its messages, what it cost, what came of it",
        {**_SPENT, "source_spans": "which characters of each message", "batch_id": "the batch that closed it"},
        label="started_at",
        newest="id",
    ),
    "window_tiers": TableInfo(
        "extraction tier that saw a window, with its version and state",
        {"version": "of its rules, or of its prompt and model", "attempts": "how often it was tried"},
        facets=("tier", "status"),
    ),
    "memories": TableInfo(
        "extracted statement; never changed, never deleted by dedup",
        {
            **_MEMORY,
            "session_id": "the conversation",
            "window_id": "the messages it was taken from",
            "keywords": "of the rule or model",
            "timestamp": _UTC + ", of its message",
            "verdict": "of dedup when it came: new, exact, near or review",
            "embedded": "1 if it has a vector and words in the index; an exact duplicate has those of its winner",
            "review_pairs": "how many similar memories it was kept apart from",
            "run_id": _RUN,
        },
        label="content",
        newest="id",
        words="id",
        facets=("agent_id", "type", "verdict"),
    ),
    "provenance": TableInfo(
        "source of a memory: message and character span",
        {**_SPAN, "kind": "message, or import where only another database had the message"},
    ),
    "memory_tags": TableInfo(
        "environment tag of a memory's source session, with its relevance",
        {"tag": "KIND:VALUE", "relevance": "share of the memory's sessions that carry it"},
        label="tag",
    ),
    "merges": TableInfo(
        "link from a duplicate to the memory it went into, with the evidence", _MERGE, label="kind", newest="id"
    ),
    "review_pairs": TableInfo(
        "pair of similar memories whose evidence disagrees",
        {
            **_PAIR,
            "memory_id": "the later one",
            "other_id": "the earlier one",
            "gates_failed": "what did not agree",
            "differences": "what differed, the later text first",
            "status": "open, accepted or rejected",
        },
        label="status",
        newest="id",
        facets=("status",),
    ),
    "dedup_watermarks": TableInfo(
        "scope, model, threshold and gate version: up to which memory `dedup` has compared", machinery=True
    ),
    "rules": TableInfo(
        "rule of the user: pattern, what it keeps, for which agent and roles",
        {"keep": "match, sentence or message", "kind": "regex (RE2) or simple", "agent_id": "empty: for all"},
        label="name",
    ),
    "model_calls": TableInfo(
        "request to a model of an extraction tier: tokens, cost, what came of it; for which window",
        {"status": "reserved, done, failed or lost", "cost_usd": "dollars", "key": "of the answer in model_answers"},
        label="model",
        newest="id",
        units={"seconds": "second"},
        facets=("tier", "model", "status"),
    ),
    "model_answers": TableInfo("accepted answer of a model: the same question costs nothing again", machinery=True),
    "rejected_statements": TableInfo(
        "reason for which statements of a model about a window were rejected, with their number", facets=("reason",)
    ),
    "memory_links": TableInfo("link between two memories that a model saw", label="kind"),
    "boot_lines": TableInfo("hash of a sentence that a system prompt or a boot file told an agent", machinery=True),
    "disabled_starter_rules": TableInfo("built-in rule that is switched off"),
    "segments": TableInfo(
        "block of the vector matrix: memory ids, float32 vectors, int8 codes, merge keys, checksum", machinery=True
    ),
    "search_cache": TableInfo(
        "answer of a search, or vector of a query, for the next one who asks the same", machinery=True
    ),
    "search_cache_use": TableInfo("kind of cached thing: how many there are, how often they helped", machinery=True),
    "compressions": TableInfo(
        "compression of the vectors (`reindex --compress`): of which model, and the basis of a PCA", machinery=True
    ),
    WORDS_INDEX: TableInfo("keyword index entry (FTS5)", machinery=True),
    "forgotten": TableInfo("keyed hash of what was forgotten, so that it does not come back", machinery=True),
    "meta": TableInfo("setting of the database: embedding model, corpus generation", machinery=True),
}

QUESTIONS = {
    "memories_of_a_session": Question(
        "Memories of a session",
        "What was remembered of a conversation, in its order. The key is that of the table sessions.",
        """
SELECT m.id AS memory, m.timestamp, m.type, m.content, m.importance, m.verdict
FROM memories AS m
JOIN sessions AS s ON s.id = m.session_id
WHERE s.key = :session
ORDER BY m.id
""",
    ),
    "memories_per_session": Question(
        "Memories per session",
        "How many messages of each conversation were kept, and how many memories they became.",
        """
SELECT
    s.key AS session,
    s.agent_id,
    (SELECT min(timestamp) FROM messages WHERE session_id = s.id) AS began,
    (SELECT count(*) FROM messages WHERE session_id = s.id AND filter_reason IS NULL) AS messages_kept,
    count(m.id) AS memories,
    count(m.id) - count(g.id) AS active
FROM sessions AS s
LEFT JOIN memories AS m ON m.session_id = s.id
LEFT JOIN merges AS g ON g.loser_id = m.id AND g.ended_at IS NULL
GROUP BY s.id
ORDER BY began DESC
""",
    ),
    "merges_with_evidence": Question(
        "Merges with their evidence",
        "What was taken for the same, and what agreed. Undo one with: memcli dedup --undo-merge ID.",
        """
SELECT merge_id, kind, loser_content, winner_content, cosine, overlap, gates_passed, run_id, command
FROM merge_log
WHERE ended_at IS NULL
ORDER BY kind = 'exact', cosine
""",
    ),
    "kept_apart_with_evidence": Question(
        "Pairs to review, with what differs",
        "Similar memories that were kept apart. Decide them with: memcli dedup --review.",
        """
SELECT p.id AS review, later.content AS later, earlier.content AS earlier, p.cosine, p.overlap, p.gates_failed,
    p.differences
FROM review_pairs AS p
JOIN memories AS later ON later.id = p.memory_id
JOIN memories AS earlier ON earlier.id = p.other_id
WHERE p.status = 'open'
ORDER BY p.cosine DESC
""",
    ),
    "sources_of_a_memory": Question(
        "Sources of a memory",
        "The messages that say it, those of its duplicates too, with the very words and the place in the transcript.",
        """
SELECT p.memory_id AS memory, x.role, x.timestamp, substr(x.text, p.start + 1, p."end" - p.start) AS words,
    x.text AS message, f.path AS transcript
FROM provenance AS p
JOIN messages AS x ON x.id = p.message_id
JOIN files AS f ON f.id = x.file_id
WHERE p.memory_id = :memory
    OR p.memory_id IN (SELECT loser_id FROM merges WHERE winner_id = :memory AND ended_at IS NULL)
ORDER BY x.timestamp, x.id
""",
    ),
    "memories_with_a_tag": Question(
        "Memories with a tag",
        "Active memories of sessions with an environment tag, as in project:api.",
        """
SELECT a.memory_id AS memory, a.content, a.importance, a.mentions, t.relevance, a.agent_id, a.created_at
FROM memory_tags AS t
JOIN active_memories AS a ON a.memory_id = t.memory_id
WHERE t.tag = :tag
ORDER BY a.memory_id DESC
""",
    ),
    "what_was_dropped": Question(
        "What was dropped, and why",
        "Messages of which no memory is taken, by reason, role and agent.",
        """
SELECT m.filter_reason AS reason, m.role, s.agent_id, count(*) AS messages
FROM messages AS m
JOIN sessions AS s ON s.id = m.session_id
WHERE m.filter_reason IS NOT NULL
GROUP BY m.filter_reason, m.role, s.agent_id
ORDER BY messages DESC
""",
    ),
    "what_models_cost": Question(
        "What models cost",
        "Calls of the extraction tiers by day. What was reserved and never settled counts in full.",
        """
SELECT substr(started_at, 1, 10) AS day, tier, model, count(*) AS calls, sum(tokens_in) AS tokens_in,
    sum(tokens_out) AS tokens_out, round(sum(cost_usd), 4) AS cost_usd
FROM model_calls
GROUP BY day, tier, model
ORDER BY day DESC
""",
    ),
}
