"""The one file: who may open it, what a transaction leaves behind, look-ups by many keys, segments, views."""

import hashlib
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support_ingest import FIXTURES, append, assert_same, assistant, flat, logical, query, run, user, write

from memcli.dedup.codes import encode
from memcli.errors import DamagedError, LockedError, MismatchError, NoDatabaseError, UsageError
from memcli.ingest import run as ingest_run
from memcli.store import files, memories, messages, runs, schema
from memcli.store.db import Store, run_lock
from memcli.store.vectors import Coding, NewRows, Vectors, append_segments
from memcli.text import digest

INPUT = FIXTURES / "transcripts"


@pytest.fixture
def db(tmp_path):
    return tmp_path / "memory.db"


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    path = tmp_path_factory.mktemp("filled") / "memory.db"
    run(path, INPUT)
    return path


# --- opening ---------------------------------------------------------------------------------------------------------


def test_a_new_database_is_private_and_records_its_migrations(db):
    with Store.create(db):
        pass
    assert db.stat().st_mode & 0o777 == 0o600
    recorded = query(db, "SELECT migration_set, name FROM _sqlite_migrations ORDER BY id")
    assert recorded[0] == ("memcli", "m001_ingest")
    assert [name for _, name in recorded] == sorted(name for name in vars(schema) if name.startswith("m0"))
    assert query(db, "PRAGMA journal_mode") == [("wal",)]
    assert query(db, "PRAGMA application_id") == [(int.from_bytes(b"memc", "big"),)]


def test_the_files_beside_a_database_are_private_too(db):
    with run_lock(db, 0, "test"), Store.create(db) as store:
        store.set_model("m")
        found = {path.name: path.stat().st_mode & 0o777 for path in db.parent.iterdir()}
    assert found.keys() == {"memory.db", "memory.db-wal", "memory.db-shm", "memory.db.lock"}
    assert set(found.values()) == {0o600}


@pytest.mark.parametrize("name", ["a b.db", "100%.db", "what?.db", "a#b.db", "Gedächtnis.db", "a%20b.db"])
def test_any_file_name_will_do(tmp_path, name):
    with Store.create(tmp_path / name):
        pass
    with Store.open(tmp_path / name) as store:
        assert store.generation() == 0
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(("-shm", "-wal"))] == [name]


def test_opening_twice_migrates_once(db):
    recorded = []
    for _ in range(2):
        with Store.create(db):
            pass
        recorded.append(query(db, "SELECT * FROM _sqlite_migrations"))
    assert recorded[0] == recorded[1]


@pytest.mark.parametrize("opened", [Store.create, Store.open])
def test_a_database_of_a_newer_memcli_is_refused_and_untouched(db, filled, opened):
    shutil.copy(filled, db)
    query_and_commit(db, "INSERT INTO _sqlite_migrations VALUES (NULL, 'memcli', 'm999_later', '2030-01-01')")
    before = db.read_bytes()
    with pytest.raises(MismatchError, match=r"newer memcli.*m999_later"):
        opened(db)
    assert db.read_bytes() == before


@pytest.mark.parametrize("opened", [Store.create, Store.open])
def test_a_foreign_database_is_refused_and_untouched(db, opened):
    query_and_commit(db, "CREATE TABLE recipes (name TEXT)")
    before = db.read_bytes()
    with pytest.raises(MismatchError, match="no memcli database"):
        opened(db)
    assert db.read_bytes() == before


@pytest.mark.parametrize("opened", [Store.create, Store.open])
@pytest.mark.parametrize("raw", [b"no database at all\n" * 300, b"SQLite format 3\0" + b"\1" * 5000])
def test_garbage_is_named_as_damage_and_untouched(db, opened, raw):
    db.write_bytes(raw)
    with pytest.raises(DamagedError, match=r"memory\.db"):
        opened(db)
    assert db.read_bytes() == raw


def test_what_is_not_there_cannot_be_opened_and_is_not_made(db):
    with pytest.raises(NoDatabaseError, match=r"memory\.db"):
        Store.open(db)
    assert not db.exists()


def test_an_empty_file_holds_no_database_and_may_become_one(db):
    db.touch()
    with pytest.raises(NoDatabaseError):
        Store.open(db)
    with Store.create(db) as store:
        assert store.generation() == 0


