"""No room, no rights, no file, no memory, another clock: a clear error, nothing lost, and a re-run that completes."""

import hashlib
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest
from support_cli import Home, finish, some_chat, wait_for, write_jsonl
from support_crash import assert_as_whole, everything
from support_faults import MEGA, assert_clear, hangs_up, limited, run, with_clock, without_rights

from memcli.cli.faults import meant
from memcli.errors import DamagedError, UsageError

BATCH = ("--batch-size", "16")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def chat(folder):
    return write_jsonl(folder / "in" / "chat.jsonl", some_chat(120))


@pytest.fixture(scope="module")
def command(chat):
    return ("ingest", chat, *BATCH, "--flush")


@pytest.fixture(scope="module")
def whole(folder, data, command, nursery):
    """What the database says after a run that nothing disturbed."""
    home = Home(folder / "whole", data, nursery)
    assert home.run(*command).code == 0
    home.content = everything(home.db)
    return home


def completes(home, command, whole):
    done = home.run(*command)
    assert done.code == 0, done.err
    assert_as_whole(home, whole.content, "after the fault")


def messages(db):
    with closing(sqlite3.connect(f"{db.as_uri()}?mode=ro", uri=True)) as conn:
        return conn.execute("SELECT count(*) FROM messages").fetchone()[0]


# --- no room ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "kept"), [(100_000, False), (1_500_000, True)])
def test_a_file_that_may_not_grow_any_more(home, command, whole, size, kept):
    done = run(home, *command, prepare=limited(resource.RLIMIT_FSIZE, size))
    assert_clear(done, 2, str(home.db), "check the disk")
    if kept:
        assert 0 < messages(home.db) < 120
    completes(home, command, whole)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MB, where the machine lets us have one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() or mount is None:
        pytest.skip("only root may mount a disk")
    if subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "none", place], check=False).returncode:
        pytest.skip("no disk can be mounted here")
    yield place
    subprocess.run([shutil.which("umount"), "-l", place], check=True)


def test_a_full_disk(home, small_disk, command, whole):
    home.db = small_disk / "memory.db"
    home.env["MEMCLI_DB"] = str(home.db)
    done = run(home, *command)
    assert_clear(done, 2, str(home.db), "check the disk")
    subprocess.run([shutil.which("mount"), "-o", "remount,size=64m", small_disk], check=True)
    completes(home, command, whole)


@pytest.mark.parametrize("words", [("rules", "export", "kept"), ("export", "--out", "kept")])
def test_a_file_that_finds_no_room_does_not_take_the_former_one_with_it(home, whole, words):
    shutil.copy(whole.db, home.db)
    rules = {"rules": [{"name": f"rule {number}", "pattern": f"kettle {number}"} for number in range(900)]}
    (home.folder / "rules.json").write_text(json.dumps(rules))
    assert home.run("rules", "import", "rules.json").code == 0
    with closing(sqlite3.connect(home.db)) as conn:
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    kept = home.folder / "kept"
    kept.write_text("the former")
    kinds = ("--format", "toml" if words[0] == "rules" else "jsonl")
    # SQLite needs 32 KiB for the index of its log, even to read; Python would keep half of a module that it compiles.
    env = home.env | {"PYTHONDONTWRITEBYTECODE": "1"}
    done = run(home, *words, *kinds, prepare=limited(resource.RLIMIT_FSIZE, 33_000), env=env)
    assert_clear(done, 2, kept.name, "name another")
    assert [(path.name, path.read_text()) for path in home.folder.glob("*kept*")] == [("kept", "the former")]


@pytest.mark.parametrize("words", [("search", "tea"), ("search", "tea", "--json"), ("export",), ("--help",)])
def test_what_reads_is_told_when_its_output_finds_no_room(whole, words):
    with Path("/dev/full").open("wb") as full:
        done = run(whole, *words, stdout=full)
    assert_clear(done, 2, "cannot write the output", "make room")


