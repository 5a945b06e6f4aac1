"""Every failure has its exit code and says what is wrong, where, and what to do next; none of them is a traceback."""

import hashlib
import os
import shlex
import shutil
import sqlite3
from contextlib import closing

import pytest
from support_cli import FIXTURES, UNSAFE, finish, holds_lock, wait_for

from memcli import errors
from memcli.errors import EXIT_CODES, MemcliError


def _refused(done, code, *says):
    """The run ended with `code`, said all of `says` on stderr, and nothing else happened."""
    assert done.code == code, done.err
    assert done.out == ""
    for text in says:
        assert text in done.err, done.err
    assert "Traceback" not in done.err
    assert "unexpected fault" not in done.err
    assert not UNSAFE.search(done.err)


# --- the table -------------------------------------------------------------------------------------------------------


def _classes(parent=MemcliError):
    for each in parent.__subclasses__():
        yield each
        yield from _classes(each)


def test_there_is_one_error_class_for_each_exit_code_of_the_table():
    codes = [each.exit_code for each in (MemcliError, *_classes()) if each.__module__ == errors.__name__]
    assert sorted(codes) == sorted(EXIT_CODES.keys() - {0})
    assert EXIT_CODES.keys() == {0, 1, 2, 3, 4, 5, 6, 7, 8, 130}


# --- 2: wrong usage --------------------------------------------------------------------------------------------------


def test_a_path_that_is_not_there(home, tmp_path):
    _refused(home.run("ingest", tmp_path / "nowhere"), 2, f"no such file or folder: {tmp_path / 'nowhere'}", "stdin")
    assert not home.db.exists()


def test_an_unknown_option_names_the_nearest(home, tea):
    _refused(home.run("ingest", tea, "--dryrun"), 2, "--dryrun", "--dry-run")
    _refused(home.run("serch", "x"), 2, "serch", "search")


WRONG_VALUES = {
    "an unknown format": (["--format", "claude"], ["format 'claude'", "claude-code", "flat"]),
    "a map without fields": (["--map", "role"], ["--map", "role", "="]),
    "a map of an unknown field": (["--map", "rolle=author"], ["rolle", "role"]),
    "a map for another format": (["--map", "role=author", "--format", "claude-code"], ["--map", "flat", "claude-code"]),
    "a date that is none": (["--since", "yesterdayish"], ["yesterdayish", "2026-03-05"]),
    "an unknown role": (["--roles", "user,robot"], ["--roles", "user,robot", "assistant"]),
    "an unknown tier": (["--extract", "magic"], ["--extract", "magic", "rules", "verbatim"]),
    "a tier without a model": (["--extract", "rules,premium"], ["premium", "no model", "rules, verbatim"]),
    "an empty profile": (["--profile", ""], ["--profile"]),
    "a batch of nothing": (["--batch-size", "0"], ["--batch-size", "0", "from 1"]),
    "a batch that is no number": (["--batch-size", "many"], ["--batch-size", "integer"]),
    "a wait that is no number": (["--wait", "soon"], ["--wait", "number"]),
    "a negative wait": (["--wait", "-1"], ["--wait", "-1"]),
    "a limit of nothing": (["--limit", "0"], ["--limit", "1"]),
    "a negative time budget": (["--time-budget", "-1"], ["--time-budget", "0"]),
    "an endless time budget": (["--time-budget", "inf"], ["--time-budget", "0"]),
}


@pytest.mark.parametrize(("flags", "says"), WRONG_VALUES.values(), ids=WRONG_VALUES)
def test_a_wrong_value(home, tea, flags, says):
    _refused(home.run("ingest", tea, *flags), 2, *says)
    assert not home.db.exists()


def test_an_unknown_profile_is_a_warning_that_names_the_nearest(home, tea):
    done = home.run("ingest", tea, "--profile", "balancd")
    assert done.code == 0
    assert 'did you mean "balanced"' in done.err


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ([], "no query"),
        (["  "], "no query"),
        (["--queries", "nowhere.txt"], "nowhere.txt"),
        (["x", "--type", "semantics"], "semantics"),
        (["x", "--since", "soon"], "soon"),
        (["x", "-k", "0"], "-k"),
    ],
)
def test_a_wrong_search(filled, flags, says):
    _refused(filled.run("search", *flags), 2, says)


def test_an_unknown_key_in_the_configuration_names_file_line_and_the_nearest_key(home, tea):
    config = home.folder / "memcli.toml"
    config.write_text("wait = 1\n\nbatchsize = 7\n")
    for command in [("ingest", tea), ("search", "x"), ("config", "show")]:
        _refused(home.run(*command), 2, f"{config}:3: batchsize", 'did you mean "batch_size"')


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("wait = ", ["not valid TOML"]),
        ("batch_size = 'x'", [":1: batch_size", "whole number"]),
        ("[profiles.local]\nrates = 1", [":2: profiles.local.rates", '"rate"']),
        ("[profiles.local]\nmin_messages = 30", ["profiles.local", "max_messages"]),
        ("\udcff", ["not UTF-8"]),
    ],
)
def test_a_wrong_configuration_file(home, tea, text, says):
    config = home.folder / "mine.toml"
    config.write_bytes(text.encode(errors="surrogateescape"))
    _refused(home.run("ingest", tea, "--config", config), 2, str(config), *says)


