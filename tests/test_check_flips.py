"""Flipped bytes and truncations at random places: no traceback, no other end than a code of the table, and all found.

A flip matters where it changes what a row says. In the tables whose rows carry a hash, and in segments, each is found.
"""

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support_cli import Home, Nursery, some_chat, write_jsonl
from support_ingest import Quiet

from memcli.commands.check import check
from memcli.config import Config
from memcli.errors import MismatchError
from memcli.store.hashes import HASHED

PAGE = 8192
# 6: the bytes that say which schema or model it is. The user is told so, and check finds it.
ENDS = {0, 6, 8}


@pytest.fixture(scope="module")
def nursery():
    with Nursery() as running:
        yield running


@pytest.fixture(scope="module")
def filled(nursery, tmp_path_factory):
    made = Home(tmp_path_factory.mktemp("filled"), nursery=nursery)
    path = write_jsonl(made.folder / "chat.jsonl", some_chat(90))
    write_jsonl(made.folder / "more.jsonl", some_chat(20, seed=9))
    assert made.run("ingest", path, "--agent", "ada", "--flush").code == 0
    assert made.run("rules", "add", "allerg(y|ic) to").code == 0
    assert made.run("reindex").code == 0
    assert made.run("search", "nightly build").code == 0
    with closing(sqlite3.connect(made.db)) as conn:
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return made


def flipped(raw, chance):
    """The bytes with one of them changed, mostly where there is something."""
    changed = bytearray(raw)
    place = chance.randrange(len(raw))
    while not raw[place] and chance.random() < 0.9:
        place = chance.randrange(len(raw))
    changed[place] ^= chance.randrange(1, 256)
    return place, bytes(changed)


def said(path):
    """What the hashed tables and the segments say."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as conn:
        conn.text_factory = bytes
        wanted = {table: f"{', '.join(columns)}, row_hash" for table, columns in HASHED.items()}
        wanted |= {"messages": "*", "segments": "memory_ids, vectors, codes, scales, keys, hash"}
        return {
            table: conn.execute(f"SELECT {columns} FROM {table} NOT INDEXED").fetchall()
            for table, columns in wanted.items()
        }


def finds_what_matters(filled, folder, count, seed):
    raw, chance = filled.db.read_bytes(), random.Random(seed)  # noqa: S311
    expected, changed = said(filled.db), 0
    for number in range(count):
        db = folder / f"{number}.db"
        place, damaged = flipped(raw, chance)
        db.write_bytes(damaged)
        try:
            found = check(Config(db=db), Quiet(), {"MEMCLI_DATA_DIR": str(filled.data)}).faults
        except MismatchError:
            found = 1
        try:
            is_changed = said(db) != expected
        except (sqlite3.DatabaseError, UnicodeDecodeError):
            is_changed = True
        changed += is_changed
        assert found or not is_changed, f"the flip of byte {place} (seed {seed}) is not found"
        for each in folder.glob(f"{number}.db*"):
            each.unlink()
    return changed


def test_check_finds_each_flip_in_a_row_with_a_text_and_in_a_segment(filled, tmp_path):
    assert finds_what_matters(filled, tmp_path, 40, seed=1) > 5


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(2, 12))
def test_check_finds_each_of_many_flips(filled, tmp_path, seed):
    assert finds_what_matters(filled, tmp_path, 300, seed) > 30


COMMANDS = [
    ("check", "--json"),
    ("search", "nightly build"),
    ("search", "nightly build", "--no-cache", "--mode", "keyword"),
    ("stats",),
    ("export",),
    ("dedup", "--review"),
    ("dedup",),
    ("reindex",),
    ("reindex", "--check"),
    ("rules", "list"),
    ("ingest", "more.jsonl", "--quiet"),
    ("backup", "copy.db", "--force"),
    ("check", "--repair"),
]


def ends_well(filled, nursery, folder, damaged, what, commands):
    for command in commands:
        home = Home(folder, data=filled.data, nursery=nursery)
        shutil.copy(filled.folder / "more.jsonl", folder)
        for each in folder.glob("memory.db*"):
            each.unlink()
        home.db.write_bytes(damaged)
        done = home.run(*command)
        assert done.code in ENDS, f"{what}, {command}: {done}"
        assert "Traceback" not in done.err, f"{what}, {command}: {done}"


def test_every_command_ends_with_a_code_of_the_table(filled, nursery, tmp_path):
    raw, chance = filled.db.read_bytes(), random.Random(20)  # noqa: S311
    for number in range(16):
        place, damaged = flipped(raw, chance)
        some = [COMMANDS[(number + step) % len(COMMANDS)] for step in (0, 5)]
        ends_well(filled, nursery, tmp_path, damaged, f"byte {place}", some)


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(21, 31))
def test_every_command_ends_with_a_code_of_the_table_whatever_is_flipped(filled, nursery, tmp_path, seed):
    raw, chance = filled.db.read_bytes(), random.Random(seed)  # noqa: S311
    for _ in range(20):
        place, damaged = flipped(raw, chance)
        ends_well(filled, nursery, tmp_path, damaged, f"byte {place}, seed {seed}", COMMANDS)


@pytest.mark.parametrize("size", [50, 100, 8192, 0.3, 0.6, -8192, -1])
def test_a_file_that_was_cut_off_is_found_damaged(filled, nursery, tmp_path, size):
    raw = filled.db.read_bytes()
    cut = raw[: int(size * len(raw))] if isinstance(size, float) else raw[:size]
    ends_well(filled, nursery, tmp_path, cut, f"cut to {size}", [("search", "nightly build"), ("check",)])
    home = Home(tmp_path, data=filled.data, nursery=nursery)
    home.db.write_bytes(cut)
    # Of the first 50 bytes nobody can tell that they were ours.
    assert home.run("check").code == (8 if len(cut) >= 72 else 6)


def test_bytes_of_no_row_do_not_matter(filled, tmp_path):
    """A flip in a free page changes nothing that anybody reads."""
    db = tmp_path / "free.db"
    shutil.copy(filled.db, db)
    with closing(sqlite3.connect(db)) as conn, conn:
        conn.execute("CREATE TABLE t (x)")
        conn.executemany("INSERT INTO t VALUES (?)", [(b"\xab" * 8000,)] * 20)
    with closing(sqlite3.connect(db)) as conn, conn:
        conn.execute("DROP TABLE t")
    with closing(sqlite3.connect(db)) as conn:
        assert conn.execute("PRAGMA freelist_count").fetchone()[0] >= 10
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw = bytearray(db.read_bytes())
    # SQLite may have overwritten what was there, or not.
    free = next(
        n for n in range(0, len(raw), PAGE) if raw[n : n + PAGE].count(b"\xab") + raw[n : n + PAGE].count(0) == PAGE
    )
    raw[free + PAGE // 2] ^= 1
    db.write_bytes(raw)
    assert check(Config(db=db), Quiet(), {"MEMCLI_DATA_DIR": str(filled.data)}).faults == 0
    assert said(db) == said(Path(filled.db))