# --- no rights -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_may_only_be_read_is_searched_and_not_written(home, whole, command, tmp_path, what):
    shutil.copy(whole.db, home.db)
    with closing(sqlite3.connect(home.db)) as conn:
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    more = write_jsonl(tmp_path / "more.jsonl", some_chat(20, seed=9))
    sealed = home.db if what == "file" else home.folder
    mode = sealed.stat().st_mode & 0o777
    sealed.chmod(0o400 if what == "file" else 0o500)
    before = home.db.read_bytes()
    try:
        done = run(home, "ingest", more, prepare=without_rights)
        assert_clear(done, 2, str(home.db), "--db")
        assert run(home, "search", "tea", prepare=without_rights).code == 0
    finally:
        sealed.chmod(mode)
    assert home.db.read_bytes() == before
    completes(home, command, whole)


@pytest.mark.parametrize("wait", [(), ("--wait", "60")])
def test_a_folder_in_which_no_file_can_be_is_not_taken_for_a_busy_one(home, chat, wait):
    began = time.monotonic()
    done = run(home, "ingest", chat, "--db", "/proc/memory.db", *wait)
    assert_clear(done, 2, "/proc/memory.db", "name another with --db")
    assert time.monotonic() - began < 30, "there is nobody to wait for"


# --- the file goes away ----------------------------------------------------------------------------------------------


def going_on(home, chat, change):
    """An ingest of stdin, whose file is `change`d once it has committed something; how it ended."""
    lines = chat.read_bytes().splitlines(keepends=True)
    with home.start("ingest", "-", "--batch-size", "1", "--verbose") as process:
        process.stdin.write(b"".join(lines[:3]))
        process.stdin.flush()
        while b"batch 1: commit" not in process.stderr.readline():
            assert process.poll() is None
        change()
        return finish(process, b"".join(lines[3:20]))


def last_words(done):
    """The error at the end, without the lines of --verbose."""
    lines = done.err.splitlines()
    assert len(lines) >= 2
    return type(done)(done.code, done.out, "\n".join(line for line in lines if ": batch" not in line) + "\n")


def test_a_database_that_is_deleted_meanwhile(home, chat, command, whole):
    done = going_on(home, chat, home.db.unlink)
    assert_clear(last_words(done), 4, str(home.db), "deleted or moved away", "run the command again")
    completes(home, command, whole)


def test_a_database_that_is_moved_away_meanwhile_takes_all_with_it_that_was_committed(home, chat, command, whole):
    away = home.folder / "away.db"
    done = going_on(home, chat, lambda: home.db.rename(away))
    assert_clear(last_words(done), 4, str(home.db), "deleted or moved away", "put it back")
    assert messages(away) > 0
    assert not home.db.exists()
    away.rename(home.db)
    assert home.run(*command).code == 0
    assert messages(home.db) == messages(whole.db)


def test_a_database_that_is_replaced_meanwhile_is_not_written_to(home, chat, command, whole, tmp_path):
    other, away = tmp_path / "other.db", home.folder / "away.db"
    with closing(sqlite3.connect(whole.db)) as source, closing(sqlite3.connect(other)) as copy:
        source.backup(copy)
    digest = hashlib.sha256(other.read_bytes()).digest()

    def replace():
        home.db.rename(away)
        other.rename(home.db)

    done = going_on(home, chat, replace)
    assert_clear(last_words(done), 6, str(home.db), "replaced by another file", "run the command again")
    log = home.db.with_name("memory.db-wal")
    assert not log.exists() or not log.stat().st_size, "pages of the former file would be taken for the new one's"
    assert hashlib.sha256(home.db.read_bytes()).digest() == digest
    assert messages(away) > 0
    completes(home, command, whole)


def test_a_log_that_is_deleted_meanwhile_takes_nothing_with_it(home, chat, command):
    done = going_on(home, chat, home.db.with_name("memory.db-wal").unlink)
    assert_clear(last_words(done), 6, "memory.db-wal", "deleted or replaced", "run the command again")
    assert messages(home.db) > 0
    assert home.rows("PRAGMA integrity_check") == [("ok",)]
    assert home.run(*command).code == 0


# --- another clock ---------------------------------------------------------------------------------------------------


