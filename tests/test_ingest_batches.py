"""Batches are how the work is cut and no more: the same content, one transaction each, so many statements."""

import shutil
import sqlite3
import time
from collections import Counter
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support_ingest import (
    FIXTURES,
    append,
    assert_same,
    assert_sound,
    assistant,
    flat,
    logical,
    query,
    run,
    user,
    write,
)

from memcli.config import Profile
from memcli.store import db as store_db

INPUTS = (FIXTURES / "transcripts", FIXTURES / "nasty")
SIZES = (1, 7, 64, 1024)
# Every message closes a window of its own.
SINGLE = {
    "profile": "single",
    "profiles": {"single": Profile("single", max_messages=1, min_messages=1, tiers=("rules", "verbatim"))},
}

POOL = [
    "The deploy window is on Tuesday morning.",
    "The deploy windows are on Tuesday morning.",
    "The deploy window is on Tuesday morning!",
    "The deploy window is not on Tuesday morning.",
    "PR #260 was merged into main today.",
    "PR #480 was merged into main today.",
    "I prefer tea to coffee in the morning.",
    "I prefer tea to coffee in the mornings.",
    "I prefer coffee to tea in the morning.",
    "My account has a billing problem since Tuesday.",
    "My account has a billing problem since Tuesday!",
    "Notes:\n- The deploy window is on Tuesday morning.\n- I prefer tea to coffee in the morning.",
    "You are a helpful agent. " * 60,
    "thanks",
]


@pytest.fixture
def db(tmp_path):
    return tmp_path / "memory.db"


# --- the same content whatever the sizes -----------------------------------------------------------------------------


@pytest.mark.parametrize("roles", [("user", "assistant"), ("system", "user", "assistant", "tool")])
def test_batch_sizes_and_embed_batch_sizes_give_the_same_content(tmp_path, roles):
    run(tmp_path / "whole.db", *INPUTS, roles=roles)
    assert_sound(tmp_path / "whole.db")
    for number, (size, embed_size) in enumerate([(1, 64), (7, 64), (64, 64), (1024, 1), (1024, 7), (7, 1)]):
        run(tmp_path / f"{number}.db", *INPUTS, roles=roles, batch_size=size, embed_batch_size=embed_size)
        assert_same(tmp_path / "whole.db", tmp_path / f"{number}.db")


def test_the_counts_of_the_report_do_not_depend_on_the_batch_size(tmp_path):
    documents = []
    for size in SIZES:
        document = run(tmp_path / f"{size}.db", *INPUTS, batch_size=size).to_json()
        for name in ("db", "seconds", "timings", "scan_seconds", "batches", "messages_per_second"):
            del document[name]
        documents.append(document)
    assert all(document == documents[0] for document in documents)