def test_a_configuration_file_that_is_not_there(home, tea):
    _refused(home.run("ingest", tea, "--config", "none.toml"), 2, str(home.folder / "none.toml"))


def test_an_unknown_variable_names_the_nearest(home, tea):
    done = home.run("ingest", tea, env={"MEMCLI_BATCHSIZE": "7"})
    _refused(done, 2, "MEMCLI_BATCHSIZE", "MEMCLI_BATCH_SIZE")


def test_a_database_that_cannot_be_written(home, tea, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    for path in (tmp_path, file / "memory.db"):
        _refused(home.run("ingest", tea, "--db", path), 2, str(path), "--db")


_WITH_PATHS = (
    "ingest tea.jsonl --db", "ingest tea.jsonl --model", "search x --db", "search x --config", "search --queries",
    "dedup --db", "dedup --calibrate", "dedup --verify-model", "stats --db", "stats --prometheus", "reindex --db",
    "reindex --check --db", "reindex --model", "export --db", "export --out", "export --with-vectors", "import",
    "import tea.jsonl --db", "rules list --db", "rules import", "model import", "model use", "model list --db",
    "config show --config", "cost report --db",
)  # fmt: skip


@pytest.mark.parametrize("command", _WITH_PATHS)
def test_a_path_that_cannot_be_is_wrong_usage_in_every_command(filled, tea, tmp_path, command):
    words = [str(tea) if word == "tea.jsonl" else word for word in command.split()]
    path = tmp_path / ("n" * 256)
    _refused(filled.run(*words, path), 2, path.name)


@pytest.mark.parametrize("command", ["search x --db", "stats --prometheus", "export --out", "model use"])
def test_a_path_through_a_file_or_in_a_circle_is_no_bug(filled, tea, tmp_path, command):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path in (tea / "x", loop):
        done = filled.run(*command.split(), path)
        assert done.code in {0, 2, 4}, done.err
        assert done.code == 0 or str(path) in done.err
        assert "bug" not in done.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(home, tea, tmp_path):
    folder = tmp_path / "sealed"
    folder.mkdir(mode=0o500)
    _refused(home.run("ingest", tea, "--db", folder / "memory.db"), 2, str(folder), "--db")


# --- 3: rejected input -----------------------------------------------------------------------------------------------


def test_a_file_of_no_known_format_is_named_and_the_rest_is_done(home, tea, tmp_path):
    other = tmp_path / "other.jsonl"
    other.write_text('{"a": 1}\n')
    done = home.run("ingest", other, tea, "--json")
    assert done.code == 3
    assert f"{other}: no known format; name it with --format" in done.err
    assert [done.json["files"][name] for name in ("seen", "read", "unchanged", "failed")] == [2, 1, 0, 1]
    assert done.json["messages"]["new"] == 1
    assert "Traceback" not in done.err


def test_an_export_or_a_database_is_no_transcript_and_what_takes_it_is_named(filled, tmp_path):
    export = tmp_path / "my export.jsonl"
    assert filled.run("export", "--out", export).code == 0
    before = filled.rows("SELECT count(*) FROM messages")
    for path in (export, filled.db):
        done = filled.run("ingest", path)
        assert done.code == 3
        assert f"memcli import {shlex.quote(str(path))}" in done.err
    assert filled.rows("SELECT count(*) FROM messages") == before
    named = filled.run("ingest", export, "--format", "flat", "--dry-run", "--json")
    assert named.json["messages"]["new"] > 0, "who names a format gets it"


# --- 4 and 5: no database, locked ------------------------------------------------------------------------------------


def test_a_search_without_a_database(home):
    _refused(home.run("search", "tea"), 4, str(home.db), "memcli ingest")
    assert not home.db.exists()


def test_a_search_in_an_empty_file(home):
    home.db.touch()
    _refused(home.run("search", "tea"), 4, str(home.db), "memcli ingest")


def test_a_locked_database(filled, tea):
    with filled.start("ingest", "-") as holder:
        wait_for(holds_lock(filled, holder), holder)
        _refused(filled.run("ingest", tea), 5, str(filled.db), f"process {holder.pid}", "--wait")
        assert finish(holder, b"").code == 0


# --- 6: mismatch -----------------------------------------------------------------------------------------------------


def _digest(path):
    return hashlib.sha256(path.read_bytes()).digest()


def _change(home, sql):
    with closing(sqlite3.connect(home.db)) as conn:
        conn.execute(sql)
        conn.commit()
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def test_a_newer_schema_is_refused_untouched(filled, tea):
    _change(filled, "INSERT INTO _sqlite_migrations VALUES (99, 'memcli', 'm999_later', '2030-01-01')")
    before = _digest(filled.db)
    for command in [("ingest", tea), ("search", "tea"), ("ingest", tea, "--dry-run")]:
        _refused(filled.run(*command), 6, str(filled.db), "newer memcli", "m999_later", "upgrade")
    assert _digest(filled.db) == before


def test_the_database_of_another_program_is_refused_untouched(home, tea):
    _change(home, "CREATE TABLE notes (text)")
    before = _digest(home.db)
    for command in [("ingest", tea), ("search", "tea")]:
        _refused(home.run(*command), 6, str(home.db), "no memcli database", "--db")
    assert _digest(home.db) == before


def _model(home):
    """Let the database be of a model that is not the packaged one, and return where its files belong."""
    identifier = "0" * 32
    _change(home, f"UPDATE meta SET value = '{identifier}' WHERE key = 'model_id'")
    return home.data / "models" / identifier


def test_a_database_whose_model_is_missing(filled, tea):
    folder = _model(filled)
    for command in [("ingest", tea), ("search", "tea")]:
        _refused(filled.run(*command), 6, str(filled.db), str(folder), "memcli reindex")


# --- 8: damaged ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [b"not a database at all " * 500, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_file_that_is_no_database(home, tea, raw):
    home.db.write_bytes(raw)
    for command in [("ingest", tea), ("search", "tea")]:
        _refused(home.run(*command), 8, str(home.db), "damaged", "restore a backup")
    assert home.db.read_bytes() == raw


@pytest.mark.parametrize("table", ["memories", "segments", "messages", "files"])
def test_a_damaged_page(filled, tea, table):
    ((page,),) = filled.rows("SELECT rootpage FROM sqlite_master WHERE name = ?", table)
    ((size,),) = filled.rows("PRAGMA page_size")
    with filled.db.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    _refused(filled.run("ingest", tea), 8, str(filled.db), "damaged", "restore a backup")
    if table != "files":
        _refused(filled.run("search", "retries"), 8, str(filled.db), "damaged", "restore a backup")


def test_a_truncated_database(filled, tea):
    os.truncate(filled.db, filled.db.stat().st_size // 2)
    for command in [("ingest", tea), ("search", "retries")]:
        _refused(filled.run(*command), 8, str(filled.db), "damaged")


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "card.json"])
def test_a_damaged_copy_of_the_model(filled, tea, name):
    source = filled.data / "models" / filled.rows("SELECT value FROM meta WHERE key = 'model_id'")[0][0]
    filled.data = filled.folder / "data"
    filled.env["MEMCLI_DATA_DIR"] = str(filled.data)
    folder = _model(filled)
    shutil.copytree(source, folder)
    card = folder / "card.json"
    card.write_text(card.read_text().replace(source.name, folder.name))
    (folder / name).write_bytes(b"\0 not what it was")
    for command in [("ingest", tea), ("search", "tea")]:
        done = filled.run(*command)
        _refused(done, 8, str(folder), "import or pull the model again")


