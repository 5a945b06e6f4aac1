"""Undo gives back what was: after a dedup, after any number of them, in any order, along with the indexes."""

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support_dedup import accept, dedup, explain, reject, review, undo
from support_ingest import assert_sound, flat, logical, memories, query, run, write

from memcli.errors import UsageError

TEXTS = (
    "The deploy window is closed for 5% of users.",
    "The deploy window is closed for five percent of users.",
    "**the deploy window is closed for 5% of users**",
    "The deploy window is not closed for 5% of users.",
    "The deploy window is closed for 5% of users at 10:00.",
    "We decided to use Postgres for billing.",
    "- We decided to use Postgres for billing!",
    "We decided to use Postgres 12 for billing.",
)
NEVER = 1.01
PLENTY = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def records(places):
    return [
        flat(TEXTS[place], id=number, session_id=f"s{number // 3}", agent_id="ab"[number % 5 == 0])
        for number, place in enumerate(places)
    ]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Databases by what went in: an example of hypothesis begins with a copy."""
    made = {}

    def prepare(places, tiers, threshold):
        key = (tuple(places), tiers, threshold)
        if key not in made:
            folder = tmp_path_factory.mktemp("db")
            path = write(folder / "chat.jsonl", *records(places))
            run(folder / "m.db", path, extract=tiers, near_threshold=threshold, flush=True)
            made[key] = folder / "m.db"
        return made[key]

    return prepare


STREAMS = [tuple(range(8)), (6, 5, 0, 1, 2, 0, 1, 3, 4, 7, 5, 5), (3, 2, 2, 1, 0, 0, 4, 6, 7, 5)]
TIERS = [("verbatim",), ("rules", "verbatim")]


def assert_given_back(after, before):
    """Everything is as it was, but that pairs which an undo parted count as rejected."""
    for name in before:
        if name != "reviews":
            assert after[name] == before[name], f"{name} differ"
    rejected = {row[:2] for row in after["reviews"] if row[-1] == "rejected"}
    assert {row[:2] for row in after["reviews"]} >= {row[:2] for row in before["reviews"]}
    assert [row for row in after["reviews"] if row[:2] not in rejected] == [
        row for row in before["reviews"] if row[:2] not in rejected
    ]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("dedup"), st.sampled_from([0.6, 0.7, 0.8, 0.9]), st.sampled_from([1, 3, 100])),
        st.tuples(st.just("across"), st.sampled_from(["across_types", "across_agents"]), st.just(0.8)),
        st.tuples(st.just("rethreshold"), st.sampled_from([0.6, 0.8, 0.95]), st.just(2)),
        st.tuples(st.just("accept"), st.integers(0, 9), st.none()),
        st.tuples(st.just("reject"), st.integers(0, 9), st.none()),
        st.tuples(st.just("undo-merge"), st.integers(0, 9), st.none()),
    ),
    min_size=1,
    max_size=5,
)


# Undoing the merge of a duplicate of a merged text undoes that text's merge: none that the ingest made.
LATER = """
SELECT g.id FROM merges AS g JOIN memories AS l ON l.id = g.loser_id
WHERE g.ended_at IS NULL AND g.run_id > 1 AND NOT EXISTS (
    SELECT 1 FROM merges AS o JOIN memories AS m ON m.id = o.loser_id
    WHERE o.run_id = 1 AND o.ended_at IS NULL AND o.winner_id = g.winner_id AND m.content_hash = l.content_hash)
