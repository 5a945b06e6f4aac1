"""Rule files: what goes out comes in again, in both formats, and does the same."""

from __future__ import annotations

import json
import re
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memcli.errors import UsageError
from memcli.extract.rule_files import RuleFile, check_ids, dump_rules, parse_rules, rule_of, table_of
from memcli.extract.rules import Rule, RuleExtractor, compile_rule, starter_rules
from memcli.model import Part, Window

NAMES = st.text(min_size=1, max_size=20).map(str.strip).filter(lambda text: text and text.isprintable())
PATTERNS = st.one_of(
    st.sampled_from([r"\btea\b", 'it\'s "it"', "'''", "a\tb", "né", r"\Qa\E", "line\nline", "\x7f", "[^\\]]", "🍵"]),
    st.text(min_size=1, max_size=12),
)


def compiles(rule):
    try:
        compile_rule(rule)
    except UsageError:
        return False
    return True


RULES = st.builds(
    Rule,
    id=st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,8}", fullmatch=True).filter(lambda text: not text.startswith("starter-")),
    name=NAMES,
    pattern=PATTERNS.filter(lambda text: "\x00" not in text),
    type=st.sampled_from(["semantic", "episodic", "procedural"]),
    importance=st.floats(0, 1),
    keywords=st.lists(NAMES, max_size=3, unique=True).map(tuple),
    kind=st.sampled_from(["regex", "simple"]),
    keep=st.sampled_from(["match", "sentence", "message"]),
    roles=st.sampled_from(["user", "assistant", "both"]),
    active=st.booleans(),
    agent=st.none() | NAMES,
    case_sensitive=st.booleans(),
).filter(compiles)
FILES = st.builds(
    RuleFile,
    st.lists(RULES, max_size=4, unique_by=(lambda each: each.id, lambda each: (each.agent, each.name))).map(tuple),
    st.lists(st.sampled_from([each.id for each in starter_rules()]), max_size=2, unique=True).map(tuple),
)


@pytest.mark.parametrize("file_format", ["json", "toml"])
@settings(max_examples=200, deadline=None)
@given(file=FILES)
def test_what_goes_out_comes_in_again(file_format, file):
    text = dump_rules(file, file_format)
    text.encode()
    assert parse_rules(text, file_format) == file


@pytest.mark.parametrize("file_format", ["json", "toml"])
@settings(max_examples=60, deadline=None)
@given(file=FILES, text=st.text(max_size=40))
def test_rules_that_went_through_a_file_give_the_same_candidates(file_format, file, text):
    words = " ".join(each.pattern for each in file.rules)
    again = parse_rules(dump_rules(file, file_format), file_format)
    first, second = RuleExtractor(file.rules), RuleExtractor(again.rules)
    for agent in dict.fromkeys(["anna", *(each.agent for each in file.rules if each.agent)]):
        window = Window(1, 1, agent, (Part(1, "user", text), Part(2, "assistant", words.replace("\x00", ""))))
        assert first.extract(window) == second.extract(window)
        assert first.version_for(agent) == second.version_for(agent)


@given(RULES)
def test_a_rule_is_its_table(rule):
    assert rule_of(table_of(rule)) == rule


def test_only_what_differs_from_the_defaults_is_written():
    text = dump_rules(RuleFile((Rule("a1", "tea", r"\btea\b", "semantic", 0.5),)), "json")
    assert json.loads(text) == {"rules": [{"id": "a1", "name": "tea", "pattern": r"\btea\b"}]}


def test_a_pattern_stays_readable_in_toml():
    text = dump_rules(RuleFile((Rule("a1", "tea", r"\btea\b", "semantic", 0.9),)), "toml")
    assert r"pattern = '\btea\b'" in text
    assert tomllib.loads(text)["rules"][0]["pattern"] == r"\btea\b"


def test_a_file_written_by_hand_needs_a_name_and_a_pattern_only():
    (rule,) = parse_rules('[[rules]]\nname = "tea"\npattern = "tea|chai"\n', "toml").rules
    assert rule == Rule("", "tea", "tea|chai", "semantic", 0.5)
    assert parse_rules('[{"name": "tea", "pattern": "tea|chai"}]', "json").rules == (rule,)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"patern": "x"}, 'unknown key patern: did you mean "pattern"'),
        ({"pattern": None}, "pattern must be a text"),
        ({"pattern": "x" * 30_000}, "pattern must be a text of 1 to 20,000"),
        ({"type": "fact"}, "type must be one of semantic, episodic, procedural, not 'fact'"),
        ({"importance": 1.1}, "importance must be a number from 0 to 1"),
        ({"importance": True}, "importance must be a number"),
        ({"importance": float("nan")}, "importance must be a number"),
        ({"keywords": "a,b"}, "keywords must be a list"),
        ({"keywords": ["a", ""]}, "keywords must be a list"),
        ({"kind": "glob"}, "kind must be one of regex, simple"),
        ({"keep": "word"}, "keep must be one of match, sentence, message"),
        ({"roles": "system"}, "roles must be one of user, assistant, both"),
        ({"active": "yes"}, "active must be true or false"),
        ({"id": "a b"}, "id must be"),
        ({"id": "starter-mine"}, "id must be"),
        ({"name": "a\nb"}, "name must be a name of 1 to 80"),
        ({"agent": ""}, "agent must be"),
    ],
)
def test_a_wrong_rule_is_named_with_its_number_and_what_is_allowed(table, says):
    text = json.dumps({"rules": [{"name": "good", "pattern": "x"}, {"name": "bad", "pattern": "y", **table}]})
    with pytest.raises(ValueError, match="rule 2") as caught:
        parse_rules(text, "json")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "file_format", "says"),
    [
        ("{", "json", "not valid JSON"),
        ("[[rules]", "toml", "not valid TOML"),
        ("3", "json", "holds a list"),
        ('{"rules": {}}', "json", "holds a list"),
        ('{"rulez": []}', "json", "unknown key rulez"),
        ('{"rules": [3]}', "json", "rule 1: it is no table"),
        ('{"rules": [{"name": "x"}]}', "json", r"rule 1 (x): pattern is missing"),
        ('{"disabled_starter_rules": 3}', "json", "disabled_starter_rules must be a list"),
        ("[" * 100_000, "json", "not valid JSON"),
    ],
)
def test_a_file_that_is_none_is_refused(text, file_format, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        parse_rules(text, file_format)


def test_two_rules_of_a_file_are_not_the_same():
    one, other = Rule("a", "tea", "x", "semantic", 0.5), Rule("b", "milk", "x", "semantic", 0.5)
    check_ids([one, other, Rule("c", "tea", "x", "semantic", 0.5, agent="anna")])
    for same in (Rule("a", "cake", "x", "semantic", 0.5), Rule("c", "tea", "y", "semantic", 0.5)):
        with pytest.raises(ValueError, match="two rules"):
            check_ids([one, other, same])
