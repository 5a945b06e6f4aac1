from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from memcli.tags import relevance


def test_relevance_is_the_share_of_the_source_sessions_that_carry_the_tag():
    shares = relevance({1, 2, 3, 4}, {"project:x": {1, 2, 3, 4}, "tool:y": {2, 9}, "model:z": {9}})
    assert shares == {"project:x": 1.0, "tool:y": 0.25}


def test_a_session_named_twice_counts_once():
    assert relevance([1, 1, 2], {"a:b": [1, 1]}) == {"a:b": 0.5}


def test_a_memory_without_sessions_has_no_tags():
    assert relevance([], {"a:b": [1]}) == {}


@given(st.sets(st.integers(0, 9)), st.dictionaries(st.text(), st.sets(st.integers(0, 9))))
def test_relevance_is_above_nought_and_at_most_one(members, sessions_by_tag):
    assert all(0 < share <= 1 for share in relevance(members, sessions_by_tag).values())