def test_a_folder_is_no_database(tmp_path):
    with pytest.raises(UsageError):
        Store.create(tmp_path)
    with pytest.raises(UsageError):
        Store.open(tmp_path)


def test_a_reader_cannot_write(filled):
    with Store.open(filled) as store, pytest.raises(sqlite3.OperationalError, match="readonly"):
        store.conn.execute("DELETE FROM memories")


def test_the_run_lock_is_for_one_and_says_who_holds_it(db):
    refused = pytest.raises(LockedError, match="memcli ingest, process")
    with run_lock(db, 0, "ingest"), refused, run_lock(db, 0, "dedup"):
        pass
    with run_lock(db, 0, "dedup"):
        pass


# --- transactions ----------------------------------------------------------------------------------------------------


def test_a_transaction_bumps_the_generation_once(db):
    with Store.create(db) as store:
        for expected in range(3):
            assert store.generation() == expected
            with store.transaction(expected) as conn:
                conn.execute("INSERT INTO meta VALUES (?, 1)", (f"key {expected}",))
        assert store.generation() == 3


def _write_half(store, error):
    with store.transaction(0) as conn:
        conn.execute("INSERT INTO meta VALUES ('half', 1)")
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_rolls_a_transaction_back_whole(db, error):
    with Store.create(db) as store:
        with pytest.raises(error):
            _write_half(store, error)
        assert store.meta("half") is None
        assert store.generation() == 0
        with store.transaction(0) as conn:
            conn.execute("INSERT INTO meta VALUES ('whole', 1)")
    assert query(db, "SELECT key FROM meta WHERE key IN ('half', 'whole')") == [("whole",)]


def test_what_was_computed_against_another_generation_is_refused(db):
    with Store.create(db) as store, Store.create(db) as other:
        generation = store.generation()
        with other.transaction(generation):
            pass
        with pytest.raises(MismatchError, match="changed by another program"), store.transaction(generation) as conn:
            conn.execute("INSERT INTO meta VALUES ('late', 1)")
        assert store.meta("late") is None
        with store.transaction(generation + 1):
            pass


def test_a_run_beside_another_writer_ends_without_half_a_batch(db, tmp_path, monkeypatch):
    """As when a second program changes the corpus between the look-ups of a batch and its commit."""
    run(db, write(tmp_path / "a.jsonl", flat("The lift is under repair until the summer.")))
    before = logical(db)
    append(tmp_path / "a.jsonl", flat("Parcels wait behind the green door."))
    write_other = "UPDATE meta SET value = value + 1 WHERE key = 'generation'"
    identify = ingest_run.identify
    monkeypatch.setattr(ingest_run, "identify", lambda *args: (query_and_commit(db, write_other), identify(*args))[1])
    with pytest.raises(MismatchError):
        run(db, tmp_path / "a.jsonl")
    assert logical(db) == before


WRITES = [
    (runs, "write_run"),
    (ingest_run, "write_names_key"),
    (files, "write_cursors"),
    (files, "write_rejected"),
    (runs, "write_batch"),
    (messages, "write_sessions"),
    (messages, "write_messages"),
    (messages, "write_grown"),
    (messages, "write_identities"),
    (messages, "write_pending"),
    (runs, "write_windows"),
    (memories, "write_memories"),
    (memories, "write_merges"),
    (ingest_run, "append_segments"),
    (runs, "write_batch_timings"),
]


@pytest.mark.parametrize(("module", "name"), WRITES, ids=[name for _, name in WRITES])
def test_a_batch_that_fails_in_the_middle_leaves_nothing(tmp_path, monkeypatch, module, name):
    """A batch with all there is: new sessions, tags, grown messages, merges, review pairs, rejected lines, cursors."""
    file = write(tmp_path / "a.jsonl", user("I like the lift.", "u0"), assistant("The lift is closed.", "a1", "m1"))
    run(tmp_path / "failed.db", file)
    shutil.copy(tmp_path / "failed.db", tmp_path / "whole.db")
    records = [user(f"PR #{n} was merged into main today.", f"u{n}", cwd="/srv/api") for n in range(1, 30)]
    append(file, assistant("It runs again.", "a2", "m1"), *records, user("I like the lift!", "u99", "s2"))
    with file.open("ab") as out:
        out.write(b"{broken\n")
    before = logical(tmp_path / "failed.db"), query(tmp_path / "failed.db", "SELECT * FROM runs")
    genuine = getattr(module, name)

    def failing(*args, **named):
        genuine(*args, **named)
        raise RuntimeError(name)

    monkeypatch.setattr(module, name, failing)
    with pytest.raises(RuntimeError, match=name):
        run(tmp_path / "failed.db", file, near_threshold=0.7)
    monkeypatch.undo()
    assert (logical(tmp_path / "failed.db"), query(tmp_path / "failed.db", "SELECT * FROM runs")) == before
    run(tmp_path / "failed.db", file, near_threshold=0.7)
    run(tmp_path / "whole.db", file, near_threshold=0.7)
    assert_same(tmp_path / "failed.db", tmp_path / "whole.db")
    assert len(logical(tmp_path / "whole.db")["reviews"]) > 5


