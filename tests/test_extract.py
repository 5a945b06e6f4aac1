from __future__ import annotations

import dataclasses
import time

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from memcli.extract.rules import Rule, RuleExtractor, _options, compile_rules, starter_rules
from memcli.extract.verbatim import VerbatimExtractor
from memcli.model import Part, Provenance, Window
from memcli.text import sentences


def rule(pattern, **changes):
    base = Rule(id="r", name="r", pattern=pattern, type="semantic", importance=0.5)
    return dataclasses.replace(base, **changes)


def extract(rules, text, role="user", start=0):
    extractor = RuleExtractor(rules)
    assert extractor.problems == []
    return extractor.extract(Window(1, 1, "anna", (Part(7, role, text, start),))).candidates


def contents(rules, text, role="user"):
    return [candidate.content for candidate in extract(rules, text, role)]


# --- verbatim


def test_verbatim_keeps_every_part_as_an_episodic_memory_of_low_importance():
    window = Window(1, 1, "anna", (Part(1, "user", " Hello 😀 there. "), Part(2, "assistant", "Hi.", start=40)))
    first, second = VerbatimExtractor().extract(window).candidates
    assert (first.content, first.type, first.importance, first.method) == (
        "Hello 😀 there.",
        "episodic",
        0.3,
        "verbatim",
    )
    assert first.sources == (Provenance(1, 1, 15),)
    assert second.sources == (Provenance(2, 40, 43),)


def test_verbatim_cuts_long_texts_at_sentence_ends():
    text = "This is a sentence of some length. " * 60
    found = VerbatimExtractor().extract(Window(1, 1, "anna", (Part(1, "user", text),))).candidates
    assert len(found) == 3
    assert all(candidate.content.endswith("length.") for candidate in found)


# --- what a rule keeps

TEXT = "Hi 😀 Anna. 漢字 we decided to use SQLite 3.45 for now! Is that fine?"


def test_a_sentence_is_kept_with_its_character_offsets():
    (found,) = extract([rule("decided", keywords=("d",))], TEXT, start=100)
    assert found.content == "漢字 we decided to use SQLite 3.45 for now!"
    assert found.sources == (Provenance(7, 100 + TEXT.index("漢"), 100 + TEXT.index("!") + 1),)
    assert (found.method, found.type, found.importance, found.keywords) == ("rules:r", "semantic", 0.5, ("d",))


def test_a_match_is_kept_alone_and_every_one_of_them():
    found = extract([rule(r"[A-Z]\w+ ?[\d.]*\d", keep="match")], TEXT + " Or Postgres 16?")
    assert [candidate.content for candidate in found] == ["SQLite 3.45", "Postgres 16"]
    assert found[0].sources == (Provenance(7, TEXT.index("SQLite"), TEXT.index(" for now")),)


def test_a_message_is_kept_as_a_whole_and_its_pattern_sees_all_of_it():
    assert contents([rule("anna.*sqlite", keep="message")], TEXT) == [TEXT]
    assert contents([rule("anna.*sqlite", keep="sentence")], TEXT) == []


def test_an_empty_match_keeps_nothing():
    assert contents([rule("z*", keep="match")], "a b") == []


def test_a_bullet_is_no_part_of_the_statement():
    text = "Rules:\n- never push to main\n2. never rebase.\n> ## never mind"
    assert contents([rule("^never")], text) == ["never push to main", "never rebase.", "never mind"]


def test_anchors_are_those_of_the_sentence():
    text = "We use tabs. Tabs are used by us."
    assert contents([rule("^tabs")], text) == ["Tabs are used by us."]
    assert contents([rule("tabs[.]$")], text) == ["We use tabs."]
    assert contents([rule(r"\Atabs|[$^]")], "It costs $5. Tabs too.") == ["It costs $5.", "Tabs too."]


def test_a_sentence_may_go_over_line_ends():
    assert contents([rule("account.*problem")], "my account\nhas a problem") == ["my account\nhas a problem"]


def test_case_does_not_matter_unless_the_pattern_says_so():
    assert contents([rule("SQLITE")], TEXT)
    assert contents([rule("(?-i:SQLITE)")], TEXT) == []


def test_a_long_sentence_is_cut_to_pieces():
    text = "word " * 300 + "deadline"
    found = extract([rule("deadline")], text)
    assert len(found) == 2
    assert " ".join(candidate.content for candidate in found) == text


# --- several rules

SEVERAL = [
    rule("sqlite", id="a", name="a", importance=0.4, keywords=("x", "y")),
    rule("decided", id="b", name="b", importance=0.8, keywords=("y", "z")),
    rule("for now", id="c", name="c", importance=0.8, keywords=("w",)),
    rule("use", id="d", name="d", type="procedural", importance=0.1),
]


def test_of_rules_of_one_type_the_most_important_wins_and_keywords_are_united():
    found = extract(SEVERAL, TEXT)
    assert [(c.type, c.method, c.importance) for c in found] == [
        ("procedural", "rules:d", 0.1),
        ("semantic", "rules:b", 0.8),
    ]
    assert found[1].keywords == ("y", "z", "x", "w")


