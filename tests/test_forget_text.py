"""A forgotten text stands in no column any more, whatever that says; names that hold a key are known by it."""

import json
import sqlite3
from contextlib import closing

import pytest
from support_ingest import append, query, run, texts, user, write
from test_forget import MARK, OTHER, SECRET, SHARED, assert_sound, gone, holds, said

from memcli.errors import UsageError
from memcli.store.hashes import HASHED, row_hash

# Columns that say something of a transcript, or of a call about it, beside the texts themselves.
HELD = (
    ("messages", "model", "UPDATE messages SET model = ? WHERE id = 2", "hash"),
    ("messages", "speaker", "UPDATE messages SET speaker = ? WHERE id = 2", "hash"),
    ("messages", "external_id", "UPDATE messages SET external_id = ? WHERE id = 2", "hash"),
    ("sessions", "key", "UPDATE sessions SET key = ? WHERE id = 2", "hash"),
    ("files", "path", "UPDATE files SET path = ?", ""),
    ("files", "state", "UPDATE files SET state = json_object('session', ?)", ""),
    ("runs", "report", "UPDATE runs SET report = json_object('lines', json_object('skipped', json_object(?, 1)))", ""),
    ("batches", "lines_skipped", "UPDATE batches SET lines_skipped = json_object(?, 1)", ""),
    ("batches", "error", "UPDATE batches SET error = ?", ""),
    ("windows", "error", "UPDATE windows SET error = ?", ""),
    ("window_tiers", "error", "UPDATE window_tiers SET error = ?", ""),
    ("session_tags", "tag", "INSERT INTO session_tags VALUES (1, ?)", ""),
    ("memory_tags", "tag", "INSERT INTO memory_tags VALUES (2, ?, 1)", ""),
    ("memories", "keywords", "UPDATE memories SET keywords = json_array(?) WHERE id = 2", "hash"),
    (
        "rejected_lines",
        "reason",
        "INSERT INTO rejected_lines (file_id, line, offset, reason, head, run_id) VALUES (1, 9, 99, ?, '', 1)",
        "",
    ),
    (
        "model_calls",
        "error",
        (
            "INSERT INTO model_calls (run_id, agent_id, tier, model, key, messages, status, tokens_in, tokens_out,"
            " error, started_at) SELECT 1, 'default', 'small', 'm', x'01', 1, 'failed', 0, 0, ?, started_at FROM runs"
        ),
        "",
    ),
)


@pytest.mark.parametrize(("table", "column", "sql", "hashed"), HELD, ids=[".".join(each[:2]) for each in HELD])
def test_a_text_goes_out_of_every_column_that_can_hold_it(tmp_path, table, column, sql, hashed):
    word = f'{MARK} "Zoë" \\'  # JSON writes it otherwise
    db = tmp_path / "m.db"
    run(
        db,
        write(tmp_path / "a.jsonl", said(SHARED, 1), said(OTHER, 2)),
        write(tmp_path / "b.jsonl", said(OTHER, 3, "s2")),
    )
    with closing(sqlite3.connect(db)) as conn, conn:
        conn.execute(sql, (f"x {word} y",))
        if hashed:
            conn.create_function("memcli_row_hash", -1, row_hash)
            conn.execute(f"UPDATE {table} SET row_hash = memcli_row_hash({', '.join(HASHED[table])})")
    stood = query(db, f"SELECT count(*) FROM {table} WHERE instr({column}, ?)", MARK)
    assert stood > [(0,)]
    assert gone(db, text=word, dry_run=True).left == []
    assert holds(db)
    assert gone(db, text=word).left == []
    assert holds(db) == []
    assert "The nightly" in "".join(texts(db))  # what says nothing of it stays
    assert_sound(db)
    for (report,) in query(db, "SELECT report FROM runs WHERE report IS NOT NULL"):
        json.loads(report)
    run(db, tmp_path / "a.jsonl")
    assert holds(db) == []


