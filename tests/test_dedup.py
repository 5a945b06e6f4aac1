"""Dedup of what is stored: as one ingest at that threshold would leave it, at the cost of what is new."""

import shutil
import tempfile
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support_dedup import accept, content, counting, dedup, explain, reject, review, undo
from support_ingest import append, assert_sound, flat, memories, query, run, write
from support_search import search

from memcli.commands.stats import stats
from memcli.config import Config
from memcli.errors import UsageError
from memcli.ingest.resolve import Resolver
from memcli.store import memories as memory_rows

WINDOW = "The deploy window is closed for 5% of users."
SPELLED = "The deploy window is closed for five percent of users."
MARKED = "**the deploy window is closed for 5% of users**"
NOT = "The deploy window is not closed for 5% of users."
TEXTS = (
    WINDOW,
    SPELLED,
    MARKED,
    NOT,
    "The deploy window is closed for 5% of users!",
    "We decided to use Postgres for billing.",
    "- We decided to use Postgres for billing!",
    "We decided to use Postgres 12 for billing.",
    "I prefer coffee without sugar.",
    "I prefer coffee without sugar",
    "The user prefers coffee without sugar.",
)
NEVER = 1.01
QUICK = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def talk(places, agents="a", texts=TEXTS):
    return [
        flat(texts[place], id=number, session_id=f"s{number // 4}", agent_id=agents[number % len(agents)])
        for number, place in enumerate(places)
    ]


def ingest(db, records, threshold, *, rules_later):
    path = write(db.parent / "chat.jsonl", *records)
    if rules_later:
        run(db, path, near_threshold=threshold, extract=("verbatim",), flush=True)
        run(db, near_threshold=threshold, extract=("rules", "verbatim"), reextract=True)
    else:
        run(db, path, near_threshold=threshold, extract=("rules", "verbatim"), flush=True)


def links(db):
    return query(db, "SELECT loser_id, winner_id, kind FROM merges WHERE ended_at IS NULL ORDER BY loser_id")


# --- as an ingest ----------------------------------------------------------------------------------------------------


@QUICK
@given(
    places=st.lists(st.integers(0, len(TEXTS) - 1), min_size=2, max_size=24),
    agents=st.sampled_from(["a", "aab"]),
    rules_later=st.booleans(),
    first=st.sampled_from([NEVER, 0.95, 0.8]),
    batch=st.sampled_from([1, 2, 5, 1024]),
)
def test_dedup_leaves_what_one_ingest_at_that_threshold_leaves(places, agents, rules_later, first, batch):
    with tempfile.TemporaryDirectory() as folder:
        at_once, later = Path(folder, "at-once.db"), Path(folder, "later.db")
        ingest(at_once, talk(places, agents), 0.8, rules_later=rules_later)
        ingest(later, talk(places, agents), first, rules_later=rules_later)
        before = query(later, "SELECT * FROM merges ORDER BY id")
        report = dedup(later, threshold=0.8, batch_size=batch)
        one, other = content(at_once), content(later)
        for name in one:
            assert other[name] == one[name], f"{name} differ"
        assert_sound(later)
        if first == 0.8:
            assert query(later, "SELECT * FROM merges ORDER BY id") == before, "unchanged content, other rows"
            assert report.near + report.exact + report.moved + report.released == 0


TICKETS = (
    *TEXTS,
    *(f"Ticket SUP-{number} waits for the night shift of the support team." for number in range(6)),
    "Ticket SUP-3 waits for the night shift of the support team!",
)


