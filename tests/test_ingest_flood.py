"""Thousands of templated lines that differ by a number: none is merged, none is lost, and their pairs stay few."""

import pytest
from support_ingest import flat, query, run, write

LINES = 300


def line(number):
    return f"The nightly job {number} of the billing service has finished without any errors."


@pytest.fixture
def flooded(tmp_path):
    db = tmp_path / "m.db"
    records = [flat(line(number), id=number, session_id=f"s{number // 20}") for number in range(LINES)]
    records.append(flat(f"- **{line(7)}**", id="again", session_id="last"))
    run(db, write(tmp_path / "a.jsonl", *records), extract=("verbatim",))
    return db


def test_a_reformatted_line_finds_its_own_among_hundreds_that_look_alike(flooded):
    assert query(flooded, "SELECT loser_content, winner_content, kind FROM merge_log") == [
        (f"- **{line(7)}**", line(7), "near")
    ]
    assert query(flooded, "SELECT count(*) FROM active_memories") == [(LINES,)]


def test_at_most_five_pairs_are_kept_and_the_rest_is_counted(flooded):
    kept = query(flooded, "SELECT count(*) FROM review_pairs GROUP BY memory_id")
    assert max(kept) == (5,)
    last = query(flooded, "SELECT review_pairs FROM memories WHERE content = ?", line(LINES - 1))
    assert last == [(LINES - 1,)]
