"""Windows as an ingest cuts, keeps and records them: sizes, pending messages, flush, rate, profiles, rows."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support_ingest import Quiet, append, assert_same, flat, logical, query, run, write

from memcli.config import PROFILES, Profile
from memcli.errors import UsageError

# Fifty characters and more, so that every profile keeps them; no two alike.
PLACES = ["the harbour", "the museum", "a boat house", "our bakery", "the old mill", "a tram depot", "the west quay"]
GOODS = ["lanterns", "barrels of salt", "woollen blankets", "brass fittings", "seed potatoes"]


def said(number):
    return f"Crate {number} from {PLACES[number % 7]} holds {GOODS[number % 5]} for the spring market in town."


def message(number, **fields):
    return flat(said(number), id=number, **{"session_id": "s", "timestamp": "2026-03-02T08:00:00Z", **fields})


@pytest.fixture
def db(tmp_path):
    return tmp_path / "memory.db"


@pytest.fixture
def file(tmp_path):
    return tmp_path / "a.jsonl"


def windows(db):
    """Numbers of messages per window."""
    return [len(json.loads(ids)) for (ids,) in query(db, "SELECT source_message_ids FROM windows ORDER BY id")]


def waiting(**changes):
    """Settings under which only full windows close by themselves."""
    profile = Profile("waiting", timeout_minutes=10**8, rate=1.0, tiers=("verbatim",), **{"max_messages": 4, **changes})
    return {"profile": "waiting", "profiles": {"waiting": profile}}


# --- sizes and pending messages --------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 7, 1024])
@pytest.mark.parametrize(("messages", "expected"), [(1, [1]), (20, [20]), (21, [20, 1]), (45, [20, 20, 5])])
def test_the_local_profile_cuts_at_twenty_and_leaves_nothing_over(db, file, messages, expected, batch_size):
    write(file, *(message(number) for number in range(messages)))
    report = run(db, file, batch_size=batch_size)
    assert windows(db) == expected
    assert (report.pending, report.windows_processed) == (0, len(expected))


def test_messages_wait_for_their_window_across_runs(db, file):
    write(file, *(message(number) for number in range(3)))
    report = run(db, file, **waiting())
    assert (report.pending, windows(db), report.created) == (3, [], 0)
    append(file, message(3), message(4))
    report = run(db, file, **waiting())
    assert (report.pending, windows(db), report.created) == (1, [4], 4)
    report = run(db, file, **waiting(), flush=True)
    assert (report.pending, windows(db), report.lines_read) == (0, [4, 1], 0)


def test_flush_closes_partial_windows_of_every_session(db, file):
    write(file, *(message(number, session_id=f"s{number % 3}") for number in range(8)))
    assert run(db, file, **waiting()).pending == 8
    assert run(db, file, **waiting(), flush=True).pending == 0
    assert sorted(windows(db)) == [2, 3, 3]


def test_flush_cuts_what_waits_by_the_profile_of_now(db, file):
    write(file, *(message(number) for number in range(7)))
    run(db, file, **waiting(max_messages=20))
    run(db, file, **waiting(max_messages=3), flush=True)
    assert windows(db) == [3, 3, 1]


def test_sessions_do_not_share_windows(db, file):
    write(file, *(message(number, session_id=f"s{number % 2}", agent_id=f"a{number % 4 // 2}") for number in range(40)))
    run(db, file, batch_size=3)
    rows = query(db, "SELECT w.session_id, m.session_id FROM windows AS w, json_each(w.source_message_ids) AS each,"
                     " messages AS m WHERE m.id = each.value")  # fmt: skip
    assert len(rows) == 40
    assert all(window == of_message for window, of_message in rows)


@pytest.mark.parametrize(("messages", "minutes", "closes"), [(4, 999, False), (5, 50, False), (5, 70, True)])
def test_a_conservative_window_closes_with_five_messages_an_hour_after_the_newest(db, file, messages, minutes, closes):
    newest = datetime.now(UTC) - timedelta(minutes=minutes)
    # The newest message need not be the last of the file.
    times = [newest - timedelta(days=number != 1) for number in range(messages)]
    write(file, *(message(number, timestamp=time.isoformat()) for number, time in enumerate(times)))
    report = run(db, file, profile="conservative", extract=("verbatim",))
    assert windows(db) == ([messages] if closes else [])
    assert report.pending == (0 if closes else messages)


def test_a_window_that_waits_becomes_due_in_a_run_that_finds_nothing_new(db, file):
    write(file, *(message(number) for number in range(6)))
    run(db, file, **waiting(max_messages=20))
    report = run(db, file, profile="conservative", extract=("verbatim",))
    assert (report.lines_read, windows(db), report.pending) == (0, [6], 0)


def test_messages_without_a_time_wait_from_when_they_were_read(db, file):
    write(file, *(message(number, timestamp=None) for number in range(6)))
    assert run(db, file, profile="conservative", extract=("verbatim",)).pending == 6


def test_a_partial_window_stays_open_when_not_all_input_was_read(db, file):
    write(file, *(message(number) for number in range(6)))
    assert run(db, file, limit=5).pending == 5
    assert run(db, file, time_budget=0).stopped == "time-budget"
    run(db, file)
    assert windows(db) == [6]


# --- one run or several ----------------------------------------------------------------------------------------------

streams = st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1, max_size=30)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(streams, st.lists(st.integers(1, 12), max_size=4), st.sampled_from([1, 3, 1024]), st.integers(1, 6))
def test_several_runs_cut_the_windows_of_one_run(tmp_path_factory, stream, cuts, batch_size, size):
    folder = tmp_path_factory.mktemp("runs")
    records = [
        message(number, session_id=session) if kept else flat("ok", id=number, session_id=session)
        for number, (session, kept) in enumerate(stream)
    ]
    file = write(folder / "a.jsonl", *records)
    run(folder / "one.db", file, **waiting(max_messages=size))
    write(file)
    for length in [*cuts, len(records)]:
        append(file, *records[:length])
        run(folder / "several.db", file, **waiting(max_messages=size), batch_size=batch_size)
        del records[:length]
    for db in ("one.db", "several.db"):
        run(folder / db, file, **waiting(max_messages=size), flush=True)
    one, several = logical(folder / "one.db"), logical(folder / "several.db")
    for name in ("windows", "memories", "provenance", "links", "pending", "messages"):
        assert one[name] == several[name]


def test_partial_windows_close_in_the_order_they_began_to_wait_in_batches_of_any_size(tmp_path, file):
    """The first session of the stream is the last whose rest begins to wait."""
    sessions = "b" + "a" * 9 + "bb"
    write(file, *(message(number, session_id=session) for number, session in enumerate(sessions)))
    for size in (1, 5, 1024):
        run(tmp_path / f"{size}.db", file, **waiting(max_messages=2), batch_size=size, flush=True)
        assert [window[2] for window in logical(tmp_path / f"{size}.db")["windows"]] == list("aaaabab")
        assert_same(tmp_path / "1.db", tmp_path / f"{size}.db")


# --- rate and profiles -----------------------------------------------------------------------------------------------


def sampled(db, file, **options):
    write(file, *(message(number) for number in range(40)))
    profile = Profile("half", max_messages=1, timeout_minutes=0, min_messages=1, rate=0.5, tiers=("rules", "verbatim"))
    return run(db, file, profile="half", profiles={"half": profile}, **options)


def test_windows_that_the_rate_leaves_out_are_recorded_without_memories(db, file):
    report = sampled(db, file, rate_applies_to="all")
    skipped = query(db, "SELECT DISTINCT window_id FROM window_tiers WHERE status = 'skipped_by_rate'")
    assert report.windows_skipped_by_rate == len(skipped)
    assert 8 < len(skipped) < 32
    assert report.windows_processed == 40 - len(skipped)
    assert report.created == 40 - len(skipped)
    assert windows(db) == [1] * 40
    rows = query(db, "SELECT w.methods, w.memories_created, count(DISTINCT t.status), min(t.status), count(m.id)"
                     " FROM windows AS w JOIN window_tiers AS t ON t.window_id = w.id"
                     " LEFT JOIN memories AS m ON m.window_id = w.id GROUP BY w.id")  # fmt: skip
    assert {row[:4] for row in rows} == {("[]", 0, 1, "skipped_by_rate"), ('["rules", "verbatim"]', 1, 1, "done")}
    assert all((memories == 0) == (status == "skipped_by_rate") for _, _, _, status, memories in rows)


def test_which_windows_the_rate_takes_does_not_depend_on_batches(tmp_path, file):
    for batch_size in (1, 1024):
        sampled(tmp_path / f"{batch_size}.db", file, rate_applies_to="all", batch_size=batch_size)
    assert_same(tmp_path / "1.db", tmp_path / "1024.db")


def test_free_tiers_see_every_window_unless_the_rate_is_for_all(db, file):
    report = sampled(db, file)
    assert (report.windows_skipped_by_rate, report.windows_processed, report.created) == (0, 40, 40)


def test_an_unknown_profile_warns_and_has_the_rate_of_the_fallback(db, file):
    write(file, *(message(number) for number in range(5)))
    progress = Quiet()
    run(db, file, progress=progress, profile="custmer-support", extract=("verbatim",), flush=True)
    assert any("custmer-support" in note and "0.2" in note for note in progress.notes)
    assert windows(db) == [5]


@pytest.mark.parametrize("profile", [name for name in PROFILES if name != "local"])
def test_a_profile_says_which_of_its_tiers_are_left_out(db, file, profile):
    write(file, message(1))
    progress = Quiet()
    run(db, file, progress=progress, profile=profile, flush=True)
    assert any("small" in note and profile in note for note in progress.notes)
    assert query(db, "SELECT DISTINCT tier, status FROM window_tiers") == [("rules", "done")]


def test_a_tier_that_was_asked_for_and_is_not_there_is_an_error(db, file):
    write(file, message(1))
    with pytest.raises(UsageError, match="premium"):
        run(db, file, extract=("verbatim", "premium"))


def test_the_tiers_that_were_asked_for_are_those_that_run(db, file):
    write(file, message(1), flat("I prefer tea to coffee in the morning.", id=9, session_id="s"))
    run(db, file, extract=("rules",))
    assert query(db, "SELECT content FROM memories") == [("I prefer tea to coffee in the morning.",)]
    assert query(db, "SELECT tier, attempts FROM window_tiers") == [("rules", 1)]


def test_without_starter_rules_nothing_but_verbatim_memories_is_made(db, file):
    write(file, flat("I prefer tea to coffee in the morning."))
    run(db, file, starter_rules=False)
    assert query(db, "SELECT extraction_method FROM memories") == [("verbatim",)]


# --- what a windows row says -----------------------------------------------------------------------------------------


def test_a_windows_row_says_what_was_in_it(db, file):
    records = [message(0), flat("ok", id=1, session_id="s"), message(2, timestamp="2026-03-02T09:30:00Z"), message(3)]
    write(file, *records, message(4, session_id="t"))
    run(db, file)
    columns = "source_message_ids, source_spans, started_at, ended_at, messages_in, messages_kept, messages_filtered"
    rows = query(db, f"SELECT {columns}, memories_created, memories_merged, methods FROM windows ORDER BY id")
    spans = [[0, len(said(number))] for number in (0, 2, 3)]
    times = ("2026-03-02T08:00:00.000Z", "2026-03-02T09:30:00.000Z")
    assert rows[0] == ("[1, 3, 4]", json.dumps(spans), *times, 4, 3, 1, 3, 0, '["rules", "verbatim"]')
    assert rows[1][:1] + rows[1][4:7] == ("[5]", 1, 1, 0)
    assert query(db, "SELECT window_id FROM memories WHERE extraction_method = 'verbatim'") == [(1,), (1,), (1,), (2,)]


def test_messages_in_are_those_kept_and_those_filtered(db, file):
    write(file, *(message(n) if n % 3 else flat("thanks", id=n, session_id="s") for n in range(1, 90)))
    run(db, file, batch_size=10)
    assert query(db, "SELECT count(*) FROM windows WHERE messages_in <> messages_kept + messages_filtered") == [(0,)]
    kept, filtered = query(db, "SELECT sum(messages_kept), sum(messages_filtered) FROM windows")[0]
    assert kept == 60
    # What was dropped between two windows, or behind the last, is in none.
    assert 26 <= filtered <= 29


def test_a_batch_row_names_the_messages_it_added(db, file):
    write(file, message(0), flat("ok", id=1, session_id="s"), message(2), message(0), {"x": 1})
    run(db, file)
    columns = "source_message_ids, lines_read, messages_in, messages_duplicate, messages_kept, messages_filtered"
    first, last = query(db, f"SELECT {columns} FROM batches ORDER BY id")
    assert first == ("[1, 2, 3]", 5, 4, 1, 2, '{"confirmation": 1}')
    assert last == ("[1, 3]", 0, 0, 0, 0, "{}")
    stages = {"read", "filter", "extract", "embed", "dedup", "commit"}
    for (timings,) in query(db, "SELECT timings FROM batches"):
        assert json.loads(timings).keys() == stages
        assert json.loads(timings)["commit"] > 0
