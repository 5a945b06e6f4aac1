"""A file that is given as a database but is none of memcli's, or no file: refused before anything in it is run."""

import contextlib
import hashlib
import os
import sqlite3
from contextlib import closing

import pytest
from support_cli import UNSAFE

from memcli.errors import MismatchError
from memcli.store import foreign, metrics
from memcli.store.db import Store
from memcli.store.schema import APPLICATION_ID, released, steps


def _change(path, *statements):
    with closing(sqlite3.connect(path)) as conn:
        for sql in statements:
            conn.execute(sql)
        conn.commit()
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _digest(path):
    return hashlib.sha256(path.read_bytes()).digest()


def _refused(done, code, *says):
    assert done.code == code, done
    assert done.out == ""
    assert "Traceback" not in done.err
    assert not UNSAFE.search(done.err)
    for text in says:
        assert text in done.err, done.err


# What an attacker may add to a file that is otherwise as memcli made it. Each would run, or make memcli read or write
# something else than it thinks.
ADDED = {
    "a trigger": ["CREATE TRIGGER evil AFTER INSERT ON memories BEGIN DELETE FROM merges; END"],
    "a trigger on a view": [
        "CREATE TRIGGER evil INSTEAD OF INSERT ON active_memories BEGIN DELETE FROM merges; END",
    ],
    "a view": ["CREATE VIEW evil AS SELECT load_extension('/tmp/x')"],
    "a view with another text": [
        "DROP VIEW merge_log",
        "CREATE VIEW merge_log AS SELECT 1 AS merge_id",
    ],
    "a view in the place of a table": [
        "DROP TABLE search_cache",
        "CREATE VIEW search_cache AS SELECT 1 AS key",
    ],
    "a virtual table": ["CREATE VIRTUAL TABLE evil USING fts5 (x)"],
    "a virtual table in the place of a table": [
        "DROP TABLE search_cache",
        "CREATE VIRTUAL TABLE search_cache USING fts5 (key)",
    ],
    "a generated column": ["ALTER TABLE meta ADD COLUMN evil AS (hex(zeroblob(9)))"],
    "a generated column in a table of its own": ["CREATE TABLE evil (a, b AS (hex(zeroblob(9))))"],
    "a check in a table of its own": ["CREATE TABLE evil (a CHECK (a > abs(-9223372036854775807)))"],
    "a computed default in a table of its own": ["CREATE TABLE evil (a DEFAULT (randomblob(9)))"],
    "an index over an expression": ["CREATE INDEX evil ON messages (upper(text))"],
    "an index over a condition": ["CREATE TABLE mine (a)", "CREATE INDEX evil ON mine (a) WHERE a > 1"],
    "a column more": ["ALTER TABLE memories ADD COLUMN evil"],
    "an index less, another in its place": [
        "DROP INDEX memories_content_hash",
        "CREATE INDEX memories_content_hash ON memories (upper(content))",
    ],
    "a table that SQLite keeps for itself": [
        "PRAGMA writable_schema = ON",
        "INSERT INTO sqlite_master VALUES ('view', 'sqlite_x', 'sqlite_x', 0, 'CREATE VIEW sqlite_x AS SELECT 1')",
    ],
    "a record of migrations that is a view": [
        "ALTER TABLE _sqlite_migrations RENAME TO mine",
        "CREATE VIEW _sqlite_migrations AS SELECT * FROM mine",
    ],
}


@pytest.mark.parametrize("statements", ADDED.values(), ids=ADDED)
def test_a_database_of_memcli_with_something_added_is_refused_untouched(filled, tea, statements):
    _change(filled.db, *statements)
    before = _digest(filled.db)
    for command in [("ingest", tea), ("search", "tea")]:
        _refused(filled.run(*command), 6, str(filled.db), "is refused", "do not trust")
    assert _digest(filled.db) == before


def test_no_command_takes_a_database_with_something_added(filled):
    _change(filled.db, *ADDED["a trigger"])
    before = _digest(filled.db)
    for command in [
        ("stats",),
        ("dedup", "--dry-run"),
        ("reindex",),
        ("export",),
        ("rules", "list"),
        ("cost", "report"),
    ]:
        _refused(filled.run(*command), 6, str(filled.db), "is refused", "do not trust")
    other = filled.folder / "other.db"
    _refused(filled.run("import", filled.db, "--db", other), 6, str(filled.db), "is refused")
    assert not other.exists() or not Store.open(other).next_id("memories") - 1
    assert _digest(filled.db) == before


