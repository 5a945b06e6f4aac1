"""Windows: consecutive messages of one session, cut when full, closed by the profile's rules."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from memcli.config import PROFILES, Profile
from memcli.ingest.windows import cut_all, cut_full, is_due, is_sampled
from memcli.model import Part

NOON = datetime(2026, 3, 5, 12, 0, tzinfo=UTC)


def part(number):
    return Part(number, "user", f"text {number}")


streams = st.lists(st.integers(0, 3), max_size=60).map(lambda sessions: [(s, part(i)) for i, s in enumerate(sessions)])


@given(streams, st.integers(1, 7), st.lists(st.integers(1, 20), max_size=6))
def test_windows_do_not_depend_on_how_the_stream_is_cut_into_batches(stream, size, cuts):
    whole = cut_full({}, stream, size)
    closed, pending = [], {}
    start = 0
    for length in [*cuts, len(stream)]:
        cut = cut_full(pending, stream[start : start + length], size)
        closed += cut.closed
        for session_id in cut.windowed:
            pending.pop(session_id, None)
        for session_id, waiting in cut.waiting:
            pending.setdefault(session_id, []).append(waiting)
        start += length
    assert tuple(closed) == whole.closed
    assert sorted((s, p.message_id) for s, ps in pending.items() for p in ps) == sorted(
        (s, p.message_id) for s, p in whole.waiting
    )


@given(streams, st.integers(1, 7))
def test_every_part_is_in_one_window_or_waits_and_order_is_kept(stream, size):
    cut = cut_full({}, stream, size)
    assert all(len(parts) == size for _, parts in cut.closed)
    for session in {s for s, _ in stream}:
        windowed = [p for s, parts in cut.closed if s == session for p in parts]
        waiting = [p for s, p in cut.waiting if s == session]
        assert windowed + waiting == [p for s, p in stream if s == session]


def test_what_waited_longer_than_a_smaller_profile_allows_is_cut_at_once():
    cut = cut_full({1: [part(i) for i in range(7)]}, [(1, part(7))], 3)
    assert [len(parts) for _, parts in cut.closed] == [3, 3]
    assert [p.message_id for _, p in cut.waiting] == [6, 7]
    assert cut.windowed == (1,)


def test_cut_all_leaves_nothing():
    assert [len(parts) for _, parts in cut_all(1, [part(i) for i in range(7)], 3)] == [3, 3, 1]


def test_the_local_profile_closes_any_partial_window_at_once():
    assert is_due(1, NOON.isoformat(), PROFILES["local"], NOON)


def test_a_partial_window_waits_for_the_timeout_and_the_minimum():
    profile = Profile("p", timeout_minutes=60, min_messages=5)
    assert not is_due(4, "2020-01-01T00:00:00.000Z", profile, NOON)
    assert not is_due(5, "2026-03-05T11:00:00.001Z", profile, NOON)
    assert is_due(5, "2026-03-05T11:00:00.000Z", profile, NOON)
    assert is_due(5, None, profile, NOON)


def test_sampling_is_repeatable_and_keeps_about_its_rate():
    drawn = [is_sampled("a", 1, (i, 0), 0.3) for i in range(4000)]
    assert drawn == [is_sampled("a", 1, (i, 0), 0.3) for i in range(4000)]
    assert 0.27 < sum(drawn) / len(drawn) < 0.33
    assert all(is_sampled("a", 1, (i, 0), 1.0) for i in range(100))
    assert not any(is_sampled("a", 1, (i, 0), 0.0) for i in range(100))
