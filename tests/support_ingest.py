"""What the tests of the ingest share: writing transcripts, running an ingest in process, and comparing databases."""

from __future__ import annotations

import atexit
import json
import shutil
import sqlite3
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path
from unittest.mock import patch

import numpy as np

from memcli.commands.ingest import Request, ingest
from memcli.config import Config
from memcli.embed.onnx import OnnxEmbedder

REQUEST = {"format", "map", "since", "limit", "time_budget", "flush", "reextract", "dry_run"}
FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"


class Quiet:
    """A Progress that only remembers what was said."""

    def __init__(self):
        self.notes = []
        self.advanced = []
        self.phases = []

    def start(self, total_bytes):
        self.total = total_bytes

    def phase(self, name, messages):
        self.phases.append((name, messages, len(self.advanced)))

    def advance(self, read_bytes, messages):
        self.advanced.append((read_bytes, messages))

    def stage(self, name, seconds):
        pass

    def note(self, text):
        self.notes.append(text)

    def finish(self):
        pass


@cache
def _data_folder():
    """One folder for all runs of the process: every new database would copy the model into its own."""
    folder = tempfile.mkdtemp(prefix="memcli-tests-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def _embedder(files, batch_size):
    """Loading the model takes longer than most runs of these tests."""
    return OnnxEmbedder(files, batch_size)


def quick_model():
    """While this is entered, the embedding model is loaded once per process and not once per run."""
    return patch("memcli.embed.onnx.OnnxEmbedder", _embedder)


def environ():
    return {"MEMCLI_DATA_DIR": _data_folder()}


def run(db, *paths, progress=None, **options):
    """Ingest `paths` into `db`; the options are those of Request and of Config. The report."""
    request = {name: options.pop(name) for name in REQUEST & options.keys()}
    config = Config(db=Path(db), **options)
    with quick_model():
        return ingest(config, Request([str(path) for path in paths], **request), progress or Quiet(), environ())


def flat(text, **fields):
    """A record of a flat transcript."""
    return {"role": "user", "content": text, **fields}


def user(text, uuid, session="s1", **fields):
    """A user record as Claude Code writes it."""
    return {
        "type": "user",
        "uuid": uuid,
        "sessionId": session,
        "timestamp": "2026-03-02T08:00:00.000Z",
        "message": {"role": "user", "content": text},
        **fields,
    }


def assistant(text, uuid, message_id, session="s1", **fields):
    """An assistant record as Claude Code writes it."""
    return {
        "type": "assistant",
        "uuid": uuid,
        "sessionId": session,
        "timestamp": "2026-03-02T08:00:01.000Z",
        "message": {"id": message_id, "role": "assistant", "content": [{"type": "text", "text": text}]},
        **fields,
    }


def lines(*records):
    """The bytes of a JSONL file."""
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def write(path, *records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lines(*records))
    return path


def append(path, *records):
    with path.open("ab") as file:
        file.write(lines(*records))
    return path


def query(db, sql, *parameters):
    """Rows of a query with nothing but sqlite3."""
    with closing(sqlite3.connect(db)) as conn:
        return conn.execute(sql, parameters).fetchall()


def texts(db):
    """Stored texts of the messages in order."""
    return [text for (text,) in query(db, "SELECT text FROM messages ORDER BY id")]


def memories(db):
    """Active memories as (content, mentions)."""
    return query(db, "SELECT content, mentions FROM active_memories ORDER BY memory_id")


_LOGICAL = {
    "sessions": "SELECT agent_id, key FROM sessions",
    "session_tags": "SELECT s.agent_id, s.key, t.tag FROM session_tags AS t JOIN sessions AS s ON s.id = t.session_id",
    "messages": "SELECT hex(m.identity), s.agent_id, s.key, m.external_id, m.role, m.speaker, m.text,"
    ' hex(m.text_hash), m.timestamp, m.model, m.filter_reason, f.path, m.start, m."end" FROM messages AS m'
    " JOIN sessions AS s ON s.id = m.session_id JOIN files AS f ON f.id = m.file_id",
    "records": "SELECT hex(r.identity), hex(m.identity) FROM message_records AS r JOIN messages AS m"
    " ON m.id = r.message_id",
    "occurrences": "SELECT hex(o.digest), f.path, o.count FROM message_occurrences AS o JOIN files AS f"
    " ON f.id = o.file_id",
    "tiers": "SELECT window_id, tier, version, status, attempts, error FROM window_tiers",
    "memories": "SELECT m.id, m.agent_id, s.key, m.window_id, m.type, m.content, hex(m.content_hash), m.importance,"
    " m.keywords, m.extraction_method, m.timestamp, m.verdict, m.embedded, m.review_pairs FROM memories AS m"
    " JOIN sessions AS s ON s.id = m.session_id",
    "provenance": 'SELECT p.memory_id, hex(m.identity), p.start, p."end", p.kind FROM provenance AS p JOIN messages'
    " AS m ON m.id = p.message_id",
    "memory_tags": "SELECT memory_id, tag, relevance FROM memory_tags",
    "links": "SELECT loser_id, winner_id, kind, round(cosine, 6), round(overlap, 6), gates_passed, gate_version,"
    " threshold, model_id FROM merges WHERE ended_at IS NULL",
    "reviews": "SELECT memory_id, other_id, round(cosine, 6), round(overlap, 6), gates_failed, differences, status"
    " FROM review_pairs",
    "files": "SELECT path, format, offset, line FROM files",
    "rejected": "SELECT f.path, r.line, r.offset, r.reason, r.head FROM rejected_lines AS r JOIN files AS f"
    " ON f.id = r.file_id",
    "recall_horizon": "SELECT value FROM meta WHERE key = 'recall_horizon'",
    "active": "SELECT memory_id, agent_id, session_id, type, content, importance, mentions, extraction_method"
    " FROM active_memories",
}


def logical(db):
    """What a database says, whatever its runs, batches, segments and clocks: a dict of sorted rows per subject.

    Messages go by their identity; memories and windows by their id, which is their rank in the stream of the input.
    """
    with closing(sqlite3.connect(db)) as conn:
        content = {name: sorted(conn.execute(sql).fetchall(), key=repr) for name, sql in _LOGICAL.items()}
        names = dict(conn.execute("SELECT id, hex(identity) FROM messages"))
        content["pending"] = [
            (*key, names[message], start, end)
            for *key, message, start, end in conn.execute(
                'SELECT s.agent_id, s.key, p.message_id, p.start, p."end" FROM pending_messages AS p'
                " JOIN sessions AS s ON s.id = p.session_id ORDER BY s.agent_id, s.key, p.id"
            )
        ]
        content["windows"] = [
            (*row, [names[message] for message in json.loads(ids)], json.loads(spans))
            for *row, ids, spans in conn.execute(
                "SELECT w.id, s.agent_id, s.key, w.started_at, w.ended_at, w.messages_in, w.messages_kept,"
                " w.messages_filtered, w.memories_created, w.memories_merged, w.methods, w.tokens, w.cost_usd, w.error,"
                " w.source_message_ids, w.source_spans FROM windows AS w JOIN sessions AS s ON s.id = w.session_id"
                " ORDER BY w.id"
            )
        ]
        content["vectors"] = sorted(_vectors(conn).items())
        conn.execute("CREATE VIRTUAL TABLE temp.words USING fts5vocab('main', 'memories_fts', 'instance')")
        content["words"] = sorted(conn.execute('SELECT term, doc, "offset" FROM temp.words').fetchall())
    return content


def _vectors(conn):
    """Vectors as (agent, model, bytes) by memory id, out of all segments; compressed ones as they are stored."""
    found = {}
    rows = conn.execute("SELECT agent_id, model_id, count, memory_ids, vectors FROM segments").fetchall()
    for agent, model, count, raw_ids, raw_vectors in rows:
        vectors = np.frombuffer(raw_vectors, np.uint8).reshape(count, -1)
        for memory_id, vector in zip(np.frombuffer(raw_ids, "<i8").tolist(), vectors, strict=True):
            assert memory_id not in found, f"memory {memory_id} has two vectors"
            found[memory_id] = (agent, model, vector.tobytes())
    return found


def assert_same(one, other):
    """Compare what two databases say, naming the subjects that differ."""
    first, second = logical(one), logical(other)
    for name in first:
        assert first[name] == second[name], f"{name} differ"


def assert_sound(db):
    """What holds in every database, whatever was ingested."""
    content = logical(db)
    losers = {link[0] for link in content["links"]}
    assert not losers & {link[1] for link in content["links"]}, "a winner is itself a loser"
    assert len(losers) == len(content["links"]), "a loser has two live links"
    rows = query(
        db,
        'SELECT m.content, substr(x.text, p.start + 1, p."end" - p.start), m.extraction_method FROM provenance AS p'
        " JOIN memories AS m ON m.id = p.memory_id JOIN messages AS x ON x.id = p.message_id",
    )
    own = ("small:", "premium:")  # a model says it in words of its own
    assert all(content == span or method.startswith(own) for content, span, method in rows), (
        "a provenance span does not hold its memory"
    )
    assert all(span.strip() for _, span, _ in rows), "a provenance span is empty"
    embedded = {row[0] for row in content["memories"] if row[-2]}
    assert embedded == {memory_id for memory_id, _ in content["vectors"]}, "vectors and memories disagree"
    assert {doc for _, doc, _ in content["words"]} <= embedded
    assert query(db, "PRAGMA integrity_check") == [("ok",)]
    assert query(db, "PRAGMA foreign_key_check") == []
    query(db, "INSERT INTO memories_fts (memories_fts) VALUES ('integrity-check')")