def test_the_list_of_writes_is_complete():
    source = Path(ingest_run.__file__).read_text(encoding="utf-8")
    commit = source[source.index("def _commit") : source.index("def _count(")]
    called = {name for name in commit.replace("(", " ").replace(".", " ").split() if name.startswith("write_")}
    # What --reextract writes in place of new windows has tests of its own, and so has what models bring.
    others = {"write_revisited", "write_rejected_statements", "write_links", "write_told"}
    assert (called | {"append_segments"}) - others == {name for _, name in WRITES}


# --- look-ups by many keys -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 40_000])
def test_any_number_of_hashes_is_looked_up_in_one_statement(db, count):
    hashes = [digest(str(number)) for number in range(count)]
    with Store.create(db) as store:
        found = store.by_hashes("SELECT hash FROM hashes", hashes)
        store.conn.execute("CREATE TEMP TABLE known (hash BLOB)")
        store.conn.executemany("INSERT INTO known VALUES (?)", [(each,) for each in hashes[::3]])
        joined = store.by_hashes("SELECT k.hash FROM hashes JOIN known AS k ON k.hash = hashes.hash", hashes)
    assert [row[0] for row in found] == hashes
    assert {row[0] for row in joined} == set(hashes[::3])


@pytest.mark.parametrize("count", [0, 1, 40_000])
def test_any_number_of_ids_is_looked_up_in_one_statement(db, count):
    with Store.create(db) as store:
        ids = [number * 3 for number in range(count)]
        assert store.by_ids("SELECT value FROM json_each(:ids)", ids) == [(each,) for each in ids]


# --- segments --------------------------------------------------------------------------------------------------------


def vectors_of(ids):
    return np.array([[each, -each, 0.5, each % 7] for each in ids], dtype=np.float32)


CODING = Coding(encode, len, "1")


def new_rows(ids, keys=None):
    return NewRows(np.array(ids, dtype=np.int64), vectors_of(ids), keys)


def append_new(conn, blocks, model="model", coding=CODING, made=None):
    return append_segments(conn, model, {agent: new_rows(ids) for agent, ids in blocks.items()}, coding, made or {})


def check(store, model, cache):
    """Every vector of the model (agent -> ids) is in one segment of its agent, and is found by its id."""
    stored = {agent: [] for agent in model}
    for agent, segment in cache.segments(list(model)):
        rows = (row.tobytes() for row in segment.whole())
        stored[agent] += zip(segment.memory_ids.tolist(), rows, strict=True)
    for agent, ids in model.items():
        assert stored[agent] == [(each, row.tobytes()) for each, row in zip(ids, vectors_of(ids), strict=True)]
    all_ids = [each for ids in model.values() for each in ids]
    found = cache.rows([*all_ids, 10**9, -1])
    assert found.keys() == set(all_ids)
    assert all(row.tolist() == vectors_of([each])[0].tolist() for each, row in found.items())
    for *raw, stored_hash in store.conn.execute("SELECT memory_ids, vectors, codes, scales, hash FROM segments"):
        assert hashlib.blake2b(b"".join(raw), digest_size=16).digest() == stored_hash


