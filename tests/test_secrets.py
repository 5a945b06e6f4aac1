"""`memcli check --secrets` finds what was stored before it was redacted, in every table, and never shows it."""

import sqlite3
from contextlib import closing

import pytest
from support_cli import Home
from support_ingest import assert_sound, flat, write

KEY = "sk-" + "ant-api03-" + "aB3dE5gH7jK9mN1pQ4rS6tU8vW0xY2zA5bC7dE9f"
TEXT = f"The deployment uses the key {KEY} in every environment."


@pytest.fixture
def stored(home, tmp_path):
    """A database with a credential in it."""
    path = write(
        tmp_path / "a.jsonl", flat(TEXT, id="1", session_id="s"), flat("Nothing to see here, move on.", id="2")
    )
    done = home.run("ingest", path, "--no-redact")
    assert done.code == 0, done.err
    return home


def test_what_was_stored_as_it_was_is_found_by_place_and_kind(stored):
    done = stored.run("check", "--secrets", "--json")
    assert done.code == 0  # no damage
    places = {(each["table"], each["column"], each["kind"]) for each in done.json["found"]}
    assert places == {("messages", "text", "anthropic-key"), ("memories", "content", "anthropic-key")}
    rows = {int(each["row"]) for each in done.json["found"] if each["table"] == "memories"}
    assert rows == {row[0] for row in stored.rows("SELECT id FROM memories WHERE content LIKE '%sk-ant%'")}
    assert done.json["kinds"] == {"anthropic-key": len(done.json["found"])}
    shown = stored.run("check", "--secrets")
    assert "anthropic-key" in shown.out
    assert "memcli forget" in shown.out
    assert KEY not in done.out + shown.out + done.err + shown.err


@pytest.mark.parametrize(
    ("table", "sql"),
    [
        (
            "rejected_lines",
            "INSERT INTO rejected_lines (file_id, line, offset, reason, head, run_id) VALUES (1,1,1,?,'',1)",
        ),
        ("session_tags", "INSERT INTO session_tags VALUES (1, ?)"),
        ("files", "UPDATE files SET path = ?"),
        ("runs", "UPDATE runs SET report = ?"),
        ("search_cache", "INSERT INTO search_cache VALUES ('answer', x'00', CAST(? AS BLOB), 0, 1)"),
        ("windows", "UPDATE windows SET error = ?"),
        ("batches", "UPDATE batches SET error = ?"),
        ("boot_lines", "INSERT INTO boot_lines VALUES (?, x'00')"),
        (
            "rules",
            (
                "INSERT INTO rules (id, name, pattern, kind, keep, type, importance, roles, run_id, changed_at) VALUES"
                " ('r', 'n', ?, 'regex', 'match', 'semantic', 0.5, 'both', 1, '')"
            ),
        ),
        (
            "model_answers",
            "INSERT INTO model_answers (key, call_id, answer) VALUES (x'00', 1, ?)",
        ),
        (
            "review_pairs",
            (
                "INSERT INTO review_pairs (memory_id, other_id, cosine, overlap, gates_failed, differences,"
                " gate_version, run_id, created_at) VALUES (1, 2, 1, 1, '[]', ?, '', 1, '')"
            ),
        ),
        ("meta", "INSERT INTO meta VALUES ('note', ?)"),
        ("sessions", "UPDATE sessions SET key = ?"),
        ("sessions", "UPDATE sessions SET agent_id = ?"),
        ("messages", "UPDATE messages SET external_id = ?"),
        ("messages", "UPDATE messages SET speaker = ?"),
        ("messages", "UPDATE messages SET model = ?"),
        ("files", "UPDATE files SET state = json_object('session', ?)"),
        ("segments", "UPDATE segments SET agent_id = ?"),
        ("memories", "UPDATE memories SET keywords = json_array(?)"),
        ("window_tiers", "UPDATE window_tiers SET error = ?"),
        ("batches", "UPDATE batches SET lines_skipped = json_object(?, 1)"),
        ("memory_tags", "INSERT INTO memory_tags VALUES (1, ?, 1)"),
    ],
)
def test_no_table_is_left_out(home, tmp_path, table, sql):
    assert home.run("ingest", write(tmp_path / "a.jsonl", flat("Nothing to see here, move on.", id="1"))).code == 0
    assert home.run("check", "--secrets", "--json").json["found"] == []
    with closing(sqlite3.connect(home.db)) as conn, conn:
        conn.execute(sql, (TEXT,))
    found = home.run("check", "--secrets", "--json").json["found"]
    assert {each["table"] for each in found} == {table}
    assert all(KEY not in str(each) for each in found)


def test_by_default_nothing_is_there_to_be_found(home, tmp_path):
    done = home.run("ingest", write(tmp_path / "a.jsonl", flat(TEXT, id="1")), "--json")
    assert done.json["redacted"] == {"anthropic-key": 1}
    assert KEY.encode() not in home.db.read_bytes()
    assert "No credentials found" in home.run("check", "--secrets").out


def test_who_speaks_is_redacted_too(home, tmp_path, data, nursery):
    record = flat("I prefer tea to coffee in the morning.", id="1", role=f"Ada {KEY}", model=f"bot {KEY}")
    path = write(tmp_path / "a.jsonl", record)
    assert home.run("ingest", path, "--no-redact").code == 0
    named = "SELECT speaker, model FROM messages"
    assert home.rows(named) == [(f"Ada {KEY}", f"bot {KEY}")]
    assert home.run("export", "--out", tmp_path / "export.jsonl").code == 0
    for command, source in (("ingest", path), ("import", tmp_path / "export.jsonl")):
        other = Home(tmp_path / command, data, nursery)
        assert other.run(command, source).code == 0
        assert other.rows(named) == [("Ada [redacted:anthropic-key]", "bot [redacted:anthropic-key]")]
        assert KEY.encode() not in other.db.read_bytes()


@pytest.mark.parametrize("how", ["flag", "environment", "file"])
def test_redaction_can_be_switched_off(home, tmp_path, how):
    if how == "file":
        (home.folder / "memcli.toml").write_text("redact = false\n")
    flags = ["--no-redact"] if how == "flag" else []
    env = {"MEMCLI_REDACT": "false"} if how == "environment" else None
    path = write(tmp_path / "a.jsonl", {"content": TEXT})
    assert home.run("import", path, *flags, env=env).code == 0
    assert home.rows("SELECT content FROM memories") == [(TEXT,)]


def test_an_export_that_is_redacted_on_its_way_in_keeps_the_places_of_its_memories(stored, tmp_path, data, nursery):
    out = tmp_path / "export.jsonl"
    assert stored.run("export", "--out", out).code == 0
    other = Home(tmp_path / "other", data, nursery)
    done = other.run("import", out, "--json")
    assert done.code == 0, done.err
    assert KEY.encode() not in other.db.read_bytes()
    assert done.json["redacted"]["anthropic-key"] >= 2
    assert other.rows("SELECT count(*) FROM provenance WHERE kind = 'import'") == [(0,)]
    assert_sound(other.db)


def test_secrets_and_repair_are_two_things(home):
    assert home.run("check", "--secrets", "--repair").code == 2