"""


def take(db, step):
    """Do a step; the run that it made, if any."""
    kind, one, other = step
    if kind == "dedup":
        return dedup(db, threshold=one, batch_size=other).run_id
    if kind == "across":
        return dedup(db, threshold=other, **{one: True}).run_id
    if kind == "rethreshold":
        return dedup(db, threshold=one, rethreshold=True, batch_size=other).run_id
    if kind == "undo-merge":
        live = query(db, LATER)
        return undo(db, merge_id=live[one % len(live)][0]).run_id if live else None
    pairs = review(db)
    if not pairs:
        return None
    return (accept if kind == "accept" else reject)(db, pairs[one % len(pairs)].id).run_id


@PLENTY
@given(stream=st.sampled_from(STREAMS), tiers=st.sampled_from(TIERS), steps=steps, data=st.data())
def test_undoing_every_run_in_any_order_gives_back_the_database(prepared, stream, tiers, steps, data):
    source = prepared(stream, tiers, 0.95)
    with tempfile.TemporaryDirectory() as folder:
        db = Path(shutil.copy(source, folder))
        before = logical(db)
        runs = [run_id for step in steps if (run_id := take(db, step)) is not None and step[0] != "undo-merge"]
        assert_sound(db)
        for run_id in data.draw(st.permutations(runs)):
            # A run that has merged nothing, or whose only merge was undone before, has nothing to undo.
            with suppress(UsageError):
                undo(db, run_id=run_id)
            assert_sound(db)
        assert_given_back(logical(db), before)


@PLENTY
@given(stream=st.sampled_from(STREAMS), threshold=st.sampled_from([0.6, 0.8, 0.9]), tiers=st.sampled_from(TIERS))
def test_what_was_undone_is_not_merged_again_by_any_threshold(prepared, stream, threshold, tiers):
    with tempfile.TemporaryDirectory() as folder:
        db = Path(shutil.copy(prepared(stream, tiers, NEVER), folder))
        report = dedup(db, threshold=threshold)
        made = query(db, "SELECT loser_id, winner_id FROM merges WHERE run_id = ?", report.run_id)
        undo(db, run_id=report.run_id)
        assert dedup(db, threshold=threshold).run_id is None
        dedup(db, threshold=threshold - 0.1)
        assert not {*made} & {*query(db, "SELECT loser_id, winner_id FROM merges WHERE ended_at IS NULL")}


def test_undoing_an_ingest_parts_exact_duplicates_too_and_both_are_found(tmp_path):
    db = tmp_path / "m.db"
    same = [flat(TEXTS[0], id=1), flat(TEXTS[5], id=2), flat(TEXTS[0], id=3, session_id="other")]
    run(db, write(tmp_path / "a.jsonl", *same), extract=("verbatim",))
    assert [mentions for _, mentions in memories(db)] == [2, 1]
    report = undo(db, run_id=1)
    assert (report.undone, report.active) == (1, 1)
    assert memories(db) == [(TEXTS[0], 1), (TEXTS[5], 1), (TEXTS[0], 1)]
    assert_sound(db)
    assert {row[0] for row in query(db, "SELECT rowid FROM memories_fts WHERE memories_fts MATCH 'deploy'")} == {1, 3}
    # Segments of earlier and later batches still merge into one whose ids ascend.
    for number in range(6):
        run(db, write(tmp_path / f"{number}.jsonl", flat(f"Fact {number} of the day is noted.", id=f"x{number}")))
    assert_sound(db)
    assert explain(db, 3).nearest[0].memory.id == 1


def test_a_later_duplicate_of_an_undone_text_goes_with_it(tmp_path):
    db = tmp_path / "m.db"
    run(db, write(tmp_path / "a.jsonl", *records([0, 1])), extract=("verbatim",), agent="a")
    run(db, write(tmp_path / "b.jsonl", flat(TEXTS[1], id="late", session_id="z")), extract=("verbatim",), agent="a")
    assert query(db, "SELECT loser_id, winner_id, kind FROM merges") == [(2, 1, "near"), (3, 1, "exact")]
    report = undo(db, run_id=1)
    assert (report.undone, report.moved) == (1, 1)
    assert query(db, "SELECT loser_id, winner_id, kind FROM merges WHERE ended_at IS NULL") == [(3, 2, "exact")]
    undo(db, run_id=2)
    assert len(memories(db)) == 3
    assert_sound(db)


def test_undoing_the_merge_of_a_duplicate_of_a_merged_text_undoes_that_text(tmp_path):
    db = tmp_path / "m.db"
    run(db, write(tmp_path / "a.jsonl", *records([5, 0, 1, 1])), extract=("verbatim",), agent="a")
    ((near, _), (exact, _)) = query(db, "SELECT id, kind FROM merges ORDER BY kind DESC")
    undo(db, merge_id=exact)
    assert query(db, "SELECT loser_id, winner_id, kind FROM merges WHERE ended_at IS NULL") == [(4, 3, "exact")]
    with pytest.raises(UsageError, match="has ended already"):
        undo(db, merge_id=near)


def test_undoing_an_accepted_pair_takes_the_pairs_off_the_list_that_it_put_there(prepared, tmp_path):
    db = Path(shutil.copy(prepared(STREAMS[2], ("verbatim",), 0.95), tmp_path))
    dedup(db, threshold=0.8, across_agents=True)
    before = review(db)
    accepted = accept(db, next(pair.id for pair in before if (pair.memory, pair.other) == (2, 1)))
    assert {(pair.memory, pair.other) for pair in review(db)} - {(pair.memory, pair.other) for pair in before}
    undo(db, run_id=accepted.run_id)
    assert {pair.id for pair in review(db)} == {pair.id for pair in before if (pair.memory, pair.other) != (2, 1)}


@pytest.mark.parametrize("wanted", [{"run_id": 99}, {"merge_id": 99}])
def test_what_does_not_exist_cannot_be_undone(tmp_path, wanted):
    run(tmp_path / "m.db", write(tmp_path / "a.jsonl", *records([0])))
    with pytest.raises(UsageError, match=r"there is no (run|merge) 99"):
        undo(tmp_path / "m.db", **wanted)


def test_a_run_without_merges_has_nothing_to_undo(tmp_path):
    run(tmp_path / "m.db", write(tmp_path / "a.jsonl", *records([0])))
    with pytest.raises(UsageError, match="merged nothing"):
        undo(tmp_path / "m.db", run_id=1)
