"""`ingest --reextract`: a new rule, another version or another tier reaches the stored messages, once."""

from __future__ import annotations

import signal
import sqlite3
from collections import Counter
from typing import ClassVar

import pytest
from support_cli import Home, write_jsonl
from support_ingest import FIXTURES, append, assert_same, assert_sound, flat, logical, query, run, write
from support_rules import add_rule, disable, edit_rule

from memcli.config import Profile
from memcli.errors import UsageError
from memcli.store import db as store_db

SMALL = {"small": Profile("small", max_messages=2, min_messages=1, timeout_minutes=0, tiers=("rules", "verbatim"))}
TALK = [
    ("anna", "The kettle is broken since Tuesday, sadly."),
    ("anna", "A new kettle comes on Friday. The cat likes boxes."),
    ("bert", "My kettle whistles in the key of D."),
    ("bert", "Spoons go into the left drawer."),
    ("anna", "Spoons go into the right drawer, as ever."),
]


def talk(folder):
    records = [flat(text, id=str(n), session_id=agent, agent_id=agent) for n, (agent, text) in enumerate(TALK)]
    return write(folder / "talk.jsonl", *records)


@pytest.fixture
def db(tmp_path):
    run(tmp_path / "memory.db", talk(tmp_path), profile="small", profiles=SMALL)
    return tmp_path / "memory.db"


def reextract(db, *paths, **options):
    return run(db, *paths, **{"profile": "small", "profiles": SMALL, "reextract": True, **options})


def made_by(db, method):
    return query(
        db,
        "SELECT agent_id, type, content, importance FROM active_memories WHERE extraction_method = ?"
        " ORDER BY memory_id",
        method,
    )


def test_a_new_rule_reaches_stored_messages(db):
    add_rule(db, "kettle", name="k", type="procedural", importance=0.9)
    report = reextract(db)
    assert [row[2] for row in made_by(db, "rules:k")] == [
        "The kettle is broken since Tuesday, sadly.",
        "A new kettle comes on Friday.",
        "My kettle whistles in the key of D.",
    ]
    assert (report.windows_processed, report.created + report.merged_exact, report.messages_read) == (3, 3, 0)
    assert_sound(db)


def test_a_second_run_has_nothing_to_do_and_writes_nothing(db):
    add_rule(db, "kettle")
    reextract(db)
    before = logical(db), query(db, "SELECT * FROM runs")
    report = reextract(db)
    assert (report.run_id, report.windows_processed, report.embedded) == (None, 0, 0)
    assert (logical(db), query(db, "SELECT * FROM runs")) == before


def test_without_the_flag_a_new_rule_sees_new_messages_only(db, tmp_path):
    add_rule(db, "kettle", name="k")
    append(
        tmp_path / "talk.jsonl",
        flat("This kettle is new and makes no sound at all.", id="9", session_id="anna", agent_id="anna"),
    )
    run(db, tmp_path / "talk.jsonl", profile="small", profiles=SMALL)
    assert [row[2] for row in made_by(db, "rules:k")] == ["This kettle is new and makes no sound at all."]


def test_paths_are_read_too(db, tmp_path):
    add_rule(db, "kettle", name="k")
    append(
        tmp_path / "talk.jsonl",
        flat("This kettle is new and makes no sound at all.", id="9", session_id="anna", agent_id="anna"),
    )
    report = reextract(db, tmp_path / "talk.jsonl")
    assert report.messages_new == 1
    assert len(made_by(db, "rules:k")) == 4
    assert query(db, "SELECT DISTINCT command FROM runs WHERE id > 1 AND command <> 'rules add'") == [("ingest",)]


def test_without_a_path_and_the_flag_there_is_nothing_to_ingest(db):
    with pytest.raises(UsageError, match="no transcript"):
        run(db)


def test_a_rule_of_one_agent_leaves_the_windows_of_others_done(db):
    tiers = "SELECT t.* FROM window_tiers AS t JOIN windows AS w ON w.id = t.window_id JOIN sessions AS s"
    others = tiers + " ON s.id = w.session_id WHERE s.agent_id = 'bert'"
    before = query(db, others)
    add_rule(db, "kettle", name="k", agent="anna")
    report = reextract(db)
    windows = "SELECT count(*) FROM windows AS w JOIN sessions AS s ON s.id = w.session_id WHERE s.agent_id = 'anna'"
    assert query(db, windows) == [(report.windows_processed,)]
    assert query(db, others) == before
    assert {row[0] for row in made_by(db, "rules:k")} == {"anna"}