def test_a_clock_that_goes_back_changes_nothing(home, chat, command, whole, tmp_path):
    part = tmp_path / "in" / "chat.jsonl"
    write_jsonl(part, some_chat(50))
    home.run("ingest", chat, "--limit", "40", *BATCH)
    assert home.rows("SELECT count(*) FROM messages")[0][0] < 120
    for days in (-400, -1):
        done = run(home, *command, env=with_clock(home, tmp_path / "clock", 86_400 * days))
        assert done.code == 0, done.err
        began = home.rows("SELECT started_at FROM runs ORDER BY id")
        assert days != -400 or began[-1] < began[0], "the clock did go back"
    assert_as_whole(home, whole.content, "after the clock went back")
    for words in (("search", "tea"), ("dedup",), ("stats",), ("reindex",)):
        done = run(home, *words, env=with_clock(home, tmp_path / "clock", -86_400 * 500))
        assert done.code == 0, done.err


# --- no memory -------------------------------------------------------------------------------------------------------


def test_out_of_memory_is_an_error_and_nothing_is_lost(home, command, whole):
    failed = []
    for size in (120, 200, 230, 255, 270):
        done = run(home, *command, prepare=limited(resource.RLIMIT_AS, size * MEGA))
        if done.code == 0:
            break
        assert_clear(done, 2, "out of memory", "ulimit -v")
        failed.append(size)
    assert len(failed) > 1, "the limits were none"
    completes(home, command, whole)


def test_what_lacks_memory_is_not_taken_for_a_damaged_model():
    damaged = DamagedError("model.onnx: the graph fails", "import the model again")
    damaged.__cause__ = RuntimeError("Exception during initialization: std::bad_alloc")
    assert isinstance(meant(damaged), UsageError)
    assert "out of memory" in meant(damaged).message
    assert meant(DamagedError("model.onnx: the graph fails")) is None
    assert meant(ValueError("1")) is None


# --- signals and streams ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SIGHUP", "SIGTERM", "SIGINT"])
def test_a_signal_ends_a_run_with_its_progress_kept(home, chat, command, name):
    def send():
        signalled.send_signal(getattr(signal, name))

    with home.start("ingest", "-", "--batch-size", "1", "--verbose", preexec_fn=hangs_up) as signalled:
        signalled.stdin.write(b"".join(chat.read_bytes().splitlines(keepends=True)[:3]))
        signalled.stdin.flush()
        while b"batch 1: commit" not in signalled.stderr.readline():
            assert signalled.poll() is None
        send()
        done = finish(signalled)
    assert_clear(last_words(done), 130, f"interrupted ({name})", "run it again")
    assert messages(home.db) > 0
    assert home.run(*command).code == 0


def test_under_nohup_the_end_of_the_terminal_ends_nothing(home, command, whole):
    with home.start(*command, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) as process:
        wait_for(home.db.exists, process)
        process.send_signal(signal.SIGHUP)
        assert finish(process, b"").code == 0
    assert_as_whole(home, whole.content, "under nohup")


@pytest.mark.parametrize("words", [("search", "tea", "-k", "100"), ("export",), ("stats",), ("--help",)])
def test_whoever_reads_no_more_of_the_output_ends_it_without_a_word(whole, words):
    with whole.start(*words) as process:
        process.stdout.read(1)
        process.stdout.close()
        process.stdout = None
        done = finish(process)
    assert (done.code, done.err) == (0, "")


def test_a_run_whose_messages_nobody_reads_goes_on_to_its_end(home, command, whole):
    with home.start(*command, "--verbose", "--json") as process:
        process.stderr.read(1)
        process.stderr.close()
        process.stdout.close()
        process.stdin.close()
        assert process.wait(timeout=60) == 0
    assert_as_whole(home, whole.content, "unread")


@pytest.mark.parametrize("closed", [(2,), (1,), (0, 1, 2)])
def test_a_run_with_closed_streams_writes_its_messages_into_no_file(home, command, whole, closed):
    def close():
        for number in closed:
            os.close(number)

    streams = dict.fromkeys(("stdout", "stderr"), subprocess.DEVNULL)
    done = run(home, *command, "--verbose", prepare=close, **streams)
    assert done.code == 0
    assert_as_whole(home, whole.content, "closed streams")
    lock = home.db.with_name("memory.db.lock").read_text()
    assert "batch" not in lock
    assert run(home, "ingest", "nowhere", prepare=close, **streams).code == 2
