"""`memcli check` finds what is wrong, row by row, and changes nothing; a sound database passes."""

import json
import shutil
import sqlite3
import struct
from contextlib import closing

import pytest
from support_cli import ESCAPE_CODES, Home, Nursery, finish, some_chat, write_jsonl

from memcli.embed.models import default_model


@pytest.fixture(scope="module")
def nursery():
    with Nursery() as running:
        yield running


@pytest.fixture(scope="module")
def filled(nursery, tmp_path_factory):
    made = Home(tmp_path_factory.mktemp("filled"), nursery=nursery)
    path = write_jsonl(made.folder / "chat.jsonl", some_chat(90))
    assert made.run("ingest", path, "--agent", "ada", "--flush").code == 0
    assert made.run("search", "nightly build").code == 0
    return made


@pytest.fixture
def home(nursery, tmp_path, filled):
    shutil.copytree(filled.folder, tmp_path / "home")
    return Home(tmp_path / "home", nursery=nursery)


def change(home, *statements):
    with closing(sqlite3.connect(home.db)) as conn, conn:
        for statement in statements:
            conn.execute(statement)


def found(home):
    done = home.run("check", "--json")
    assert done.code == 8, done
    assert done.json["faults"] >= len([each for each in done.json["findings"] if not each["warning"]]) > 0
    return [(each["table"], each["row"]) for each in done.json["findings"]]


def test_a_sound_database_passes_and_nothing_is_changed(home):
    before = home.db.read_bytes(), sorted(home.folder.iterdir())
    done = home.run("check", "--json")
    assert (done.code, done.json["faults"], done.json["warnings"], done.json["findings"]) == (0, 0, 0, [])
    assert done.json["rows"]["messages"] == 90
    assert (home.db.read_bytes(), sorted(home.folder.iterdir())) == before


