"""Thousands of templated lines that differ by a number: none is merged, none is lost, and their pairs stay few."""

import numpy as np
import pytest
from support_ingest import flat, query, run, write

from memcli.embed.models import default_model

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
    rows = np.frombuffer(b"".join(raw for (raw,) in query(flooded, "SELECT vectors FROM segments ORDER BY id")), "<f4")
    vectors = rows.reshape(LINES + 1, -1).astype(np.float64)[:LINES]
    near = (vectors[:-1] @ vectors[-1] >= default_model().near_threshold).sum()
    assert near > LINES / 2
    last = query(flooded, "SELECT review_pairs FROM memories WHERE content = ?", line(LINES - 1))
    assert last == [(near,)]


def test_a_flood_meets_the_stored_lines_of_other_runs_and_stores_their_keys(flooded, tmp_path):
    run(
        flooded,
        write(tmp_path / "b.jsonl", *(flat(line(LINES + n), id=f"b{n}") for n in range(70))),
        extract=("verbatim",),
    )
    assert query(flooded, "SELECT count(*) FROM segments WHERE keys IS NULL") == [(0,)]
    run(flooded, write(tmp_path / "c.jsonl", flat(f"- **{line(LINES)}**", id="c")), extract=("verbatim",))
    assert query(flooded, "SELECT winner_content FROM merge_log ORDER BY merge_id DESC LIMIT 1") == [(line(LINES),)]