def assert_coded(cache):
    """Stored codes are those of the vectors, and the cache counts all that it holds."""
    held = 0
    for _, segment in cache.segments():
        made = encode(segment.whole())
        assert (segment.codes.values == made.values).all()
        assert (segment.codes.scales == made.scales).all()
        parts = (segment.memory_ids, segment.codes.values, segment.codes.scales, segment.keys)
        held += sum(part.nbytes for part in parts if part is not None)
    assert cache.cached_bytes <= min(held, cache._max_memory)
    if cache._max_memory > held:
        assert cache.cached_bytes == held


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(1, 90), min_size=1), max_size=40), st.booleans())
def test_appended_segments_hold_what_a_dictionary_holds(tmp_path_factory, batches, tiny_cache):
    with Store.create(tmp_path_factory.mktemp("segments") / "memory.db") as store:
        cache = Vectors(store, "model", 100 if tiny_cache else 10**9, CODING)
        model, next_id = {}, 1
        for batch in batches:
            blocks = {}
            for agent, size in batch.items():
                ids = list(range(next_id, next_id + size))
                next_id += size + 1
                model.setdefault(agent, []).extend(ids)
                blocks[agent] = ids
            with store.transaction(store.generation()) as conn:
                gone = append_new(conn, blocks)
            cache.forget(gone)
            check(store, model, cache)
            assert_coded(cache)


def test_a_thousand_small_batches_leave_few_segments_and_rewrite_little(db):
    with Store.create(db) as store:
        written = 0
        cache = Vectors(store, "model", 10**9)
        for number in range(1, 1001):
            ids = [number]
            with store.transaction(number - 1) as conn:
                cache.forget(append_new(conn, {"a": ids}))
            last = store.conn.execute("SELECT max(id), count FROM segments").fetchone()
            written += last[1]
        assert store.conn.execute("SELECT count(*) FROM segments").fetchone()[0] <= 16
        assert written <= 1000 * 7
        check(store, {"a": list(range(1, 1001))}, cache)


def test_segments_of_another_model_or_agent_are_left_alone(db):
    with Store.create(db) as store, store.transaction(0) as conn:
        for number in range(1, 9):
            append_new(conn, {f"agent {number % 4 // 2}": [number]}, f"model {number % 2}")
        found = Vectors(store, "model 1", 10**9).segments(["agent 0"])
        assert [(agent, segment.memory_ids.tolist()) for agent, segment in found] == [
            ("agent 0", [1]),
            ("agent 0", [5]),
        ]
        assert len(list(Vectors(store, "model 0", 10**9).segments())) == 4


@pytest.mark.parametrize("max_memory", [1, 300, 10**9])
def test_a_small_cache_gives_what_a_large_one_gives(db, max_memory):
    """Segments of 24 bytes a row; what is read drops what was cached and is asked for later."""
    with Store.create(db) as store:
        cache = Vectors(store, "model", max_memory)
        ids = iter(range(1, 1000))
        model = {}
        with store.transaction(0) as conn:
            for agent, size in [("a", 9), ("b", 3), ("c", 5), ("d", 7), ("e", 2)]:
                model[agent] = [next(ids) for _ in range(size)]
                append_new(conn, {agent: model[agent]})
        for wanted in ("e", "ab", "dc", "abcde", "d", "ae", "edcba"):
            check(store, {agent: model[agent] for agent in wanted}, cache)
            assert cache.cached_bytes <= max_memory


@pytest.mark.parametrize("column", ["memory_ids", "vectors", "codes", "scales", "keys"])
def test_a_segment_of_the_wrong_length_is_damage(db, column):
    with Store.create(db) as store, store.transaction(0) as conn:
        append_segments(conn, "model", {"a": new_rows([1, 2], np.array([7, 8]))}, CODING, {})
        conn.execute(f"UPDATE segments SET {column} = substr({column}, 2)")
        with pytest.raises(DamagedError, match="segment 1"):
            list(Vectors(store, "model", 10**9, CODING).segments())


def test_a_cache_that_is_too_small_keeps_what_it_has_through_scans_of_everything(db):
    with Store.create(db) as store:
        with store.transaction(0) as conn:
            for agent in "abcdefgh":
                append_new(conn, {agent: [ord(agent)]})
        size = next(Vectors(store, "model", 10**9, CODING).segments())[1].size
        cache = Vectors(store, "model", 3 * size, CODING)
        scans = [[segment for _, segment in cache.segments()] for _ in range(3)]
        assert [each is again for each, again in zip(scans[1], scans[2], strict=True)] == [True] * 3 + [False] * 5
        scans = [[segment for _, segment in cache.segments(["g", "h"])] for _ in range(4)]
        assert [each is again for each, again in zip(scans[2], scans[3], strict=True)] == [True] * 2