def judged(db, talks, batch, *, everything):
    """What one ingest of verbatim memories, the user's decisions, and a second one with rules leave behind."""
    survey = Resolver.survey
    unsifted = patch.object(
        Resolver, "survey", lambda self, plan, vectors, more=(), **_: survey(self, plan, vectors, more)
    )
    with unsifted if everything else nullcontext():
        first = write(db.parent / "first.jsonl", *talks[0])
        run(db, first, near_threshold=0.2, extract=("verbatim",), flush=True, batch_size=batch)
        for number, pair in enumerate(review(db)[:3]):
            (accept if number % 2 else reject)(db, pair.id)
        second = write(db.parent / "second.jsonl", *talks[1])
        run(db, second, near_threshold=0.2, extract=("rules", "verbatim"), flush=True, batch_size=batch)
        run(db, near_threshold=0.2, extract=("rules", "verbatim"), reextract=True, batch_size=batch)
    kept = query(db, "SELECT id, content, type, verdict, review_pairs FROM memories ORDER BY id")
    pairs = query(db, "SELECT memory_id, other_id, cosine, gates_failed, status FROM review_pairs ORDER BY 1, 2")
    return kept, pairs, query(db, "SELECT loser_id, winner_id, kind, cosine, ended_reason FROM merges ORDER BY id")


@QUICK
@given(
    talks=st.tuples(*[st.lists(st.integers(0, len(TICKETS) - 1), min_size=2, max_size=24)] * 2),
    agents=st.sampled_from(["a", "aab"]),
    batch=st.sampled_from([1, 3, 1024]),
)
def test_pairs_that_are_only_counted_change_nothing(talks, agents, batch):
    records = [talk(places, agents, TICKETS) for places in talks]
    for number, record in enumerate(records[1]):
        record.update(id=1000 + number, session_id=f"t{number // 4}")
    with tempfile.TemporaryDirectory() as folder:
        sifted, whole = Path(folder, "a"), Path(folder, "b")
        for each in (sifted, whole):
            each.mkdir()
        found = judged(sifted / "m.db", records, batch, everything=False)
        assert found == judged(whole / "m.db", records, batch, everything=True)


@pytest.mark.parametrize("batch", [1, 1024])
def test_a_memory_that_is_replaced_meanwhile_does_not_count_any_more(tmp_path, batch):
    decided, plain = "We decided to use Postgres for ticket SUP-1.", "Ticket SUP-{} is about Postgres."
    talks = [
        [flat(decided, id=1, session_id="a")],
        [
            flat(text, id=10 + place, session_id=f"b{place}")
            for place, text in enumerate((plain.format(2), decided, plain.format(3)))
        ],
    ]
    found = []
    for name in ("sifted", "whole"):
        (tmp_path / name).mkdir()
        with patch("memcli.ingest.resolve.REVIEWED_COSINE", 2.0), patch("memcli.dedup.judge.REVIEWED_COSINE", 2.0):
            found.append(judged(tmp_path / name / "m.db", talks, batch, everything=name == "whole"))
    assert found[0] == found[1]
    assert any(ended is None and kind == "exact" for *_, kind, _, ended in found[0][2]), "nothing was replaced"


def test_a_memory_that_only_counts_is_read_once_a_run(tmp_path, monkeypatch):
    """Many memories are like many later ones: a batch must not read the same ones as the batch before."""
    read, by_id = [], memory_rows.by_id
    monkeypatch.setattr(memory_rows, "by_id", lambda store, ids: read.extend(ids) or by_id(store, ids))
    texts = [
        f"Ticket SUP-{number} waits for shift {number} of the {'ABCDEFGH'[number % 8] * 4} team."
        for number in range(80)
    ]
    db = tmp_path / "m.db"
    path = write(tmp_path / "a.jsonl", *talk(range(80), texts=texts))
    run(db, path, near_threshold=0.3, extract=("verbatim",), flush=True, batch_size=10)
    counted = query(db, "SELECT sum(review_pairs) FROM memories")[0][0]
    listed = query(db, "SELECT count(*) FROM review_pairs")[0][0]
    assert counted > 1000 > 4 * listed
    assert len(read) < 80 + 2 * listed


def test_the_report_counts_what_was_compared_and_what_came_of_it(tmp_path):
    db = tmp_path / "m.db"
    run(db, write(tmp_path / "a.jsonl", *talk([0, 1, 3, 5, 0])), near_threshold=NEVER, extract=("verbatim",))
    report = dedup(db, threshold=0.9)
    assert (report.examined, report.compared) == (5, 6)  # the exact duplicate has no vector of its own
    assert (report.near, report.moved, report.review, report.new) == (1, 0, 1, 2)
    assert report.candidates >= 2
    assert report.kept_pairs == report.review_pairs == len(review(db))
    assert set(report.timings) == {"scan", "judge", "commit"}
    found = query(db, "SELECT command, status FROM runs WHERE id = ?", report.run_id)
    assert found == [("dedup", "done")]