def test_what_is_refused_was_not_run(filled):
    """SQLite tells each function that it is about to run and each table that it reads: it is the schema's own alone."""
    _change(filled.db, *ADDED["a view in the place of a table"], *ADDED["a trigger"])
    touched = []
    with closing(sqlite3.connect(f"{filled.db.as_uri()}?mode=ro", uri=True)) as conn:
        conn.set_authorizer(lambda code, one, two, *_: touched.append((code, one, two)) or sqlite3.SQLITE_OK)
        with pytest.raises(MismatchError):
            foreign.check_schema(filled.db, conn)
    read = {one for code, one, _ in touched if code == sqlite3.SQLITE_READ}
    assert read <= {"sqlite_master", "_sqlite_migrations"}
    assert not [each for each in touched if each[0] == sqlite3.SQLITE_FUNCTION]


@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TABLE mine (id INTEGER PRIMARY KEY, memory INTEGER REFERENCES memories (id), note TEXT)"],
        ["CREATE TABLE mine (note TEXT)", "CREATE UNIQUE INDEX mine_note ON mine (note)"],
        ["ANALYZE"],
    ],
)
def test_tables_of_the_user_that_only_hold_data_are_let_be(filled, tea, statements):
    _change(filled.db, *statements)
    assert filled.run("search", "tea").code == 0
    assert filled.run("ingest", tea).code == 0


def test_names_of_the_users_tables_are_no_sql(filled):
    name = 'x"; DROP TABLE memories; -- \u202e\x1b[31m'
    _change(filled.db, 'CREATE TABLE "{0}" ("{0}" TEXT)'.format(name.replace('"', '""')))
    with Store.open(filled.db) as store:
        assert metrics._values_by_table(store.conn)[name] == 0
    for flags in ((), ("--json",), ("--prometheus", "-")):
        done = filled.run("stats", *flags)
        assert done.code == 0, done.err
        assert not UNSAFE.search(done.out + done.err)


def test_a_file_of_another_program_is_refused_whatever_it_claims(home, tea):
    claims = {
        "nothing": [],
        "another": ["PRAGMA application_id = 1234", "PRAGMA user_version = 7"],
        "to be memcli": [f"PRAGMA application_id = {APPLICATION_ID}"],
    }
    for name, statements in claims.items():
        db = home.folder / f"{name}.db"
        _change(db, *statements, "CREATE TABLE t (a)", "CREATE TRIGGER evil AFTER INSERT ON t BEGIN DELETE FROM t; END")
        before = _digest(db)
        for command in [("ingest", tea), ("search", "tea"), ("import", tea)]:
            _refused(home.run(*command, "--db", db), 6, str(db))
        assert _digest(db) == before


def test_an_empty_database_that_another_program_has_marked_is_refused(home, tea):
    _change(home.db, "PRAGMA application_id = 1234")
    before = _digest(home.db)
    _refused(home.run("ingest", tea), 6, str(home.db), "no memcli database")
    assert _digest(home.db) == before


@pytest.mark.parametrize("count", range(1, len(released()) + 1))
def test_the_schema_of_every_release_is_known(tmp_path, count):
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        for step in steps()[:count]:
            step(foreign._Bare(conn))
        foreign.check_schema(path, conn)


def test_the_newest_schema_is_recognised_without_making_it_anew():
    found = foreign.fingerprint(foreign.newest())
    assert found == foreign.FINGERPRINT, f'a migration was added: FINGERPRINT = "{found}" in memcli/store/foreign.py'


# --- no files --------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_files(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    return [fifo, tmp_path, "/dev/zero", "/dev/null"]


def test_what_is_no_file_is_refused_as_a_database(home, tea, no_files):
    for path in no_files:
        for command in [("ingest", tea), ("search", "tea"), ("stats",)]:
            _refused(home.run(*command, "--db", path), 2, str(path), "not a database", "--db")
        with contextlib.suppress(PermissionError):
            assert not os.path.lexists(f"{path}.lock")


def test_what_is_no_file_is_refused_as_a_configuration(home, tea, no_files):
    for path in no_files:
        _refused(home.run("ingest", tea, "--config", path), 2, str(path))