def test_segments_without_codes_are_read_with_codes_and_merged_with_codes(db):
    with Store.create(db) as store:
        cache = Vectors(store, "model", 10**9, CODING)
        with store.transaction(0) as conn:
            append_new(conn, {"a": [1, 2, 3]})
            append_new(conn, {"a": [4, 5, 6]})
            conn.execute("UPDATE segments SET codes = NULL, scales = NULL WHERE id = 1")
        assert_coded(cache)
        with store.transaction(1) as conn:
            append_new(conn, {"a": [7]})
            cache.forget(append_new(conn, {"a": [8, 9]}))
        assert_coded(cache)
        check(store, {"a": list(range(1, 10))}, cache)


def test_keys_are_made_once_and_again_under_another_version(db, tmp_path):
    texts = [f"Crate {number} stands in row {number * 7} of the hall." for number in range(6)]
    run(db, write(tmp_path / "a.jsonl", *map(flat, texts)), extract=("verbatim",))
    asked = []

    def keyed(version):
        return Coding(encode, lambda text: asked.append(text) or len(text), version)

    with Store.create(db) as store:
        model = store.meta("model_id")
        for version, made in (("7", texts), ("7", []), ("8", texts)):
            asked.clear()
            cache = Vectors(store, model, 10**9, keyed(version))
            found = [key for _, segment in cache.segments() for key in cache.keys(segment).tolist()]
            assert found == [len(text) for text in texts]
            assert sorted(asked) == sorted(made)
            with store.transaction(store.generation()) as conn:
                assert append_segments(conn, model, {}, cache.coding, cache.made_keys) == []
            cache.forget([])
            (again,) = (segment for _, segment in cache.segments())
            assert again.keys.tolist() == found
        (*raw, keys, stored) = store.conn.execute(
            "SELECT memory_ids, vectors, codes, scales, keys, hash FROM segments"
        ).fetchone()
        hashes = [hashlib.blake2b(part, digest_size=16).digest() for part in (b"".join(raw), keys)]
        assert stored == b"".join(hashes)


def test_a_merged_segment_has_keys_where_all_of_its_parts_have_them(db):
    with Store.create(db) as store:
        for agent, last in (("a", np.array([90])), ("b", None)):
            with store.transaction(store.generation()) as conn:
                for number in (1, 2, 3):
                    rows = {agent: new_rows([number], np.array([number * 10]))}
                    append_segments(conn, "model", rows, CODING, {})
                append_segments(conn, "model", {agent: new_rows([4], last)}, CODING, {})
        found = {agent: segment.keys for agent, segment in Vectors(store, "model", 10**9, CODING).segments()}
        assert found["a"].tolist() == [10, 20, 30, 90]
        assert found["b"] is None


def test_a_thousand_runs_of_a_few_messages_leave_few_segments(db, tmp_path):
    """Eighty runs here: by then a segment per run would show."""
    file = write(tmp_path / "a.jsonl")
    for number in range(80):
        run(db, append(file, flat(f"Crate {number} stands in row {number * 7} of hall {number % 9}.")))
    assert query(db, "SELECT count(*) <= 10, sum(count) FROM segments") == [(1, 80)]


# --- views and plain sqlite3 -----------------------------------------------------------------------------------------


def test_views_and_index_work_in_plain_sqlite_that_trusts_no_schema(filled):
    with closing(sqlite3.connect(filled)) as conn:
        conn.execute("PRAGMA trusted_schema = OFF")
        active = conn.execute("SELECT * FROM active_memories")
        columns = "memory_id agent_id session_id type content importance mentions extraction_method created_at"
        assert [column[0] for column in active.description] == columns.split()
        ids = {row[0] for row in active}
        log = conn.execute("SELECT loser_id, winner_id, loser_content, winner_content FROM merge_log").fetchall()
        everything = {row[0] for row in conn.execute("SELECT id FROM memories")}
        assert ids
        assert log
        assert ids == everything - {row[0] for row in log}
        assert conn.execute("SELECT count(*) FROM memories_fts WHERE memories_fts MATCH 'billing'").fetchone()[0] > 0


def test_there_are_no_triggers(filled):
    assert query(filled, "SELECT name FROM sqlite_master WHERE type = 'trigger'") == []


def test_every_foreign_key_holds(filled):
    assert query(filled, "PRAGMA foreign_key_check") == []


def query_and_commit(db, sql):
    with closing(sqlite3.connect(db)) as conn, conn:
        conn.execute(sql)
