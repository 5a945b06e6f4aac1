from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memcli.tags import group_tags, relevance, valid_tag


@pytest.mark.parametrize(
    ("tag", "valid"),
    [
        ("project:memcli", "project:memcli"),
        (" branch : feature/x:y ", "branch:feature/x:y"),
        ("tool:Ba\x00s\x1bh\n", "tool:Bash"),
        ("model:\ud83d名前", "model:名前"),
        ("project:", None),
        (":value", None),
        ("project", None),
        ("\x07:\x07", None),
        ("", None),
        ("k" * 98 + ":value", "k" * 98 + ":v"),
        ("k" * 99 + ":value", None),
    ],
)
def test_a_tag_has_a_kind_and_a_value_without_control_characters(tag, valid):
    assert valid_tag(tag) == valid


@given(st.text(), st.text())
def test_a_valid_tag_is_short_and_stays_as_it_is(kind, value):
    tag = valid_tag(f"{kind}:{value}")
    if tag is not None:
        assert len(tag) <= 100
        assert valid_tag(tag) == tag


def test_tags_are_grouped_by_session():
    assert group_tags([(1, "a:b"), (2, "a:b"), (1, "c:d"), (1, "a:b")]) == {1: {"a:b", "c:d"}, 2: {"a:b"}}


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
