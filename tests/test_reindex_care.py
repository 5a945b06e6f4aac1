"""`memcli reindex` without a model, and --check: the index ends whole, whatever was missing, and rest costs nothing."""

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import numpy as np
import pytest
from support_cli import Home, Nursery, finish, holds_lock, powerless, some_chat, wait_for, write_jsonl
from support_ingest import assert_sound, logical


@pytest.fixture(scope="module")
def nursery():
    with Nursery() as running:
        yield running


@pytest.fixture(scope="module")
def filled(nursery, tmp_path_factory):
    """A database of many small runs, so of many small segments."""
    made = Home(tmp_path_factory.mktemp("filled"), nursery=nursery)
    chat = list(some_chat(90))
    for number in range(0, 90, 10):
        path = write_jsonl(made.folder / f"{number}.jsonl", chat[number : number + 10])
        assert made.run("ingest", path, "--agent", "ada", "--flush").code == 0
    return made


@pytest.fixture
def home(nursery, tmp_path, filled):
    shutil.copytree(filled.folder, tmp_path / "home")
    return Home(tmp_path / "home", nursery=nursery)


def change(home, *statements):
    with closing(sqlite3.connect(home.db)) as conn, conn:
        for statement in statements:
            conn.execute(statement)


def content(home):
    found = logical(home.db)
    return {name: found[name] for name in ("memories", "links", "vectors", "words", "provenance")}


def test_small_segments_become_one_and_the_memories_stay_as_they_were(home):
    before = content(home)
    assert len(home.rows("SELECT 1 FROM segments")) > 1
    report = home.run("reindex", "--json").json
    assert report["segments_before"] > report["segments"] == len(home.rows("SELECT 1 FROM segments")) == 1
    assert content(home) == before
    assert_sound(home.db)
    assert home.run("reindex", "--check").code == 0


def test_the_keyword_index_becomes_one_piece(home):
    pieces = "SELECT DISTINCT segid FROM memories_fts_idx"
    assert len(home.rows(pieces)) > 1
    assert home.run("reindex").code == 0
    assert len(home.rows(pieces)) == 1


def test_nothing_to_do_writes_nothing_and_reads_next_to_nothing(home):
    assert home.run("reindex").code == 0
    bytes_before = home.db.read_bytes()
    done = home.nursery.run(home, "reindex", "--json", trace=True)
    assert done.json["run_id"] is None
    assert home.db.read_bytes() == bytes_before
    statements = json.loads((home.folder / "trace").read_text())["before"]
    asked = [each for each in statements if each.startswith("SELECT")]
    assert not [each for each in asked if "embedded" in each or "memories_fts" in each], asked


def test_vectors_of_no_memory_are_dropped_and_lost_ones_made_again(home):
    before = content(home)
    doomed = home.rows("SELECT max(id) FROM memories WHERE embedded AND id NOT IN (SELECT winner_id FROM merges)")[0][0]
    change(
        home,
        f"UPDATE memories SET embedded = 0 WHERE id = {doomed}",
        "UPDATE meta SET value = value + 1 WHERE key = 'generation'",
    )
    report = home.run("reindex", "--json").json
    assert report["dropped"] == 1
    assert doomed not in dict(content(home)["vectors"])
    change(
        home,
        f"UPDATE memories SET embedded = 1 WHERE id = {doomed}",
        "UPDATE meta SET value = value + 1 WHERE key = 'generation'",
    )
    assert home.run("reindex", "--check").code == 8
    report = home.run("reindex", "--json").json
    assert (report["embedded"], report["words"]) == (1, 1)
    assert content(home) == before


def test_a_lost_keyword_index_is_made_again(home):
    before = content(home)
    change(
        home,
        "INSERT INTO memories_fts (memories_fts) VALUES ('delete-all')",
        "UPDATE meta SET value = value + 1 WHERE key = 'generation'",
    )
    done = home.run("reindex", "--check", "--json")
    assert done.code == 8
    assert any("keyword index" in problem for problem in done.json["problems"])
    assert home.run("reindex").code == 0
    assert content(home) == before
    assert home.run("reindex", "--check").code == 0