def test_the_memories_are_those_that_the_rules_would_have_made_at_once(db, tmp_path):
    other = tmp_path / "other.db"
    for path in (db, other):
        add_rule(path, "kettle", name="k", type="procedural", importance=0.9)
        add_rule(path, "spoons", name="s", keep="match", agent="bert")
    reextract(db)
    run(other, tmp_path / "talk.jsonl", profile="small", profiles=SMALL)
    active = (
        "SELECT agent_id, type, content, importance, mentions, extraction_method FROM active_memories ORDER BY 1, 2, 3"
    )
    assert query(db, active) == query(other, active)
    counts = "SELECT id, methods, memories_created + memories_merged FROM windows"
    assert query(db, counts) == query(other, counts)


def test_versions_of_before_stay_on_record(db):
    before = set(query(db, "SELECT * FROM window_tiers"))
    add_rule(db, "kettle")
    reextract(db)
    after = set(query(db, "SELECT * FROM window_tiers"))
    assert before < after
    assert {row[1] for row in after - before} == {"rules"}


@pytest.mark.parametrize(
    "change", [{"importance": 0.7}, {"name": "other"}, {"keywords": ["x"]}, {"pattern": "kettles?"}]
)
def test_what_the_tier_took_from_the_same_place_before_is_not_stored_again(db, change):
    key = add_rule(db, "kettle", name="k", importance=0.9)
    reextract(db)
    before = logical(db)
    edit_rule(db, key, **change)
    report = reextract(db)
    assert (report.windows_processed, report.created, report.merged_exact, report.embedded) == (3, 0, 0, 0)
    after = logical(db)
    for name in ("memories", "provenance", "links", "active", "vectors", "memory_tags"):
        assert after[name] == before[name], name


def test_the_same_statement_of_another_type_or_span_is_stored(db):
    key = add_rule(db, "kettle", name="k")
    reextract(db)
    edit_rule(db, key, type="episodic")
    assert reextract(db).windows_processed == 3
    types = "SELECT type, count(*) FROM memories WHERE extraction_method = 'rules:k' GROUP BY type ORDER BY type"
    assert query(db, types) == [("episodic", 3), ("semantic", 3)]
    edit_rule(db, key, keep="match")
    reextract(db)
    assert ("kettle",) in query(db, "SELECT content FROM memories")
    assert_sound(db)


def test_a_disabled_rule_makes_no_memories_and_those_it_made_stay(db):
    add_rule(db, "kettle", name="k")
    reextract(db)
    before = made_by(db, "rules:k")
    disable(db, "k")
    assert reextract(db).windows_processed == 0, "this set of rules has seen every window before"
    assert made_by(db, "rules:k") == before


def test_another_tier_reaches_stored_messages(tmp_path):
    db, file = tmp_path / "memory.db", talk(tmp_path)
    run(db, file, extract=("rules",), profile="small", profiles=SMALL)
    assert query(db, "SELECT count(*) FROM memories WHERE extraction_method = 'verbatim'") == [(0,)]
    reextract(db)
    assert query(db, "SELECT count(*) FROM memories WHERE extraction_method = 'verbatim'") == [(len(TALK),)]
    assert set(query(db, "SELECT methods FROM windows")) == {('["rules", "verbatim"]',)}


def test_a_dry_run_reports_the_same_and_changes_nothing(db):
    add_rule(db, "kettle")
    before = logical(db)
    dry = reextract(db, dry_run=True)
    assert logical(db) == before
    wet = reextract(db)
    for name in ("windows_processed", "created", "merged_exact", "merged_near", "embedded"):
        assert getattr(dry, name) == getattr(wet, name)


# --- batches, interruption, cost --------------------------------------------------------------------------------------


def with_rules(path, *sources, **options):
    run(path, *sources, **options)
    add_rule(path, "the", name="the", importance=0.6)
    add_rule(path, "we * to", name="we", kind="simple", type="episodic", agent="claude-code")
    return path