CHAIN = (
    "INSERT INTO merges (loser_id, winner_id, kind, cosine, overlap, gates_passed, gate_version, run_id, created_at)"
    " SELECT winner_id, 2, 'near', 1, 1, '[]', '1', 1, created_at FROM merges WHERE winner_id <> 2 LIMIT 1"
)
UNWORDED = (
    "INSERT INTO memories_fts (memories_fts, rowid, content) SELECT 'delete', id, content FROM memories WHERE id = 2"
)
DAMAGE = {
    "text of a message": ("messages", 3, "UPDATE messages SET text = replace(text, ' ', '  ') WHERE id = 3"),
    "role of a message": ("messages", 3, "UPDATE messages SET role = 'system' WHERE id = 3"),
    "reason of a message": ("messages", 3, "UPDATE messages SET filter_reason = 'role' WHERE id = 3"),
    "white space of a memory": ("memories", 2, "UPDATE memories SET content = content || ' ' WHERE id = 2"),
    "importance of a memory": ("memories", 2, "UPDATE memories SET importance = importance / 2 WHERE id = 2"),
    "lost row of a message": ("provenance", None, "DELETE FROM messages WHERE id = 1"),
    "memory without provenance": ("memories", 2, "DELETE FROM provenance WHERE memory_id = 2"),
    "span of a source": ("provenance", None, "UPDATE provenance SET start = start + 1 WHERE memory_id = 2"),
    "tag that no session has": ("memory_tags", "memory 2", "INSERT INTO memory_tags VALUES (2, 'project:x', 1.0)"),
    "chain of merges": ("merges", None, CHAIN),
    "words that are missing": ("memories_fts", 2, UNWORDED),
    "words of other text": (
        "memories_fts",
        2,
        UNWORDED,
        "INSERT INTO memories_fts (rowid, content) SELECT id, content || ' zebra' FROM memories WHERE id = 2",
    ),
    "kind of a value": ("batches", 1, "UPDATE batches SET messages_in = 'many' WHERE id = 1"),
    "list of a window": ("windows", 1, "UPDATE windows SET source_message_ids = '[1, 2' WHERE id = 1"),
    "memory without a vector": ("memories", None, "DELETE FROM segments WHERE id = 1"),
    "vectors of another model": ("memories", None, "UPDATE segments SET model_id = 'f' || substr(model_id, 2)"),
    "segment's range": ("segments", 1, "UPDATE segments SET last_memory_id = last_memory_id - 1 WHERE id = 1"),
    "count of the cache": ("search_cache_use", "answer", "UPDATE search_cache_use SET entries = entries + 1"),
    "answer of the cache": (
        "search_cache",
        None,
        "UPDATE search_cache SET value = CAST(replace(CAST(value AS TEXT), '1', '2') AS BLOB) WHERE kind = 'answer'",
    ),
    "setting": ("meta", "generation", "UPDATE meta SET key = 'generatiom' WHERE key = 'generation'"),
    "key of a session": ("sessions", 1, "UPDATE sessions SET key = key || 'x' WHERE id = 1"),
    "index of a table": ("messages", None, "DROP INDEX messages_kept"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_told_by_table_and_row_with_what_to_do(home, name):
    table, row, *statements = DAMAGE[name]
    change(home, *statements)
    places = found(home)
    assert any(place[0] == table and row in {None, place[1]} for place in places), places


def test_a_definition_that_says_something_else_is_refused_as_foreign(home):
    change(
        home,
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_master SET sql = replace(sql, 'IS NULL', 'IS NOT NULL') WHERE name = 'messages_kept'",
    )
    for command in (["check"], ["check", "--repair"], ["stats"]):
        done = home.run(*command)
        assert (done.code, done.out) == (6, ""), done
        assert "its index messages_kept is not as memcli made it" in done.err
        assert "restore a backup" in done.err


def test_faults_and_what_to_do_fit_into_80_columns(home):
    for name in ("text of a message", "words of other text", "memory without a vector"):
        change(home, *DAMAGE[name][2:])
    done = home.on_terminal("check")
    assert done.code == 8
    assert all(len(ESCAPE_CODES.sub("", line)) <= 80 for line in done.out.splitlines() if str(home.db) not in line)
    for told in ("fault    messages 3: ", "fault    memories_fts 2: ", "restore a backup", "memcli check --repair"):
        assert told in done.out


def test_a_definition_that_says_something_else_is_refused_by_name(home):
    change(
        home,
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_master SET sql = replace(sql, 'IS NULL', 'IS NOT NULL') WHERE name = 'messages_kept'",
    )
    done = home.run("check")
    assert done.code == 6, done
    assert "index messages_kept" in " ".join(done.err.split())


@pytest.mark.parametrize(
    ("definition", "place"), [(b"CREATE INDEX messages_session", 20), (b"'semantic', 'episodic'", 3)]
)
def test_a_definition_that_is_no_text_any_more_ends_each_command(home, definition, place):
    raw = bytearray(home.db.read_bytes())
    raw[raw.find(definition) + place] = 0xB0
    home.db.write_bytes(raw)
    for command in ("check", "dedup", "stats"):
        done = home.run(command)
        assert (done.code, "is damaged" in " ".join((done.out + done.err).split())) == (8, True), done


def test_a_rule_that_another_program_has_changed_is_told_and_an_edit_signs_it_anew(home):
    assert home.run("rules", "add", "kettle", "--name", "early").code == 0
    change(home, "UPDATE rules SET importance = 0.1")
    done = home.run("check", "--json")
    assert done.code == 8
    ((table, hint),) = [(each["table"], each["todo"]) for each in done.json["findings"]]
    assert (table, "memcli rules edit" in hint) == ("rules", True)
    assert home.run("rules", "edit", "early", "--importance", "0.9").code == 0
    assert home.run("check").code == 0


THE_USERS = (
    "CREATE TABLE notes (id INTEGER PRIMARY KEY, memory INTEGER REFERENCES memories (id), at TEXT, tag VARCHAR(9))",
    "INSERT INTO notes VALUES (7, 4711, 'yesterday', 'x')",
    'CREATE TABLE "what\'s ""else" (a, b)',
    'INSERT INTO "what\'s ""else" VALUES (x\'ff\', 1)',
    "CREATE INDEX notes_tag ON notes (tag)",
)


def test_what_stands_in_tables_of_the_users_own_is_no_fault(home):
    change(home, *THE_USERS)
    done = home.run("check", "--json")
    assert (done.code, done.json["findings"]) == (0, [])
    assert home.run("forget", 1, "--yes").code == 0


def test_a_hundred_faults_are_counted_and_twenty_told(home):
    change(home, "UPDATE messages SET text = text || '!'")
    document = home.run("check", "--json").json
    assert document["more"]["messages"] == 70
    assert len([each for each in document["findings"] if each["table"] == "messages"]) == 20


def test_a_transcript_shorter_than_its_cursor_is_a_warning(home):
    chat = home.folder / "chat.jsonl"
    change(home, f"UPDATE files SET path = '{chat}'")
    chat.write_bytes(chat.read_bytes()[:1000])
    done = home.run("check", "--json")
    assert (done.code, done.json["warnings"], done.json["findings"][0]["table"]) == (0, 1, "files")


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "card.json", "calibration.json"])
def test_a_changed_model_file_is_found(home, name):
    copy = home.data / "models" / default_model().model_id / name
    raw = bytearray(copy.read_bytes())
    # Within a figure, so that a JSON file stays one.
    place = raw.index(b"0.") + 2 if name == "calibration.json" else len(raw) // 2
    while name.endswith(".json") and not chr(raw[place]).isalnum():
        place += 1
    raw[place] ^= 1
    copy.write_bytes(raw)
    assert ("model", str(copy.parent)) in found(home)