flat_records = st.builds(
    flat,
    st.sampled_from(POOL),
    role=st.sampled_from(["user", "user", "assistant", "system"]),
    session_id=st.sampled_from("ab"),
    id=st.none() | st.integers(0, 6),
    agent_id=st.sampled_from([None, None, "ann"]),
    timestamp=st.sampled_from([None, "2026-03-02T08:00:00Z"]),
)
claude_records = st.one_of(
    st.builds(user, st.sampled_from(POOL), st.sampled_from("uvwxyz"), st.sampled_from("st")),
    st.builds(
        assistant, st.sampled_from(POOL), st.sampled_from("abcdef"), st.sampled_from("mn"), st.sampled_from("st")
    ),
    st.builds(user, st.sampled_from(POOL), st.sampled_from("uvwxyz"), cwd=st.sampled_from(["/srv/a", "/srv/b"])),
    st.just({"type": "summary", "summary": "What was said", "leafUuid": "u"}),
)
# What each run finds appended to two files, one of each format.
histories = st.lists(
    st.tuples(st.lists(flat_records, max_size=12), st.lists(claude_records, max_size=12)), min_size=1, max_size=3
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(histories, st.sampled_from([1, 2, 7]), st.sampled_from([1, 64]), st.booleans())
def test_any_history_says_the_same_in_batches_of_any_size(tmp_path_factory, history, size, embed_size, waits):
    folder = tmp_path_factory.mktemp("history")
    options = {"roles": ("system", "user", "assistant"), "extract": ("rules", "verbatim"), "near_threshold": 0.85}
    if waits:
        options["profile"] = "therapy"
    first, second = write(folder / "a.jsonl"), write(folder / "b.jsonl")
    for flats, claudes in history:
        append(first, *flats)
        append(second, *claudes)
        whole = run(folder / "whole.db", first, second, **options)
        parts = run(folder / "parts.db", first, second, **options, batch_size=size, embed_batch_size=embed_size)
        for name in ("created", "merged_exact", "merged_near", "review", "embedded", "filtered", "pending"):
            assert getattr(whole, name) == getattr(parts, name), name
        assert_same(folder / "whole.db", folder / "parts.db")
        active = query(folder / "whole.db", "SELECT count(*) FROM active_memories")
    assert_sound(folder / "whole.db")
    created = sum(row[0] for row in query(folder / "whole.db", "SELECT memories_created FROM batches"))
    assert active == [(created,)]


# --- one transaction and a fixed number of statements per batch ------------------------------------------------------


class Counting(sqlite3.Connection):
    """Counts calls, and remembers the statements that begin and end transactions."""

    calls: ClassVar = Counter()
    transactions: ClassVar = []

    @classmethod
    def reset(cls):
        cls.calls, cls.transactions = Counter(), []

    def execute(self, sql, *parameters):
        self.calls["execute"] += 1
        if sql.split()[0] in {"BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE"}:
            self.transactions.append(sql)
        return super().execute(sql, *parameters)

    def executemany(self, sql, rows):
        self.calls["executemany"] += 1
        return super().executemany(sql, rows)


@pytest.fixture
def counting(monkeypatch):
    connect = sqlite3.connect
    monkeypatch.setattr(store_db.sqlite3, "connect", lambda *args, **named: connect(*args, factory=Counting, **named))
    Counting.reset()
    return Counting


def talk(messages, sessions, agents=1, run="x"):
    """A stream in which everything happens: duplicates, near duplicates, review pairs, grown tags, dropped messages."""
    for n in range(messages):
        text = POOL[n % len(POOL)] if n % 3 else f"Crate number {n} of run {run} stands in row {n * 7} of the hall."
        names = {"session_id": f"s{n % sessions}", "agent_id": f"agent{n % agents}", "model": f"{run}{n % 9}"}
        yield flat(text, id=f"{run}{n}", **names)


def spent(counting, db, *records):
    """Calls of a run with one batch, in which every message closes a window, so that no stage is ever without work."""
    append(db.with_suffix(".jsonl"), *records)
    counting.reset()
    report = run(db, db.with_suffix(".jsonl"), near_threshold=0.7, batch_size=10_000, **SINGLE)
    assert (report.messages_new, report.batches) == (len(records), 1)
    return dict(counting.calls)


def test_the_number_of_statements_does_not_depend_on_the_size_of_a_batch(counting, tmp_path):
    small, large = tmp_path / "small.db", tmp_path / "large.db"
    assert spent(counting, small, *talk(12, 5)) == spent(counting, large, *talk(1002, 5))
    assert spent(counting, small, *talk(12, 5, run="y")) == spent(counting, large, *talk(1002, 5, run="y"))


def test_the_number_of_statements_does_not_depend_on_the_number_of_sessions(counting, tmp_path):
    few, many = tmp_path / "few.db", tmp_path / "many.db"
    assert spent(counting, few, *talk(402, 5)) == spent(counting, many, *talk(402, 400))
    assert spent(counting, few, *talk(402, 5, run="y")) == spent(counting, many, *talk(402, 380, run="y"))


def test_the_number_of_statements_does_not_depend_on_the_number_of_agents(counting, tmp_path):
    few, many = tmp_path / "few.db", tmp_path / "many.db"
    assert spent(counting, few, *talk(402, 100, 4)) == spent(counting, many, *talk(402, 100, 200))


def test_the_number_of_statements_for_claude_code_records_does_not_depend_on_the_size_of_a_batch(counting, tmp_path):
    def records(size):
        for n in range(size):
            yield user(f"Crate number {n} stands in row {n * 7}.", f"u{n}", f"s{n % 5}", cwd=f"/srv/{n % 9}")
            yield assistant(f"Noted: crate {n} is in row {n * 7}.", f"a{n}", f"m{n}", f"s{n % 5}")

    assert spent(counting, tmp_path / "s.db", *records(11)) == spent(counting, tmp_path / "l.db", *records(501))


@pytest.mark.parametrize("size", [1, 7, 1024])
def test_there_is_one_transaction_per_batch_and_one_that_settles_the_run(counting, db, size):
    Counting.reset()
    run(db, *INPUTS, batch_size=size)
    Counting.reset()
    file = write(db.parent / "a.jsonl", *talk(30, 2))
    report = run(db, file, batch_size=size)
    assert counting.transactions == ["BEGIN IMMEDIATE", "COMMIT"] * (report.batches + 1)
    assert query(db, "SELECT count(*) FROM batches WHERE run_id = 2") == [(report.batches,)]
    assert report.batches >= 30 // size


def test_a_run_that_finds_nothing_begins_no_transaction(counting, db):
    run(db, *INPUTS)
    counting.reset()
    run(db, *INPUTS)
    assert counting.transactions == []
    assert counting.calls["executemany"] == 0


# --- stopping and going on -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 1024])
@pytest.mark.parametrize("limit", [1, 5, 60, "all but one", "all", "more"])
def test_a_limit_stops_cleanly_and_later_runs_complete_the_work(tmp_path, limit, size):
    messages = run(tmp_path / "whole.db", *INPUTS).messages_read
    limit = {"all but one": messages - 1, "all": messages, "more": messages + 1}.get(limit, limit)
    report = run(tmp_path / "parts.db", *INPUTS, limit=limit, batch_size=size)
    # A limit ends with a line, and one line may hold a whole conversation.
    assert min(limit, messages) <= report.messages_read < min(limit, messages) + 20
    assert report.stopped == (None if limit > messages else "limit")
    status = "done" if limit > messages else "interrupted"
    assert query(tmp_path / "parts.db", "SELECT status FROM runs") == [(status,)]
    for _ in range(messages // 40):
        if report.stopped is not None:
            report = run(tmp_path / "parts.db", *INPUTS, limit=80, batch_size=size)
    assert report.stopped is None
    assert_same(tmp_path / "whole.db", tmp_path / "parts.db")


@pytest.mark.parametrize("limit", [1, 5, 40])
def test_a_limit_is_exact_where_a_line_holds_one_message(db, limit):
    assert run(db, INPUTS[0] / "agents", INPUTS[0] / "claude-code", limit=limit).messages_read == limit


@pytest.mark.parametrize("folder", sorted(path.name for path in INPUTS[0].iterdir()))
def test_a_limit_gets_on_in_every_format(tmp_path, folder):
    messages = run(tmp_path / "whole.db", INPUTS[0] / folder).messages_read
    for _ in range(messages + 10):
        if run(tmp_path / "parts.db", INPUTS[0] / folder, limit=1).stopped is None:
            break
    assert_same(tmp_path / "whole.db", tmp_path / "parts.db")


@pytest.mark.parametrize("size", [20, 64, 1024])
def test_a_time_budget_of_nought_does_one_batch_and_later_runs_complete_the_work(tmp_path, size):
    run(tmp_path / "whole.db", *INPUTS)
    for _ in range(60):
        report = run(tmp_path / "parts.db", *INPUTS, time_budget=0, batch_size=size)
        assert report.batches <= 1
        if report.stopped is None:
            break
        assert report.stopped == "time-budget"
    else:
        pytest.fail("it does not come to an end")
    assert_same(tmp_path / "whole.db", tmp_path / "parts.db")
    assert run(tmp_path / "parts.db", *INPUTS).run_id is None


def test_memories_of_a_stopped_run_are_not_taken_for_recalled_ones_when_it_goes_on(tmp_path):
    notes = "Notes:\n- The deploy window is on Tuesday morning."
    file = write(tmp_path / "a.jsonl", flat(notes[9:]), flat(notes), flat("What shall we do now, then?"))
    run(tmp_path / "whole.db", file, **SINGLE)
    for limit in (1, 1, None):
        run(tmp_path / "parts.db", file, **SINGLE, limit=limit)
    assert_same(tmp_path / "whole.db", tmp_path / "parts.db")
    assert len(query(tmp_path / "parts.db", "SELECT id FROM runs")) == 3


def test_a_generous_time_budget_stops_nothing(db):
    began = time.monotonic()
    assert run(db, *INPUTS, time_budget=600).stopped is None
    assert time.monotonic() - began < 60


# --- dry run ---------------------------------------------------------------------------------------------------------


def counts(report):
    document = report.to_json()
    for name in ("seconds", "timings", "scan_seconds", "messages_per_second", "dry_run"):
        del document[name]
    return document


def bytes_of(db):
    """What is on disk, but for SQLite's shared memory and its empty log, which readers leave behind."""
    files = {path.name: path.read_bytes() for path in db.parent.glob("*") if not path.name.endswith("-shm")}
    return {name: raw for name, raw in files.items() if raw or not name.endswith("-wal")}


@pytest.mark.parametrize("size", [7, 1024])
@pytest.mark.parametrize("before", [(), (INPUTS[1],)])
def test_a_dry_run_counts_what_the_real_run_does_and_changes_nothing(tmp_path, size, before):
    db = tmp_path / "db" / "memory.db"
    if before:
        run(db, *before)
    files = bytes_of(db)
    dry = run(db, *INPUTS, dry_run=True, batch_size=size)
    assert dry.dry_run
    assert bytes_of(db) == files
    assert db.parent.exists() == bool(before)
    real = run(db, *INPUTS, batch_size=size)
    assert not real.dry_run
    assert counts(dry) == counts(real)


def test_a_dry_run_leaves_nothing_in_the_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    run(tmp_path / "memory.db", *INPUTS, dry_run=True)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_database_copied_between_runs_goes_on_like_the_original(tmp_path):
    run(tmp_path / "one.db", INPUTS[0])
    shutil.copy(tmp_path / "one.db", tmp_path / "two.db")
    run(tmp_path / "one.db", *INPUTS)
    run(tmp_path / "two.db", *INPUTS)
    assert logical(tmp_path / "one.db") == logical(tmp_path / "two.db")