def test_a_model_file_that_is_gone(filled):
    source = filled.data / "models" / filled.rows("SELECT value FROM meta WHERE key = 'model_id'")[0][0]
    filled.data = filled.folder / "data"
    filled.env["MEMCLI_DATA_DIR"] = str(filled.data)
    folder = _model(filled)
    shutil.copytree(source, folder)
    (folder / "model.onnx").unlink()
    _refused(filled.run("search", "tea"), 8, str(folder / "model.onnx"), "missing")


# --- 1: a bug --------------------------------------------------------------------------------------------------------

FAULT = (
    "import memcli.cli, memcli.ingest.run as run\n"
    "def broken(*_):\n"
    "    raise ZeroDivisionError('by [bold]zero[/] \\x1b[31m')\n"
    "run.identify = broken\n"
    "memcli.cli.main()\n"
)


def test_an_unexpected_fault_is_short_and_says_what_to_do(home, tea):
    done = home.python(FAULT, "ingest", tea)
    assert done.code == 1
    assert done.out == ""
    assert "unexpected fault, a bug: ZeroDivisionError: by [bold]zero[/]" in done.err
    assert "--verbose" in done.err
    assert "Traceback" not in done.err
    assert not UNSAFE.search(done.err)
    assert len(done.err.splitlines()) == 2


def test_an_unexpected_fault_shows_its_trace_with_verbose(home, tea):
    done = home.python(FAULT, "ingest", tea, "--verbose")
    assert done.code == 1
    assert "Traceback" in done.err
    assert "in broken" in done.err
    assert "unexpected fault, a bug: ZeroDivisionError" in done.err


def test_a_fault_in_the_reading_thread_is_a_fault_of_the_run(home, tea):
    code = FAULT.replace("memcli.ingest.run as run", "memcli.ingest.feed as run").replace("identify", "proof")
    done = home.python(code, "ingest", tea)
    assert done.code == 1
    assert "ZeroDivisionError" in done.err
    assert home.run("ingest", tea, "--json").json["messages"]["new"] == 1


def test_after_a_fault_the_next_run_does_it_all(home):
    assert home.python(FAULT, "ingest", FIXTURES).code == 1
    done = home.run("ingest", FIXTURES, "--json")
    assert done.code == 0
    assert done.json["files"]["read"] == done.json["files"]["seen"] >= 5
