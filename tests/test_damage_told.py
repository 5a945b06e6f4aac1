"""What a damaged row makes of a program is told as damage, whatever it is; a bug of ours never is."""

import re
import sqlite3
from contextlib import closing

import pytest

from memcli.errors import DamagedError
from memcli.store.check_fault import damage, first_fault
from memcli.store.db import Store

# Fails where a report is shown: the database has been read and closed by then.
BUG = (
    "import memcli.cli, memcli.render as render\n"
    "def broken(*_):\n"
    "    raise KeyError('nobody knows')\n"
    "render.show_stats = broken\n"
)
RUN = "memcli.cli.main()\n"
EVERY = [
    *(("search", "tea"), ("stats",), ("export",), ("dedup",), ("dedup", "--review"), ("reindex",), ("rules", "list")),
    *(("ingest", "../tea.jsonl"), ("backup", "copy.db"), ("check",), ("check", "--repair"), ("cost", "report")),
    ("forget", "--agent", "default", "--dry-run"),
]


def in_file(home, old, new):
    """Change bytes of the database where they stand, behind SQLite's back."""
    raw = home.db.read_bytes()
    assert len(old) == len(new)
    assert old in raw
    home.db.write_bytes(raw.replace(old, new))


def without_its_text(home, column):
    """Make NULL of a column that cannot be: the definition lets it happen meanwhile."""
    with closing(sqlite3.connect(home.db)) as conn:
        conn.execute("PRAGMA writable_schema = ON")
        (sql,) = conn.execute("SELECT sql FROM sqlite_master WHERE name = 'memories'").fetchone()
        lenient = re.sub(rf"({column} TEXT) NOT NULL", r"\1", sql)
        assert lenient != sql
        conn.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'memories'", (lenient,))
        conn.commit()
    with closing(sqlite3.connect(home.db)) as conn:
        conn.execute(f"UPDATE memories SET {column} = NULL WHERE id = 1")
        conn.execute("PRAGMA writable_schema = ON")
        conn.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'memories'", (sql,))
        conn.commit()
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@pytest.mark.parametrize("command", EVERY, ids=" ".join)
def test_a_definition_that_is_no_text_is_damage_to_every_command(filled, tea, command):
    assert tea.exists()
    in_file(filled, b"roles IN ('user', 'assistant'", b"roles IN ('u\xffer', 'assistant'")
    done = filled.run(*command)
    assert done.code == 8, done
    assert "is damaged: a text in it is no UTF-8" in done.err + " ".join(done.out.split())
    assert "CREATE" not in done.err


def test_it_is_so_in_a_folder_that_cannot_be_written(filled, monkeypatch):
    in_file(filled, b"roles IN ('user', 'assistant'", b"roles IN ('u\xffer', 'assistant'")
    monkeypatch.setattr("memcli.store.db.os.access", lambda *_: False)
    with pytest.raises(DamagedError, match="no UTF-8"):
        Store.open(filled.db)


def test_a_text_of_a_row_that_is_none_is_damage(filled):
    (content,) = filled.rows("SELECT content FROM active_memories WHERE length(content) > 30 LIMIT 1")[0]
    in_file(filled, content.encode()[:8], b"\xff\xfe" + content.encode()[2:8])
    for command in (("export",), ("check",)):
        done = filled.run(*command)
        assert done.code == 8, done
        assert "unexpected fault" not in done.err


@pytest.mark.parametrize("column", ["type", "content", "created_at", "extraction_method"])
def test_a_value_that_is_missing_is_damage_even_where_it_is_only_shown(filled, column):
    without_its_text(filled, column)
    codes = {filled.run(*command).code for command in (("stats",), ("search", "tea"), ("export",), ("dedup",))}
    assert codes <= {0, 8}
    assert filled.run("check").code == 8


def test_counts_that_nobody_can_add_up_are_damage(filled):
    with closing(sqlite3.connect(filled.db)) as conn, conn:
        conn.execute("UPDATE batches SET memories_merged = ?", (2**62,))
    done = filled.run("stats")
    assert done.code == 8, done
    assert "is damaged: integer overflow" in done.err


def test_what_fails_after_a_damaged_database_was_read_is_damage_and_the_trace_is_kept(filled):
    without_its_text(filled, "type")
    done = filled.python(BUG + RUN, "stats")
    assert done.code == 8
    assert f"{filled.db} is damaged: memories" in done.err
    assert "KeyError" in done.err
    assert "Traceback" not in done.err
    assert "nobody knows" in filled.python(BUG + RUN, "stats", "--verbose").err


def test_a_bug_is_a_bug_where_the_database_is_sound(filled):
    done = filled.python(BUG + RUN, "stats")
    assert done.code == 1
    assert "unexpected fault, a bug: KeyError" in done.err
    assert len(done.err.splitlines()) == 2


def test_where_nobody_can_tell_it_is_a_bug_that_says_so(filled):
    hurry = "import memcli.store.check_fault as looking\nlooking._SECONDS = 0\n"
    done = filled.python(hurry + BUG + RUN, "stats")
    assert done.code == 1
    assert "unexpected fault, a bug: KeyError" in done.err
    assert f"whether {filled.db} is damaged could not be found out: memcli check tells" in done.err


def test_a_database_that_somebody_locks_is_not_called_damaged(filled):
    with closing(sqlite3.connect(filled.db, isolation_level=None)) as conn:
        conn.execute("PRAGMA journal_mode = DELETE")
        conn.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            first_fault(filled.db)
        error = KeyError()
        assert damage(error, [filled.db]) is None
        assert "could not be found out" in error.__notes__[0]


def test_a_copy_that_is_gone_is_not_damaged(tmp_path):
    assert damage(KeyError(), [tmp_path / "gone.db"]) is None


def test_of_several_databases_the_damaged_one_is_named(filled, original):
    without_its_text(filled, "type")
    found = damage(KeyError("x"), [original.db, filled.db])
    assert isinstance(found, DamagedError)
    assert str(filled.db) in found.message