@pytest.mark.parametrize("size", [1, 7, 64])
def test_batch_sizes_do_not_matter(tmp_path, size):
    whole, parts = (with_rules(tmp_path / name, FIXTURES) for name in ("whole.db", "parts.db"))
    run(whole, reextract=True)
    report = run(parts, reextract=True, batch_size=size)
    assert report.batches > 1
    assert_same(whole, parts)
    assert_sound(whole)


def test_a_time_budget_stops_after_a_batch_and_later_runs_go_on(tmp_path):
    whole, parts = (with_rules(tmp_path / name, FIXTURES) for name in ("whole.db", "parts.db"))
    run(whole, reextract=True)
    runs = 0
    while run(parts, reextract=True, batch_size=20, time_budget=0).stopped == "time-budget":
        runs += 1
    assert runs > 2
    assert_same(whole, parts)


def test_after_an_interrupted_ingest_it_does_not_settle_what_that_left_open(tmp_path):
    db, file = tmp_path / "memory.db", talk(tmp_path)
    horizon = "SELECT value FROM meta WHERE key = 'recall_horizon'"
    run(db, file, limit=4, batch_size=2, profile="small", profiles=SMALL)
    add_rule(db, "kettle")
    assert reextract(db).windows_processed > 0
    assert query(db, horizon) == [(0,)]
    run(db, file, profile="small", profiles=SMALL)
    assert query(db, horizon) == query(db, "SELECT max(id) FROM memories")
    add_rule(db, "spoons")
    reextract(db)
    assert query(db, horizon) == query(db, "SELECT max(id) FROM memories")


class Counting(sqlite3.Connection):
    """Counts calls."""

    calls: ClassVar = Counter()

    def execute(self, *arguments):
        self.calls["execute"] += 1
        return super().execute(*arguments)

    def executemany(self, *arguments):
        self.calls["executemany"] += 1
        return super().executemany(*arguments)


def test_the_number_of_statements_does_not_depend_on_the_windows_of_a_batch(tmp_path, monkeypatch):
    connect, spent = sqlite3.connect, []
    for number in (20, 200):
        db = tmp_path / f"{number}.db"
        records = [flat(f"The kettle {n} stands in row {n}.", id=str(n), session_id=str(n % 9)) for n in range(number)]
        run(db, write(tmp_path / f"{number}.jsonl", *records), profile="small", profiles=SMALL)
        add_rule(db, "kettle")
        with monkeypatch.context() as patch:
            patch.setattr(store_db.sqlite3, "connect", lambda *args, **named: connect(*args, factory=Counting, **named))
            Counting.calls = Counter()
            report = reextract(db)
        assert report.batches == 1
        spent.append(Counting.calls)
    assert spent[0] == spent[1]


def prepared(folder, data, nursery):
    """A home with a database of a hundred messages and a rule that they have not seen."""
    home = Home(folder, data, nursery)
    records = [flat(f"The kettle {n} stands in row {n % 7}.", id=str(n), session_id=str(n % 5)) for n in range(100)]
    write_jsonl(home.folder / "talk.jsonl", records)
    assert home.run("ingest", home.folder / "talk.jsonl", "--extract", "verbatim").code == 0
    assert home.run("rules", "add", "kettle", "--name", "k").code == 0
    return home


def test_killed_at_any_moment_it_goes_on_with_the_same_result(tmp_path, nursery):
    command = ("ingest", "--reextract", "--batch-size", "20", "--quiet")
    whole = prepared(tmp_path / "whole", tmp_path / "data", nursery)
    nursery.run(whole, *command, trace=True)
    assert whole.rows("SELECT count(*) FROM memories WHERE extraction_method = 'rules:k'") == [(100,)]
    for number, moment in enumerate(("before:60", "after:90", "before:130", "stage:9", "stage:20", "commit:3:5000")):
        home = prepared(tmp_path / str(number), tmp_path / "data", nursery)
        killed = nursery.run(home, *command, moment=f"KILL:{moment}")
        assert killed.code in {-signal.SIGKILL, -signal.SIGXFSZ}, (moment, killed)
        assert nursery.run(home, *command).code == 0
        assert home.rows("SELECT count(*) FROM runs WHERE status = 'running'") == [(0,)], moment
        found, expected = logical(home.db), logical(whole.db)
        for name in expected:
            if name not in {"messages", "files"}:
                assert found[name] == expected[name], (moment, name)