def test_a_message_of_one_sentence_is_not_kept_twice():
    rules = [rule("tea", name="m", keep="message", importance=0.9, keywords=("a",)), rule("tea", keywords=("b",))]
    (found,) = extract(rules, "I drink tea")
    assert (found.method, found.importance, set(found.keywords)) == ("rules:m", 0.9, {"a", "b"})


def test_a_rule_reads_the_roles_it_is_for():
    rules = [rule("tea", name="u", roles="user"), rule("tea", name="a", roles="assistant", importance=0.6)]
    assert [c.method for c in extract(rules, "tea", "user")] == ["rules:u"]
    assert [c.method for c in extract(rules, "tea", "assistant")] == ["rules:a"]
    assert extract(rules, "tea", "system") == ()
    assert len(extract([rule("tea")], "tea", "system")) == 1


def test_an_inactive_rule_does_nothing():
    assert contents([rule("tea", active=False)], "tea") == []


PATTERNS = [
    "^a",
    "b$",
    r"\Ba",
    "a.*b",
    "[^a]b",
    r"\ba\b",
    "(?:^|b) a",
    r"\Q^a\E",
    r"\^a",
    "[]^]a",
    "a{2}",
    "é",
    r"\z|b",
]


UNITS = ["a", "b", "a b", "b a", "ab", "aa", "é", "^a", "$ b", "]", "a\nb", "b1", "éa", "c"]


@pytest.mark.parametrize("pattern", PATTERNS)
@given(units=st.lists(st.sampled_from(UNITS), max_size=4), end=st.sampled_from([". ", "\n\n", "。", "! ", "? - "]))
def test_the_quick_look_at_the_whole_text_loses_no_sentence(pattern, units, end):
    text = end.join(units)
    options = re2.Options()
    options.dot_nl, options.case_sensitive = True, False
    alone = re2.compile(pattern, options)
    spans = [text[start:end].removeprefix("- ") for start, end in sentences(text)]
    assert contents([rule(pattern)], text) == [unit for unit in spans if unit and alone.search(unit)]


# --- simple patterns


@pytest.mark.parametrize(
    ("pattern", "text", "match"),
    [
        ("remind me", "Please REMIND\nme soon", "REMIND\nme"),
        ("deploy*", "It was deployed.", "deployed"),
        ("*script", "TypeScript it is", "TypeScript"),
        ("un*able", "that is unthinkable now", "unthinkable"),
        ("account * problem", "account, he said, has a problem today", "account, he said, has a problem"),
        ("account * problem", "account problem", "account problem"),
        ("* v1.5 *", "we run v1.5 here", "v1.5"),
        ("naïv*", "how naïveté hurts", "naïveté"),
        ("部署", "我们部署失败了", "部署"),
        ("c++", "I write C++ daily", "C++"),
    ],
)
def test_a_simple_pattern_matches_its_words(pattern, text, match):
    assert contents([rule(pattern, kind="simple", keep="match")], text) == [match]


@pytest.mark.parametrize(
    ("pattern", "text"),
    [("deploy", "redeployed"), ("v1.5", "v125"), ("remind me", "remindme"), ("a * b", "a cab"), ("cat", "category")],
)
def test_a_simple_pattern_takes_its_words_literally_and_whole(pattern, text):
    assert contents([rule(pattern, kind="simple")], text) == []


# --- bad patterns, large sets, versions


def test_a_bad_pattern_is_told_and_the_others_go_on():
    rules = [
        rule("(tea", name="open"),
        rule("tea"),
        rule(r"(a)\1", name="backreference"),
        rule(" * ", name="wordless", kind="simple"),
        rule("x{1001}", name="repeat"),
        rule("(?=look)", name="ahead"),
        rule("(tea", name="asleep", active=False),
    ]
    compiled, problems = compile_rules(rules)
    assert [each.rule.name for each in compiled] == ["r"]
    assert [problem.split('"')[1] for problem in problems] == ["open", "backreference", "wordless", "repeat", "ahead"]
    assert "missing )" in problems[0]
    extractor = RuleExtractor(rules)
    assert extractor.problems == problems
    assert len(extractor.extract(Window(1, 1, "a", (Part(1, "user", "tea"),))).candidates) == 1


def test_rules_that_are_too_large_for_one_set_all_work(monkeypatch):
    monkeypatch.setattr("memcli.extract.rules._MIN_MEMORY", 1 << 17)
    monkeypatch.setattr("memcli.extract.rules._SETS_MEMORY", 1 << 17)
    rules = [rule(rf"[a-z]{{100,200}}{number}\b", name=str(number)) for number in range(40)]
    one_set = re2.Set.SearchSet(_options(1 << 17))
    for each in rules:
        one_set.Add(each.pattern)
    with pytest.raises(re2.error, match="failed to compile"):
        one_set.Compile()
    assert [c.method for c in extract(rules, "x" * 100 + "39")] == ["rules:39"]
    assert [c.method for c in extract(rules, "x" * 100 + "0")] == ["rules:0"]