def test_an_agent_that_is_named_after_the_text_goes_but_not_one_of_memcli(tmp_path):
    db = tmp_path / "m.db"
    run(db, write(tmp_path / "a.jsonl", said(OTHER, 1, agent_id=f"of {MARK}"), said(SHARED, 2, agent_id="default")))
    run(db, write(tmp_path / "b.jsonl", user(SECRET.replace(MARK, "the claude valley"), "u1")))
    run(db, write(tmp_path / "c.jsonl", user(OTHER, "u2", "s9")))
    gone(db, text=MARK)
    assert holds(db) == []
    assert query(db, "SELECT DISTINCT agent_id FROM sessions ORDER BY 1") == [("claude-code",), ("default",)]
    gone(db, text="claude")
    assert query(db, "SELECT DISTINCT agent_id FROM sessions ORDER BY 1") == [("claude-code",), ("default",)]
    assert texts(db) == [SHARED, OTHER]
    assert_sound(db)


def test_what_is_named_after_a_key_is_forgotten_by_the_name_in_the_transcript(tmp_path):
    key = "gh" + "p_aB3dE5gH7jK9mN1pQ4rS6tU8vW0xY2zA5bC7"
    for what in ("session", "agent", "source", "folder"):
        db, folder = tmp_path / f"{what}.db", tmp_path / f"{what} {key}"
        for redact in (False, True):  # under both names
            path = write(folder / f"{key} {redact}.jsonl", said(f"{OTHER} {redact}", 1, key, agent_id=key))
            run(db, path, redact=redact)
        run(db, write(tmp_path / "b.jsonl", said(SHARED, 1, "s2")))
        assert query(db, "SELECT count(*) FROM sessions") == [(3,)]
        named = {"session": key, "agent": key, "source": str(path), "folder": str(folder)}[what]
        gone(db, **{"source" if what == "folder" else what: named})
        assert texts(db) == ([f"{OTHER} False", SHARED] if what == "source" else [SHARED])
        if what != "source":
            assert holds(db, key) == []
        assert_sound(db)


def test_a_text_of_one_agent_or_session_takes_nothing_from_others(tmp_path):
    db = tmp_path / "m.db"
    for agent in ("alice", "bob"):
        path = write(tmp_path / f"{agent}.jsonl", said(f"{OTHER} {MARK}", 1, agent, agent_id=agent))
        append(path, said(SHARED, 2, agent, agent_id=agent))
        run(db, path)
    with closing(sqlite3.connect(db)) as conn, conn:
        conn.execute("INSERT INTO session_tags SELECT id, ? FROM sessions", (f"project:{MARK}",))
        conn.execute("UPDATE batches SET error = ?", (MARK,))
    before = query(db, "SELECT text, model FROM messages WHERE session_id = 1"), query(db, "SELECT path FROM files")
    gone(db, text=MARK, agent="bob")
    assert texts(db) == [f"{OTHER} {MARK}", SHARED, SHARED]
    assert (
        query(db, "SELECT text, model FROM messages WHERE session_id = 1"),
        query(db, "SELECT path FROM files"),
    ) == before
    assert query(db, "SELECT session_id, tag FROM session_tags WHERE instr(tag, ?)", MARK)[0] == (1, f"project:{MARK}")
    assert query(db, "SELECT count(*) FROM batches WHERE error IS NULL") == [(0,)]
    gone(db, text=MARK)
    assert holds(db) == []


def test_a_word_of_the_reports_own_is_nothing_that_is_held(tmp_path):
    db = tmp_path / "m.db"
    run(db, write(tmp_path / "a.jsonl", said(SHARED, 1)))
    assert query(db, "SELECT count(*) FROM runs WHERE instr(report, 'timings')") == [(1,)]
    with pytest.raises(UsageError, match="nothing"):
        gone(db, text="timings", dry_run=True)
