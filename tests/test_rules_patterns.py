"""A pattern that RE2 refuses is shown with the place that is wrong and with what to write instead."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memcli.errors import UsageError
from memcli.extract.rules import MAX_PROGRAM, Rule, RuleExtractor, compile_rule, matches, starter_rules
from memcli.model import Part, Window


def rule(pattern, **changes):
    return Rule(**{"id": "r", "name": "r", "pattern": pattern, "type": "semantic", "importance": 0.5, **changes})


def refused(pattern, **changes):
    with pytest.raises(UsageError) as caught:
        compile_rule(rule(pattern, **changes))
    return caught.value


# Where "^" stands is the character that is pointed at.
@pytest.mark.parametrize(
    ("pattern", "caret", "says"),
    [
        ("foo(?=bar)", "   ^", "no look-ahead"),
        ("foo(?!bar)", "   ^", "no look-ahead"),
        ("(?<=foo)bar", "^", "no look-behind"),
        ("x(?<!foo)bar", " ^", "no look-behind"),
        (r"\(?=x(?=y)", "     ^", "no look-ahead"),
        (r"(a)b\1", "    ^", "no back-references"),
        (r"(?P<n>a)(?P=n)", "        ^", "(?P<name>...)"),
        ("a(?>b)", " ^", "no atomic groups"),
        ("a(?(1)b)", " ^", "alternatives"),
        ("a(?#b)", " ^", "the rule's name"),
        ("ab++", "  ^", "never goes back"),
        ("(a", "^", r"\("),
        ("x(a(b[)]", "   ^", r"\("),
        (r"\(a)b", "   ^", r"\)"),
        ("ab[c", "  ^", r"\["),
        ("[b-a]x[z-a]", " ^", "low to high"),
        ("ab\\", "  ^", r"\\"),
        ("*a", "^", r"\*"),
        ("ab{1001}", "  ^", "{1000}"),
        (r"é\Z", " ^", r"\z"),
        (r"\u00e9", "^", r"\x{e9}"),
        (r"\p{Greeek}", "^", r"\p{Greek}"),
    ],
)
def test_a_refused_pattern_has_its_place_and_a_hint(pattern, caret, says):
    error = refused(pattern)
    assert error.excerpt == (pattern, caret.index("^"))
    assert says in error.hint
    assert error.exit_code == 2


@given(st.text(alphabet=r"ab()[]{}*+?|\^$.,<=!:P-1é", max_size=12))
def test_any_pattern_is_taken_or_refused_within_itself(pattern):
    extractor = RuleExtractor([rule(pattern)])
    if not extractor.problems:
        list(matches(compile_rule(rule(pattern)), "a b é (1)"))
        extractor.hits("anna", "user", "a b é (1)")
        return
    error = refused(pattern)
    text, place = error.excerpt
    assert text == pattern
    assert 0 <= place < max(len(pattern), 1)
    assert error.hint


def test_a_pattern_with_a_huge_program_is_refused_with_the_limit():
    error = refused(r"\pL{100}")
    assert f"{MAX_PROGRAM:,}" in error.message
    assert r"\pL" in error.hint
    compile_rule(rule(r"\pL+ \pL+"))


def test_a_pattern_that_is_no_text_is_refused():
    assert "Unicode" in refused("a\ud800").message
    assert "needs a word" in refused("* *", kind="simple").message


@pytest.mark.parametrize("kind", ["regex", "simple"])
def test_a_case_sensitive_rule_tells_capitals_apart(kind):
    sensitive = RuleExtractor([rule("Rust", kind=kind, case_sensitive=True), rule("tea", id="t")])

    def found(text):
        return [c.content for c in sensitive.extract(Window(1, 1, "anna", (Part(1, "user", text),))).candidates]

    assert found("I write Rust.") == ["I write Rust."]
    assert found("rust on the bike") == []
    assert found("TEA and rust") == ["TEA and rust"]


def test_an_alternative_of_a_case_sensitive_rule_is_case_sensitive_too():
    extractor = RuleExtractor([rule("Go|Rust", case_sensitive=True)])
    assert extractor.hits("anna", "user", "rust") == []
    assert extractor.hits("anna", "user", "Rust") != []


# --- whose rules ------------------------------------------------------------------------------------------------------


def test_a_rule_of_an_agent_applies_to_windows_of_that_agent_only():
    extractor = RuleExtractor([rule("tea", agent="anna"), rule("milk", id="m", name="m")])

    def methods(agent):
        parts = (Part(1, "user", "tea"), Part(2, "user", "milk"))
        return [c.method for c in extractor.extract(Window(1, 1, agent, parts)).candidates]

    assert methods("anna") == ["rules:r", "rules:m"]
    assert methods("bert") == ["rules:m"]


def test_the_version_is_that_of_the_rules_that_apply_to_the_agent():
    common = rule("milk", id="m", name="m")
    before = RuleExtractor([common])
    after = RuleExtractor([rule("tea", agent="anna"), common])
    assert before.version_for("bert") == after.version_for("bert")
    assert before.version_for("anna") == before.version_for("bert")
    assert after.version_for("anna") != before.version_for("anna")


@pytest.mark.parametrize(
    "change",
    [
        {"pattern": "teas"},
        {"name": "other"},
        {"type": "episodic"},
        {"importance": 0.6},
        {"keywords": ("k",)},
        {"kind": "simple"},
        {"keep": "match"},
        {"roles": "user"},
        {"case_sensitive": True},
    ],
)
def test_every_edit_that_changes_what_is_extracted_changes_the_version(change):
    assert RuleExtractor([rule("tea")]).version_for("a") != RuleExtractor(
        [rule(**{"pattern": "tea", **change})]
    ).version_for("a")


def test_the_version_is_the_same_in_every_database():
    assert RuleExtractor([rule("tea")]).version_for("a") == RuleExtractor([rule("tea", id="x")]).version_for("a")


def test_the_users_own_rule_decides_among_equally_important_ones():
    preference = next(each for each in starter_rules() if each.id == "starter-preference")
    own = rule("I prefer", name="mine", importance=preference.importance)
    (found,) = (
        RuleExtractor([own, preference]).extract(Window(1, 1, "a", (Part(1, "user", "I prefer tea."),))).candidates
    )
    assert found.method == "rules:mine"
