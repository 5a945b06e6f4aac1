"""`memcli check --repair` makes again what follows from the rest, and touches nothing else."""

import shutil
import sqlite3
from contextlib import closing

import pytest
from support_cli import Home, Nursery, some_chat, write_jsonl
from support_ingest import assert_sound, logical
from test_check import THE_USERS, UNWORDED, change

from memcli.store.db import quoted

PAGE = 8192


@pytest.fixture(scope="module")
def nursery():
    with Nursery() as running:
        yield running


@pytest.fixture(scope="module")
def filled(nursery, tmp_path_factory):
    made = Home(tmp_path_factory.mktemp("filled"), nursery=nursery)
    path = write_jsonl(made.folder / "chat.jsonl", some_chat(90))
    assert made.run("ingest", path, "--agent", "ada", "--flush").code == 0
    assert made.run("reindex").code == 0  # merge keys are stored with the next commit
    assert made.run("search", "nightly build").code == 0
    return made


@pytest.fixture
def home(nursery, tmp_path, filled):
    shutil.copytree(filled.folder, tmp_path / "home")
    return Home(tmp_path / "home", nursery=nursery)


def flip(home, table, column, place=0.5):
    """Flip a bit of a BLOB or text where it is on the disk, behind SQLite's back."""
    ((value,),) = home.rows(f"SELECT CAST({column} AS BLOB) FROM {table} ORDER BY length({column}) DESC LIMIT 1")
    raw = bytearray(home.db.read_bytes())
    size = min(len(value), 64)
    begin = int((len(value) - size) * place)
    found = raw.find(value[begin : begin + size])
    assert found >= 0, "it is on two pages"
    raw[found + size // 2] ^= 4
    home.db.write_bytes(raw)


def wreck(home, name):
    """Overwrite the header of the first page of a table or an index."""
    ((root,),) = home.rows("SELECT rootpage FROM sqlite_master WHERE name = ?", name)
    raw = bytearray(home.db.read_bytes())
    raw[(root - 1) * PAGE : (root - 1) * PAGE + 12] = b"\xee" * 12
    home.db.write_bytes(raw)


def tables(home):
    """Everything that nobody can make again, row by row."""
    derived = {"segments", "search_cache", "search_cache_use", "memory_tags", "runs", "meta"}
    names = home.rows("SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0")
    return {
        name: sorted(home.rows(f"SELECT * FROM {quoted(name)} NOT INDEXED"), key=repr)
        for (name,) in names
        if name not in derived and not name.startswith(("memories_fts", "sqlite_", "_sqlite"))
    }


DAMAGE = {
    "codes": lambda home: flip(home, "segments", "codes"),
    "keys": lambda home: flip(home, "segments", "keys"),
    "vectors": lambda home: flip(home, "segments", "vectors"),
    "segments gone": lambda home: change(home, "DELETE FROM segments"),
    "segment of nobody": lambda home: change(home, "UPDATE segments SET agent_id = 'eve'"),
    "range of a segment": lambda home: change(home, "UPDATE segments SET first_memory_id = 3, count = 2"),
    "words gone": lambda home: change(home, UNWORDED),
    "words of nothing": lambda home: change(
        home, "INSERT INTO memories_fts (rowid, content) VALUES (999, 'zebra crossing')"
    ),
    "page of keywords": lambda home: wreck(home, "memories_fts_data"),
    "page of segments": lambda home: wreck(home, "segments"),
    "page of an index": lambda home: wreck(home, "messages_kept"),
    "page of a key's index": lambda home: wreck(home, "sqlite_autoindex_messages_1"),
    "page of tags": lambda home: wreck(home, "memory_tags"),
    "page of the cache": lambda home: wreck(home, "search_cache"),
    "tags": lambda home: change(
        home, "DELETE FROM memory_tags", "INSERT INTO memory_tags VALUES (2, 'project:nowhere', 1.0)"
    ),
    "kinds of counts": lambda home: change(home, "UPDATE search_cache_use SET kind = 'answeq' WHERE kind = 'answer'"),
    "counts": lambda home: change(home, "UPDATE search_cache_use SET entries = 77"),
}


RARE = ("keys", "segments gone", "words gone", "page of an index", "page of the cache", "tags", "counts")
LONG = [pytest.param(name, marks=pytest.mark.torture) if name in RARE else name for name in DAMAGE]


@pytest.mark.parametrize("name", LONG)
def test_what_is_derived_is_made_again_and_the_rest_is_as_it_was(home, name):
    before, rows = logical(home.db), tables(home)
    DAMAGE[name](home)
    assert home.run("check").code == 8
    done = home.run("check", "--repair", "--json")
    assert done.code == 0, done
    assert done.json["faults_before"] > done.json["after"]["faults"] == 0
    assert done.json["done"] or "counts" in name
    assert tables(home) == rows
    assert logical(home.db) == before
    assert_sound(home.db)
    embeds = name in {"vectors", "segments gone", "page of segments"}
    assert (done.json["embedded"] > 0) == embeds, done.json["done"]
    assert home.run("search", "nightly build").code == 0
    assert home.run("check").code == 0


def test_tables_of_the_users_own_survive_new_pages(home):
    change(home, *THE_USERS)
    theirs = "SELECT name FROM sqlite_master WHERE name GLOB 'notes*' OR name GLOB 'what*' ORDER BY name"
    before = tables(home), home.rows(theirs)
    assert len(before[1]) == 3
    wreck(home, "messages_kept")
    done = home.run("check", "--repair")
    assert done.code == 0, done
    assert "written anew" in done.out
    assert (tables(home), home.rows(theirs)) == before


def test_what_cannot_be_made_again_is_left_alone_and_told(home):
    change(home, "DELETE FROM segments", "UPDATE messages SET text = text || '!' WHERE id = 3")
    rows = tables(home)
    done = home.run("check", "--repair", "--json")
    assert done.code == 8
    assert [(each["table"], each["row"]) for each in done.json["after"]["findings"]] == [("messages", 3)]
    assert "restore a backup" in done.json["after"]["findings"][0]["todo"]
    assert tables(home) == rows
    assert done.json["embedded"] > 0


def test_a_page_of_messages_is_beyond_repair_and_nothing_is_made_worse(home):
    wreck(home, "messages")
    before = home.db.read_bytes()
    done = home.run("check", "--repair", "--json")
    assert done.code == 8
    assert any("left as they are" in each for each in done.json["done"]), done.json
    ((root,),) = home.rows("SELECT rootpage FROM sqlite_master WHERE name = 'messages'")
    place = slice((root - 1) * PAGE, root * PAGE)
    assert home.db.read_bytes()[place] == before[place]


def test_a_damaged_model_embeds_nothing(home):
    (model,) = (home.data / "models").iterdir()
    raw = bytearray((model / "tokenizer.json").read_bytes())
    raw[len(raw) // 2] ^= 1
    (model / "tokenizer.json").write_bytes(raw)
    change(home, "DELETE FROM segments")
    done = home.run("check", "--repair", "--json")
    assert (done.code, done.json["embedded"]) == (8, 0)
    assert {each["table"] for each in done.json["after"]["findings"]} == {"model", "memories"}


def test_nothing_to_repair_writes_nothing(home):
    before = home.db.read_bytes()
    assert home.run("check", "--repair").code == 0
    assert home.db.read_bytes() == before


def test_a_dry_run_tells_the_same_and_changes_nothing(home):
    change(home, "DELETE FROM segments", UNWORDED)
    before = home.db.read_bytes()
    done = home.run("check", "--repair", "--dry-run", "--json")
    assert (done.code, done.json["after"]["faults"], home.db.read_bytes() == before) == (0, 0, True), done
    assert home.run("check", "--dry-run").code == 2


@pytest.mark.parametrize("moment", ["before:60", "commit:2:2000"])
def test_a_killed_repair_is_gone_on_with(home, moment):
    before = logical(home.db)
    change(home, "DELETE FROM segments", UNWORDED)
    home.nursery.run(home, "check", "--repair", moment=f"KILL:{moment}")
    assert home.run("check", "--repair").code == 0
    assert logical(home.db) == before
    assert home.run("check").code == 0


def test_only_one_works_at_a_time(home):
    change(home, "DELETE FROM segments")
    path = write_jsonl(home.folder / "more.jsonl", some_chat(3000, seed=7))
    with home.start("ingest", path, "--quiet") as process:
        while (
            not home.db.with_name("memory.db.lock").read_text().startswith("memcli ingest, process " + str(process.pid))
        ):
            assert process.poll() is None
        assert home.run("check", "--repair").code == 5
        process.kill()


def test_the_log_of_a_killed_run_is_taken_over(home):
    with closing(sqlite3.connect(home.db)) as conn:
        conn.execute("PRAGMA wal_autocheckpoint = 0")
        with conn:
            conn.execute("UPDATE meta SET value = value + 1 WHERE key = 'generation'")
        raw, kept = home.db.with_name("memory.db-wal").read_bytes(), home.db.read_bytes()
    home.db.write_bytes(kept)
    home.db.with_name("memory.db-wal").write_bytes(raw[:40] + b"\xff" + raw[41:] + raw[32:])
    assert home.run("check").code == 8
    assert home.run("check", "--repair").code == 0
    assert home.run("check").code == 0