@pytest.mark.parametrize("column", ["vectors", "codes", "keys"])
def test_a_flipped_bit_of_a_segment_is_found(home, column):
    assert home.run("reindex").code == 0
    (segment_id, raw), *_ = home.rows(f"SELECT id, {column} FROM segments WHERE {column} IS NOT NULL")
    flipped = bytearray(raw)
    flipped[len(flipped) // 2] ^= 4
    with closing(sqlite3.connect(home.db)) as conn, conn:
        conn.execute(f"UPDATE segments SET {column} = ? WHERE id = ?", (bytes(flipped), segment_id))
    done = home.run("reindex", "--check", "--json")
    assert done.code == 8
    assert any(problem.startswith(f"segment {segment_id}: ") for problem in done.json["problems"])


@pytest.mark.parametrize("moment", ["before:25", "commit:2:3000"])
def test_a_killed_run_leaves_a_whole_index_and_is_gone_on_with(home, moment):
    before = content(home)
    assert home.nursery.run(home, "reindex", moment=f"KILL:{moment}").code < 0
    assert content(home) == before
    assert home.run("search", "nightly build").code == 0
    assert home.run("reindex").code == 0
    assert content(home) == before
    assert len(home.rows("SELECT 1 FROM segments")) == 1


def test_check_changes_nothing_and_a_dry_run_neither(home):
    before = home.rows("SELECT * FROM segments"), home.rows("SELECT * FROM runs"), home.rows("SELECT * FROM meta")
    assert home.run("reindex", "--check").code == 0
    assert home.run("reindex", "--dry-run").code == 0
    assert home.run("reindex", "--compress", "int8", "--dry-run").code == 0
    after = home.rows("SELECT * FROM segments"), home.rows("SELECT * FROM runs"), home.rows("SELECT * FROM meta")
    assert after == before


def test_two_things_at_once_are_wrong_usage(home):
    assert home.run("reindex", "--check", "--compress", "int8").code == 2
    assert home.run("reindex", "--model", "default", "--compress", "int8").code == 2
    for spec in ("pca:0", "pca:256", "pca:-1", "pca", "int4", "", "pca:999999999"):
        assert home.run("reindex", "--compress", spec).code == 2, spec
    empty = Home(home.folder / "empty", nursery=home.nursery)
    assert empty.run("reindex").code == 4
    assert empty.run("reindex", "--check").code == 4


def test_vectors_are_of_unit_length(home):
    """So that what a test of compression compares is cosines."""
    for count, dim, raw in home.rows("SELECT count, dim, vectors FROM segments"):
        rows = np.frombuffer(raw, "<f4").reshape(count, dim)
        assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_check_works_beside_a_writer(home):
    assert home.run("reindex").code == 0
    before = home.db.read_bytes()
    with closing(sqlite3.connect(home.db, isolation_level=None)) as writer, home.start("ingest", "-") as holder:
        wait_for(holds_lock(home, holder), holder)
        writer.execute("BEGIN IMMEDIATE")
        beside = home.run("reindex", "--check", "--json")
        writer.execute("ROLLBACK")
        finish(holder, b"")
    assert (beside.code, beside.json["problems"]) == (0, []), beside.err
    assert beside.json["words"] > 0
    assert home.db.read_bytes() == before


def test_check_works_on_a_file_that_may_only_be_read(home, tmp_path):
    if (prefix := powerless()) is None:
        pytest.skip("root may write everything, and there is no setpriv to take that away")
    assert home.run("reindex").code == 0
    locked = tmp_path / "locked"
    locked.mkdir()
    (locked / "memory.db").write_bytes(home.db.read_bytes())
    (locked / "memory.db").chmod(0o400)
    locked.chmod(0o500)
    command = [*prefix, sys.executable, "-m", "memcli", "reindex", "--check", "--db", str(locked / "memory.db")]
    done = subprocess.run(command, env=home.env, cwd=tmp_path, capture_output=True, text=True, check=False)
    locked.chmod(0o700)
    assert done.returncode == 0, done.stderr
    assert [each.name for each in locked.iterdir()] == ["memory.db"]


def test_check_finds_a_damaged_keyword_index_without_writing(home):
    assert home.run("reindex").code == 0
    (row, block), *_ = home.rows("SELECT id, block FROM memories_fts_data WHERE id > 10 ORDER BY length(block) DESC")
    with closing(sqlite3.connect(home.db)) as conn, conn:
        conn.execute("UPDATE memories_fts_data SET block = ? WHERE id = ?", (block[:40] + b"\1" * 9 + block[49:], row))
    done = home.run("reindex", "--check", "--json")
    assert done.code == 8
    assert "the keyword index is damaged" in done.json["problems"]