def test_three_hundred_rules_find_the_one_that_hits():
    rules = [rule(f"word{number} * end{number}", name=str(number), kind="simple") for number in range(300)]
    assert [c.method for c in extract(rules, "so word217 and then end217 came")] == ["rules:217"]


def test_the_version_is_that_of_the_active_rules():
    def version(*rules):
        return RuleExtractor(rules).version_for("anna")

    base = version(rule("a"), rule("b"))
    assert base == version(rule("a"), rule("b"), rule("c", active=False))
    assert (
        len({base, version(rule("a")), version(rule("b"), rule("a")), version(rule("a"), rule("b", keep="match"))}) == 4
    )
    assert all(mark in "0123456789abcdef" for mark in base)


@pytest.mark.parametrize("unit", [".", "I ", "I prefer ", '!"', "\n- ", "account ", "x", "I feel "])
def test_a_megabyte_of_hostile_text_takes_linear_time(unit):
    text = unit * (1_000_000 // len(unit))
    extractor = RuleExtractor(starter_rules())
    started = time.process_time()
    extractor.extract(Window(1, 1, "a", (Part(1, "user", text),)))
    assert time.process_time() - started < 5


# --- the starter set


def starters(text, role="user"):
    return {(c.method.removeprefix("rules:"), c.type, c.importance) for c in extract(starter_rules(), text, role)}


def test_the_starter_set_compiles_and_its_names_are_unique():
    rules = starter_rules()
    assert compile_rules(rules)[1] == []
    assert len({each.id for each in rules}) == len({each.name for each in rules}) == len(rules)
    assert all(0 <= each.importance <= 1 for each in rules)


@pytest.mark.parametrize(
    ("pattern", "memory_type", "importance"),
    [
        ("(account|login|password|billing).*(problem|issue|error|failed)", "episodic", 0.9),
        ("(need|want|wish|request).*(feature|functionality)", "semantic", 0.7),
        ("(I feel|feeling|emotion).*(sad|happy|angry|anxious|depressed|excited)", "episodic", 0.95),
        ("(helps me|cope|manage).*(stress|anxiety|depression)", "procedural", 0.9),
    ],
)
def test_the_four_required_examples_are_in_the_starter_set(pattern, memory_type, importance):
    assert (memory_type, importance) in {(r.type, r.importance) for r in starter_rules() if r.pattern == pattern}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("I really prefer tabs over spaces.", "preference"),
        ("I don’t like using ORMs.", "preference"),
        ("My favourite editor is Helix.", "preference"),
        ("We decided to use Postgres.", "decision"),
        ("Let's go with the second option.", "decision"),
        ("My name is Anna.", "fact about the user"),
        ("I work at Globex and I live in Lisbon.", "fact about the user"),
        ("I'm a data engineer.", "fact about the user"),
        ("Always run the tests before you commit.", "instruction to the agent"),
        ("From now on, answer in German.", "instruction to the agent"),
        ("please don't touch the migrations", "instruction to the agent"),
        ("The root cause was a stale cache.", "problem and fix"),
        ("the bug was in the date parser", "problem and fix"),
        ("I'll send you the report by Friday.", "commitment or deadline"),
        ("The invoice is due on 3 May.", "commitment or deadline"),
        ("We are moving the office next month.", "commitment or deadline"),
        ("I plan to rewrite the parser.", "commitment or deadline"),
        ("I’ll see the dentist on Friday.", "commitment or deadline"),
        ("I'm a big fan of small functions.", "preference"),
        ("Usually not, but I never work on Sundays.", "preference"),
        ("I have been learning Welsh for two years.", "fact about the user"),
        ("I just got promoted!", "fact about the user"),
        ("My goal is to run a marathon.", "fact about the user"),
        ("An old file must never be deleted.", "instruction to the agent"),
        ("The tests are failing because the port is taken.", "problem and fix"),
        ("- **Fixed the import order**", "problem and fix"),
        ("The issue is that nobody closes the file.", "problem and fix"),
        ("My login shows an error since Monday.", "account problem"),
        ("We need an export feature.", "feature request"),
        ("I feel so excited about this.", "emotional state"),
        ("Running helps me with stress.", "coping"),
    ],
)
def test_the_starter_set_finds_what_is_worth_remembering(text, name):
    assert name in {found for found, _, _ in starters(text)}


@pytest.mark.parametrize(
    "text",
    [
        "I'd like to know how this works.",
        "I like it!",
        "I love that.",
        "I'm a bit lost.",
        "I am a little confused.",
        "Never heard of it.",
        "Always happy to help.",
        "Let's see what happens.",
        "These photos remind me of home.",
        "It was due to the rain.",
        "call me when you are there",
        "I love how it shows that.",
        "They're the reason why I never give up.",
        "I have been there.",
        "I will tell you about it.",
        "That should never happen.",
        "Fixed!",
        "Can you explain the code?",
    ],
)
def test_the_starter_set_is_silent_on_small_talk(text):
    assert starters(text) == set()


@pytest.mark.parametrize("text", ["I prefer tabs.", "My name is Claude.", "Always use tabs.", "I feel happy to help."])
def test_what_the_assistant_says_of_itself_is_no_fact_about_the_user(text):
    assert starters(text, "assistant") == set()