def test_a_flipped_bit_of_the_log_is_found(home):
    """The commits behind it are lost, and their cursors with them; a later ingest reads them again."""
    with closing(sqlite3.connect(home.db)) as conn:
        conn.execute("PRAGMA wal_autocheckpoint = 0")
        for _ in range(3):
            with conn:
                conn.execute("UPDATE meta SET value = value + 1 WHERE key = 'generation'")
        log = home.db.with_name("memory.db-wal")
        raw = log.read_bytes()
        shutil.copy(home.db, home.folder / "kept.db")
    home.db.write_bytes((home.folder / "kept.db").read_bytes())
    log.write_bytes(raw)
    assert home.run("check").code == 0
    page = struct.unpack(">I", raw[8:12])[0]
    for place in (5, 30, 32 + 24 + page // 2, 32 + 10):
        damaged = bytearray(raw)
        damaged[place] ^= 16
        log.write_bytes(damaged)
        assert ("", "memory.db-wal") in found(home), place
    log.write_bytes(raw[:-100])
    done = home.run("check", "--json")
    assert (done.code, done.json["warnings"]) == (0, 1), done.out


def test_the_log_is_that_of_the_file_that_a_link_points_to(home):
    link = home.folder / "elsewhere" / "other.db"
    link.parent.mkdir()
    link.symlink_to(home.db)
    home.db.with_name("memory.db-wal").write_bytes(bytes(range(200)) * 100)
    done = home.run("check", "--json", "--db", link)
    assert (done.code, done.json["findings"][0]["row"]) == (8, "memory.db-wal")


def test_it_works_where_nothing_can_be_written(home):
    home.db.chmod(0o400)
    home.folder.chmod(0o500)
    try:
        assert home.run("check").code == 0
    finally:
        home.folder.chmod(0o700)


def test_it_runs_beside_a_run_that_holds_the_lock_and_writes(home):
    path = write_jsonl(home.folder / "more.jsonl", some_chat(2000, seed=7))
    process = home.start("ingest", path, "--quiet", "--batch-size", "100")
    found = []
    while process.poll() is None:
        found.append(home.run("check", "--quiet", "--json"))
    assert finish(process).code == 0
    assert len(found) >= 2, "the run was over before a check was"
    assert {each.code for each in found} == {0}, [each.json["findings"] for each in found]


def test_no_database_and_no_memcli_database(home, tmp_path):
    assert home.run("check", "--db", tmp_path / "none.db").code == 4
    (tmp_path / "text.db").write_text("this is no database at all, it is a text that goes on and on" * 20)
    done = home.run("check", "--db", tmp_path / "text.db", "--json")
    assert (done.code, json.loads(done.out)["faults"]) == (8, 1)
    with closing(sqlite3.connect(tmp_path / "other.db")) as conn, conn:
        conn.execute("CREATE TABLE t (x)")
    assert home.run("check", "--db", tmp_path / "other.db").code == 6