def test_a_merge_of_an_earlier_dedup_at_a_lower_threshold_stays(tmp_path):
    db = tmp_path / "m.db"
    run(db, write(tmp_path / "a.jsonl", *talk([0, 1])), near_threshold=NEVER, extract=("verbatim",))
    assert dedup(db, threshold=0.9).near == 1
    assert dedup(db, threshold=0.99).run_id is not None
    assert links(db) == [(2, 1, "near")]


# --- cost ------------------------------------------------------------------------------------------------------------


def test_an_unchanged_database_costs_nothing_and_a_grown_one_the_growth(tmp_path):
    db = tmp_path / "m.db"
    facts = [flat(f"Fact number {n} of the project is noted here.", id=n, session_id=f"s{n}") for n in range(40)]
    path = write(tmp_path / "a.jsonl", *facts[:30])
    run(db, path, near_threshold=NEVER, extract=("verbatim",))
    assert dedup(db, threshold=0.9).compared == 30 * 29 // 2
    rows = query(db, "SELECT count(*) FROM runs")
    again = dedup(db, threshold=0.9)
    assert (again.run_id, again.examined, again.compared, again.batches) == (None, 0, 0, 0)
    assert query(db, "SELECT count(*) FROM runs") == rows
    append(path, *facts[30:])
    run(db, path, near_threshold=NEVER, extract=("verbatim",))
    grown = dedup(db, threshold=0.9)
    assert (grown.examined, grown.compared) == (10, 10 * 30 + 10 * 9 // 2)


def test_every_threshold_and_scope_has_a_watermark_of_its_own(tmp_path):
    db = tmp_path / "m.db"
    run(db, write(tmp_path / "a.jsonl", *talk([0, 3, 5, 8], "ab")), near_threshold=NEVER, extract=("verbatim",))
    assert dedup(db, threshold=0.9, agent="a").compared == 1
    assert dedup(db, threshold=0.9, agent="a").compared == 0
    assert dedup(db, threshold=0.9).compared == 1  # only b is left
    assert dedup(db, threshold=0.9, agent="b").compared == 0
    assert dedup(db, threshold=0.8).compared == 2
    assert dedup(db, threshold=0.9, across_agents=True).compared == 6
    assert dedup(db, threshold=0.9, across_agents=True).compared == 0
    assert dedup(db, threshold=0.9, across_types=True).compared == 2


def test_other_gates_look_at_everything_again(tmp_path, monkeypatch):
    db = tmp_path / "m.db"
    run(db, write(tmp_path / "a.jsonl", *talk([0, 3])), near_threshold=NEVER, extract=("verbatim",))
    assert dedup(db, threshold=0.9).compared == 1
    monkeypatch.setattr("memcli.maintain.dedup.GATE_VERSION", "next")
    assert dedup(db, threshold=0.9).compared == 1


def test_the_number_of_statements_does_not_grow_with_the_batch(tmp_path):
    def statements(count):
        db = tmp_path / f"{count}.db"
        facts = [flat(f"Fact {n} is noted. {TEXTS[n % 5]}", id=n, session_id=f"s{n}") for n in range(count)]
        run(db, write(tmp_path / f"{count}.jsonl", *facts), near_threshold=NEVER, extract=("verbatim",))
        with counting() as seen:
            dedup(db, threshold=0.9)
        return len(seen)

    assert statements(200) == statements(400)


# --- scope -----------------------------------------------------------------------------------------------------------


def test_agents_are_kept_apart_unless_asked(tmp_path):
    db = tmp_path / "m.db"
    run(db, write(tmp_path / "a.jsonl", *talk([0, 1, 0, 1], "abba")), near_threshold=NEVER, extract=("verbatim",))
    agents = "SELECT l.agent_id, w.agent_id FROM merges AS g JOIN memories AS l ON l.id = g.loser_id JOIN memories AS w"
    agents += " ON w.id = g.winner_id WHERE g.ended_at IS NULL ORDER BY l.id"
    assert dedup(db, threshold=0.9, agent="a").near == 1
    assert query(db, agents) == [("a", "a")]
    assert dedup(db, threshold=0.9).near == 1
    assert sorted(query(db, agents)) == [("a", "a"), ("b", "b")]
    report = dedup(db, threshold=0.9, across_agents=True)
    assert (report.exact + report.near, report.moved) == (1, 1)
    assert {winner for _, winner, _ in links(db)} == {1}
    assert_sound(db)


def test_types_are_kept_apart_unless_asked(tmp_path):
    db = tmp_path / "m.db"
    # The built-in rule makes a semantic memory of a decision; what no rule hits is episodic.
    texts = ["We decided to use Postgres for billing.", "we  decided, to use Postgres for billing"]
    run(
        db,
        write(tmp_path / "a.jsonl", *[flat(text, id=n, session_id=f"s{n}") for n, text in enumerate(texts)]),
        near_threshold=NEVER,
        extract=("rules",),
    )
    run(db, near_threshold=NEVER, extract=("verbatim",), reextract=True)
    before = memories(db)
    assert dedup(db, threshold=0.5, across_types=True).run_id is not None
    assert len(memories(db)) <= len(before)
    assert_sound(db)


def test_an_unknown_agent_is_refused(tmp_path):
    run(tmp_path / "m.db", write(tmp_path / "a.jsonl", *talk([0])))
    with pytest.raises(UsageError, match="no such agent: zoe"):
        dedup(tmp_path / "m.db", agent="zoe")


# --- review ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def doubtful(tmp_path):
    """A database with a pair for review: 2 says the opposite of 1."""
    db = tmp_path / "m.db"
    run(db, write(tmp_path / "chat.jsonl", *talk([0, 3, 5])), near_threshold=NEVER, extract=("verbatim",))
    dedup(db, threshold=0.9)
    return db


def test_pairs_come_strongest_first_with_what_differs(tmp_path):
    db = tmp_path / "m.db"
    run(db, write(tmp_path / "a.jsonl", *talk([0, 3, 5, 7])), near_threshold=NEVER, extract=("verbatim",))
    dedup(db, threshold=0.6)
    pairs = review(db)
    assert [pair.cosine for pair in pairs] == sorted((pair.cosine for pair in pairs), reverse=True)
    assert {gate for pair in pairs for gate in pair.differences} >= {"negation", "numbers"}
    assert all(pair.gates_failed for pair in pairs)


def test_an_accepted_pair_is_merged_by_the_user_and_never_asked_again(doubtful):
    (pair,) = review(doubtful)
    decision = accept(doubtful, pair.id)
    assert (decision.loser, decision.winner) == (2, 1)
    assert review(doubtful) == []
    assert links(doubtful) == [(2, 1, "near")]
    assert query(doubtful, "SELECT gates_passed FROM merge_log") == [('["accepted by review"]',)]
    dedup(doubtful, threshold=0.5)
    dedup(doubtful, threshold=0.99, rethreshold=True)
    assert links(doubtful) == [(2, 1, "near")]
    with pytest.raises(UsageError, match="accepted already"):
        accept(doubtful, pair.id)


def test_a_rejected_pair_is_never_asked_again(doubtful):
    (pair,) = review(doubtful)
    reject(doubtful, pair.id)
    assert review(doubtful) == []
    for threshold in (0.5, 0.7):
        dedup(doubtful, threshold=threshold)
    assert not [each for each in review(doubtful) if {each.memory, each.other} == {1, 2}]
    assert links(doubtful) == []
    with pytest.raises(UsageError, match="rejected already"):
        reject(doubtful, pair.id)
    accept(doubtful, pair.id)
    assert links(doubtful) == [(2, 1, "near")]


@pytest.mark.parametrize("decide", [accept, reject])
def test_a_decision_holds_for_the_same_texts_in_later_batches(tmp_path, decide):
    db = tmp_path / "m.db"
    # The rule that is added later makes a memory of its own out of a text that the user has decided about.
    run(db, write(tmp_path / "a.jsonl", *talk([5, 7])), near_threshold=0.7, extract=("verbatim",))
    (pair,) = review(db)
    decide(db, pair.id)
    run(db, near_threshold=0.7, extract=("rules",), reextract=True)
    assert review(db) == []
    winners = {winner for _, winner, _ in links(db)}
    assert len(memories(db)) == (1 if decide is accept else 2), (links(db), winners)
    assert_sound(db)


def test_accepting_respects_stars(tmp_path):
    db = tmp_path / "m.db"
    # 3 follows 2; whether it says what 1 says is not known from 2 being accepted.
    run(db, write(tmp_path / "a.jsonl", *talk([0, 3, 3, 5])), near_threshold=0.9, extract=("verbatim",))
    assert links(db) == [(3, 2, "exact")]
    (pair,) = review(db)
    decision = accept(db, pair.id)
    assert decision.followed == [3]
    assert links(db) == [(2, 1, "near"), (3, 1, "exact")]
    assert_sound(db)
    undo(db, run_id=decision.run_id)
    assert links(db) == [(3, 2, "exact")]
    assert review(db) == []


def test_a_loser_that_the_evidence_keeps_from_the_new_winner_stands_alone_and_is_asked_about(tmp_path):
    db = tmp_path / "m.db"
    again = "The deploy window is not closed for five percent of users."
    path = write(tmp_path / "a.jsonl", *talk([0, 3]), flat(again, id="x", session_id="x", agent_id="a"))
    run(db, path, near_threshold=0.9, extract=("verbatim",))
    assert links(db) == [(3, 2, "near")]
    decision = accept(db, review(db)[0].id)
    assert (decision.followed, decision.released) == ([], [3])
    assert links(db) == [(2, 1, "near")]
    assert [(pair.memory, pair.other) for pair in review(db)] == [(3, 1)]
    undo(db, run_id=decision.run_id)
    assert links(db) == [(3, 2, "near")]


def test_what_the_user_merged_stays_when_dedup_finds_an_earlier_winner(tmp_path):
    db = tmp_path / "m.db"
    run(db, write(tmp_path / "a.jsonl", *talk([0, 1, 3])), near_threshold=0.95, extract=("verbatim",))
    (pair,) = [each for each in review(db) if (each.memory, each.other) == (3, 2)] or review(db)
    accept(db, pair.id)
    dedup(db, threshold=0.8)
    assert (pair.memory, pair.other) in {(loser, winner) for loser, winner, _ in links(db)}
    assert_sound(db)


def test_a_pair_with_a_memory_that_was_merged_since_is_not_asked(tmp_path):
    db = tmp_path / "m.db"
    run(db, write(tmp_path / "a.jsonl", *talk([0, 1, 3])), near_threshold=NEVER, extract=("verbatim",))
    shutil.copy(db, tmp_path / "copy.db")
    dedup(db, threshold=0.97)
    listed = review(db)
    dedup(db, threshold=0.9)
    assert {each.memory for each in review(db)} == {3}
    for each in [pair for pair in listed if 2 in {pair.memory, pair.other}]:
        with pytest.raises(UsageError, match="was merged into 1 since"):
            accept(db, each.id)


@pytest.mark.parametrize("decide", [accept, reject])
def test_a_pair_that_does_not_exist_cannot_be_decided(doubtful, decide):
    with pytest.raises(UsageError, match="there is no review pair 99"):
        decide(doubtful, 99)


def test_templated_lines_leave_few_pairs_and_all_are_counted(tmp_path):
    db = tmp_path / "m.db"
    lines = [
        flat(f"The nightly job {n} of the billing service has finished.", id=n, session_id=f"s{n // 20}")
        for n in range(300)
    ]
    run(db, write(tmp_path / "a.jsonl", *lines), near_threshold=NEVER, extract=("verbatim",))
    report = dedup(db, threshold=0.8, batch_size=64)
    assert report.near == 0
    assert query(db, "SELECT max(n) FROM (SELECT count(*) AS n FROM review_pairs GROUP BY memory_id)") == [(5,)]
    assert report.review_pairs > report.kept_pairs == len(review(db))


# --- rethreshold -----------------------------------------------------------------------------------------------------


def test_another_threshold_ends_what_is_below_it_and_merges_what_is_above(tmp_path):
    db = tmp_path / "m.db"
    path = write(tmp_path / "a.jsonl", *talk([0, 1, 2, 5, 6]))
    run(db, path, near_threshold=NEVER, extract=("verbatim",))
    dedup(db, threshold=0.6)
    all_links = links(db)
    assert (2, 1, "near") in all_links
    strict = tmp_path / "strict.db"
    run(strict, path, near_threshold=0.99, extract=("verbatim",))
    report = dedup(db, threshold=0.99, rethreshold=True)
    assert report.released == len(all_links) - len(links(strict)) > 0
    assert links(db) == links(strict)
    ended = query(db, "SELECT DISTINCT ended_reason FROM merges WHERE ended_run_id = ?", report.run_id)
    assert ended == [("rethreshold",)]
    assert dedup(db, threshold=0.6, rethreshold=True).near == report.released
    assert links(db) == all_links


# --- what others see -------------------------------------------------------------------------------------------------


def found(db, text):
    (answer,) = search(db, text)
    return [hit["memory_id"] for hit in answer["hits"] if "deploy" in hit["content"]]


def test_search_and_stats_know_of_merges_and_of_their_undoing(tmp_path):
    db = tmp_path / "m.db"
    run(db, write(tmp_path / "a.jsonl", *talk([0, 1, 5])), near_threshold=NEVER, extract=("verbatim",))
    assert sorted(found(db, "deploy percent")) == [1, 2]
    report = dedup(db, threshold=0.9)
    assert found(db, "deploy percent") == [1]
    assert stats(Config(db=db), None).to_json()["counts"]["active"] == 2
    assert stats(Config(db=db), None).to_json()["dedup"]["near"]["memories"] == 1
    undo(db, run_id=report.run_id)
    assert sorted(found(db, "deploy percent")) == [1, 2]
    assert stats(Config(db=db), None).to_json()["counts"]["active"] == 3


def test_an_explanation_names_every_merged_text_and_why_the_nearest_are_not(tmp_path):
    db = tmp_path / "m.db"
    run(db, write(tmp_path / "a.jsonl", *talk([0, 1, 3, 5, 1])), near_threshold=0.9, extract=("verbatim",))
    for asked in (1, 2, 5):
        explanation = explain(db, asked)
        assert explanation.centre.id == 1
        assert [(each.memory_id, each.content, each.kind) for each in explanation.members] == [
            (2, SPELLED, "near"),
            (5, SPELLED, "exact"),
        ]
        assert all(each.cosine >= 0.9 and each.gates_passed and each.run_id == 1 for each in explanation.members)
    nearest = {each.memory.id: each for each in explain(db, 1).nearest}
    assert set(nearest) == {3, 4}
    assert "negation" in nearest[3].reasons
    assert "cosine" in nearest[4].reasons
    reject(db, review(db)[0].id)
    assert "decided" in {each.memory.id: each for each in explain(db, 1).nearest}[3].reasons


def test_the_view_of_merges_tells_an_outsider_all(tmp_path):
    db = tmp_path / "m.db"
    run(db, write(tmp_path / "a.jsonl", *talk([0, 1])), near_threshold=NEVER, extract=("verbatim",))
    report = dedup(db, threshold=0.9)
    undo(db, run_id=report.run_id)
    (row,) = query(
        db,
        "SELECT kind, loser_content, winner_content, agent_id, type, threshold, run_id, command, ended_reason,"
        " ended_run_id FROM merge_log",
    )
    assert row == ("near", SPELLED, WINDOW, "a", "episodic", 0.9, 2, "dedup", "undone", 3)
