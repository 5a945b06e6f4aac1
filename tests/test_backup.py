"""`memcli backup`: a whole, verified copy for its owner only, or no file at all."""

import os
import resource
import shutil
import sqlite3
import stat
from contextlib import closing

import pytest
from support_cli import Home, Nursery, finish, some_chat, wait_for, write_jsonl
from support_ingest import assert_same, assert_sound


@pytest.fixture(scope="module")
def nursery():
    with Nursery() as running:
        yield running


@pytest.fixture(scope="module")
def filled(nursery, tmp_path_factory):
    made = Home(tmp_path_factory.mktemp("filled"), nursery=nursery)
    path = write_jsonl(made.folder / "chat.jsonl", some_chat(90))
    assert made.run("ingest", path, "--agent", "ada", "--flush").code == 0
    return made


@pytest.fixture
def home(nursery, tmp_path, filled):
    shutil.copytree(filled.folder, tmp_path / "home")
    return Home(tmp_path / "home", nursery=nursery)


def left(home):
    """Files of backups that are not there under their own name."""
    return [path.name for path in home.folder.iterdir() if path.name.startswith((".copy", "copy.db-"))]


def test_the_copy_is_the_database_and_for_its_owner_only(home):
    os.umask(0)
    done = home.run("backup", "copy.db", "--json")
    assert done.code == 0, done
    copy = home.folder / "copy.db"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert_same(home.db, copy)
    assert done.json["size"] == copy.stat().st_size
    assert home.run("check", "--db", copy).code == 0
    assert home.run("ingest", home.folder / "chat.jsonl", "--agent", "ada", "--db", copy).code == 0
    assert not left(home)


def test_a_file_that_is_there_is_replaced_only_when_asked(home):
    copy = home.folder / "copy.db"
    copy.write_text("precious")
    done = home.run("backup", copy)
    assert (done.code, "--force" in done.err, copy.read_text()) == (2, True, "precious")
    assert home.run("backup", copy, "--force").code == 0
    assert_same(home.db, copy)


@pytest.mark.parametrize("target", ["memory.db", ".", "nowhere/copy.db", "link.db", "pipe"])
def test_places_where_no_copy_may_go(home, target):
    before = home.db.read_bytes()
    (home.folder / "link.db").symlink_to(home.db)
    os.mkfifo(home.folder / "pipe")
    assert home.run("backup", target, "--force").code == 2
    assert home.db.read_bytes() == before


def test_a_database_in_use_is_not_replaced(home):
    """SQLite would take its log for that of the copy."""
    assert home.run("backup", "copy.db").code == 0
    with closing(sqlite3.connect(home.folder / "copy.db")) as conn:
        conn.execute("UPDATE meta SET value = value + 1 WHERE key = 'generation'")
        conn.commit()
        done = home.run("backup", "copy.db", "--force")
        assert (done.code, "log" in done.err) == (2, True), done


def test_it_copies_what_cannot_be_written(home, tmp_path):
    home.db.chmod(0o400)
    home.folder.chmod(0o500)
    try:
        assert home.run("backup", tmp_path / "copy.db").code == 0
    finally:
        home.folder.chmod(0o700)
    assert_same(home.db, tmp_path / "copy.db")


def test_copies_beside_a_writer_are_each_of_one_commit(home):
    path = write_jsonl(home.folder / "more.jsonl", some_chat(2000, seed=7))
    process = home.start("ingest", path, "--quiet", "--batch-size", "100")
    generations = []
    while process.poll() is None:
        done = home.run("backup", "copy.db", "--force", "--json")
        assert done.code == 0, done
        generations.append(done.json["generation"])
        assert_sound(home.folder / "copy.db")
    assert finish(process).code == 0
    assert len(set(generations)) >= 2, "the run was over before a copy was"


def test_a_full_disk_leaves_no_file(home):
    size = home.db.stat().st_size // 2
    done = finish(
        home.start("backup", "copy.db", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)))
    )
    assert (done.code, "cannot write" in done.err) == (2, True), done
    assert not (home.folder / "copy.db").exists()
    assert not left(home)


def test_a_killed_one_leaves_no_copy_and_harms_nothing(home):
    path = write_jsonl(home.folder / "more.jsonl", some_chat(2000, seed=7))
    assert home.run("ingest", path, "--quiet").code == 0
    process = home.start("backup", "copy.db")
    wait_for(lambda: left(home) or (home.folder / "copy.db").exists(), process)
    process.kill()
    process.wait()
    assert home.run("backup", "copy.db", "--force").code == 0
    assert_same(home.db, home.folder / "copy.db")


def test_a_damaged_database_gives_no_copy_unless_one_is_asked_for(home):
    raw = bytearray(home.db.read_bytes())
    with closing(sqlite3.connect(home.db)) as conn:
        root = conn.execute("SELECT rootpage FROM sqlite_master WHERE name = 'provenance'").fetchone()[0]
    raw[(root - 1) * 8192 : (root - 1) * 8192 + 8] = b"\xff" * 8
    home.db.write_bytes(raw)
    done = home.run("backup", "copy.db")
    assert (done.code, (home.folder / "copy.db").exists(), left(home)) == (8, False, []), done
    assert home.run("backup", "copy.db", "--even-damaged").code == 0
    assert (home.folder / "copy.db").stat().st_size == len(raw)


def test_no_database_gives_no_file(home):
    assert home.run("backup", "copy.db", "--db", home.folder / "none.db").code == 4
    assert not (home.folder / "copy.db").exists()
