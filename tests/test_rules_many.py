"""Thousands of rules: all of them work, and what they find is what each finds alone."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memcli.extract.rules import Rule, RuleExtractor
from memcli.model import Part, Window

WORDS = ["tea", "milk", "sugar", "cake", "spoon", "cup", "saucer", "kettle"]


def rule(number, pattern, **changes):
    return Rule(
        **{
            "id": f"r{number}",
            "name": f"r{number}",
            "pattern": pattern,
            "type": "semantic",
            "importance": 0.5,
            **changes,
        }
    )


def ten_thousand():
    """Literal, simple and alternative patterns in equal parts, each with a word of its own."""
    draw = random.Random(11)  # noqa: S311 - test data
    made = []
    for number in range(10_000):
        kind = number % 3
        pattern = (
            rf"\bword{number}x (?:is|was) here\b",
            f"word{number}x * {draw.choice(WORDS)}*",
            rf"(word{number}x|{draw.choice(WORDS)}{number}x).*(here|there)",
        )[kind]
        made.append(
            rule(
                number,
                pattern,
                kind="simple" if kind == 1 else "regex",
                keep=draw.choice(["match", "sentence", "message"]),
                roles=draw.choice(["user", "both"]),
                agent=draw.choice([None, None, "anna"]),
            )
        )
    return made


@pytest.fixture(scope="module")
def many():
    return RuleExtractor(ten_thousand())


def test_ten_thousand_rules_compile(many):
    assert many.problems == []
    assert len(many.compiled) == 10_000


@pytest.mark.parametrize("number", [0, 1, 2, 63, 64, 65, 4_999, 9_998, 9_999])
def test_of_ten_thousand_rules_the_one_that_hits_is_named(many, number):
    text = f"Hm. The word{number}x is here with the tea, milk, sugar, cake, spoon, cup, saucer and kettle. Well."
    assert [each.id for each in many.hits("anna", "user", text)] == [f"r{number}"]
    (found,) = many.extract(Window(1, 1, "anna", (Part(7, "user", text),))).candidates
    assert found.method == f"rules:r{number}"
    (source,) = found.sources
    assert found.content == text[source.start : source.end]


def test_of_ten_thousand_rules_those_of_others_stay_silent(many):
    for compiled in many.compiled[:300]:
        text = f"{compiled.rule.id.replace('r', 'word')}x is here, {' '.join(WORDS)}"
        assert len(many.hits("bert", "user", text)) == (compiled.rule.agent is None)
        assert len(many.hits("anna", "assistant", text)) == (compiled.rule.roles == "both")


PATTERNS = ["tea", "^milk", "cake$", "cup.*spoon", "(?:sugar|kettle)", "saucer", r"\btea cup\b", "[a-c]ake"]
RULES = st.lists(
    st.builds(
        rule,
        st.integers(0, 10**6),
        st.sampled_from(PATTERNS),
        keep=st.sampled_from(["match", "sentence", "message"]),
        type=st.sampled_from(["semantic", "episodic"]),
        importance=st.sampled_from([0.2, 0.5]),
        roles=st.sampled_from(["user", "assistant", "both"]),
        agent=st.sampled_from([None, "anna", "bert"]),
        case_sensitive=st.booleans(),
    ),
    max_size=12,
    unique_by=lambda each: each.id,
)
TEXTS = st.lists(st.sampled_from([*WORDS, "Tea", "tea cup", ". ", "! ", "\n\n"]), max_size=8).map(" ".join)


@settings(max_examples=150, deadline=None)
@given(RULES, TEXTS, st.sampled_from(["anna", "bert"]), st.sampled_from(["user", "assistant", "tool"]))
def test_together_rules_hit_what_each_hits_alone(rules, text, agent, role):
    together = {each.id for each in RuleExtractor(rules).hits(agent, role, text)}
    alone = {each.id for each in rules if RuleExtractor([each]).hits(agent, role, text)}
    assert together == alone


@settings(max_examples=60, deadline=None)
@given(RULES, TEXTS)
def test_how_rules_are_spread_over_sets_changes_nothing(rules, text):
    window = Window(1, 1, "anna", (Part(1, "user", text),))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("memcli.extract.rules._SHARD", 1)
        apart = RuleExtractor(rules).extract(window)
    assert RuleExtractor(rules).extract(window) == apart
