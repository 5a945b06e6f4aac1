"""The first gates: what is evidence that two similar texts do not say the same, and what is mere formatting."""

from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from memcli.bench.dedup import evaluate, read_pairs
from memcli.dedup.gates import GATE_VERSION, GATES, judge, merge_key, same_signature, signature
from memcli.embed.models import default_model
from memcli.embed.onnx import OnnxEmbedder

SHARED = Path(__file__).resolve().parents[2] / "shared"


def failed(a, b, cosine=0.99):
    return judge(a, b, cosine, 0.9).failed


# One pair per line: the gates that must fail, whatever the cosine, are named before it.
DISTINCT = [
    ("numbers", "The budget is $500.", "The budget is $5000."),
    ("numbers", "The timeout is 5 ms.", "The timeout is 5 s."),
    ("numbers", "The timeout is 5ms.", "The timeout is 5s."),
    ("numbers", "Serves 5M people.", "Serves 5m people."),
    ("numbers", "Freezer at -5°C.", "Freezer at 5°C."),
    ("numbers", "Oven at 200°C.", "Oven at 200°F."),
    ("numbers", "Pages 20-23.", "Pages 20, 23."),
    ("numbers", "Moved on March 5, 2026.", "Moved on March 15, 2026."),
    ("numbers", "Moved on March 5, 2026.", "Moved on May 5, 2026."),
    ("numbers", "Standup at 9 am.", "Standup at 9 pm."),
    ("numbers", "Uses Python 3.11.", "Uses Python 3.12."),
    ("numbers", "There are ten nodes.", "There are eleven nodes."),
    ("identifiers", "The area is 10² m.", "The area is 10³ m."),
    ("identifiers", "PR #260 is merged.", "PR #480 is merged."),
    ("identifiers", "Ticket SUP-717 is open.", "Ticket SUP-771 is open."),
    ("identifiers", "Runs in eu-west-1.", "Runs in us-east-1."),
    ("identifiers", "Edit src/app.py first.", "Edit src/api.py first."),
    ("identifiers", "Edit src/App.py first.", "Edit src/app.py first."),
    ("identifiers", "See https://example.org/a for more.", "See https://example.org/b for more."),
    ("identifiers", "Mail ann@example.org about it.", "Mail bob@example.org about it."),
    ("identifiers", "Run make --resume now.", "Run make --force now."),
    ("identifiers", "Run grep -v now.", "Run grep -V now."),
    ("identifiers", "Set `ENV=test` first.", "Set `ENV=dev` first."),
    ("identifiers", "Raise max_size soon.", "Raise min_size soon."),
    ("identifiers", "Written in C++ today.", "Written in C# today."),
    ("identifiers", "Fails if x == 3 holds.", "Fails if x != 3 holds."),
    ("identifiers", "Their reaction was 👍 again.", "Their reaction was 👎 again."),
    ("negation", "The user likes tea.", "The user does not like tea."),
    ("negation", "I can log in.", "I can't log in."),
    ("negation", "The cabin comes with a hot tub.", "The cabin comes without a hot tub."),
    ("negation", "Deploys happen on Fridays.", "Deploys never happen on Fridays."),
    ("negation", "She works at Acme.", "She no longer works at Acme."),
    ("negation", "We use Postgres.", "We use Postgres?"),
    ("overlap", "Mia likes tea.", "Leo likes tea."),
    ("overlap", "Merge it before the release.", "Merge it after the release."),
    ("overlap", "It must be merged.", "It may be merged."),
    ("overlap", "All servers were patched.", "Some servers were patched."),
    ("overlap", "She works at Acme.", "She worked at Acme."),
    ("extra", "He lives in Rome.", "He lives in Rome and keeps bees."),
    ("overlap", "I read few books.", "I read a few books."),
    ("overlap", "She has a dog.", "She has dogs."),
    ("overlap", "Users can upload files.", "I can upload files."),
    ("overlap", "A user can upload files.", "I can upload files."),
    ("order", "Ann manages Bob.", "Bob manages Ann."),
    ("order", "Flies from Rome to Oslo.", "Flies to Rome from Oslo."),
    ("order", "Staging in eu-west-1, production in us-east-1.", "Staging in us-east-1, production in eu-west-1."),
    ("order", "Likes tea but does not like milk.", "Does not like tea but likes milk."),
]

SAME = [
    ("The API allows 1000 calls.", "The API allows 1,000 calls."),
    ("Wait ten minutes.", "Wait 10 min."),
    ("Wait twenty-five seconds.", "Wait 25s."),
    ("A rate of 5 percent.", "A rate of 5%."),
    ("Costs 500 dollars.", "Costs $500."),
    ("Standup at 3pm.", "Standup at 15:00."),
    ("Standup at 9 am.", "Standup at 9:00."),
    ("Moved on March 5, 2026.", "Moved on 2026-03-05."),
    ("Moved on 5 Mar 2026.", "Moved on March 5th, 2026."),
    ("Moved in Oct 2024.", "Moved in October 2024."),
    ("Bake at 450 °F.", "Bake at 450°F."),
    ("I prefer oat milk.", "The user prefers oat milk."),
    ("My sister is a nurse.", "The user's sister is a nurse."),
    ("User's sister is a nurse.", "My sister is a nurse."),
    ("I'm allergic to nuts.", "User is allergic to nuts."),
    ("I don't eat fish.", "The user doesn't eat fish."),
    ("It is not done.", "it isn't done"),
    ("She cannot swim", "She can't swim."),
    ("He won’t come.", "He will not come!"),
    ("Use **two** spaces.", "use two spaces"),
    ("- Use `make`\n- Use _ruff_", "* Use make\n* Use ruff"),
    ("## Status: done", "Status: done"),
    ("Run it locally: make test", "Run it locally: `make test`"),
    ("**Run it locally** with make", "Run it locally with make"),
    ("`make all` is slow", "make all is slow"),
    ("Starts at 3:00 today.", "Starts at 03:00 today."),
    ("Starts at 3:00 am today.", "Starts at 03:00 today."),
    ("Weighs 5 kilograms.", "Weighs 5kg."),
    ("| a | b |\n|---|---|\n| 1 | 2 |", "a | b\n1 | 2"),
    ("See <https://example.org/a>.", "See https://example.org/a"),
    ("She said “yes” – twice", 'She said "yes" - twice.'),
    ("The rate-limited client", "the rate limited client"),
]


@pytest.mark.parametrize(("gate", "a", "b"), DISTINCT)
def test_a_difference_fails_its_gate_whatever_the_cosine(gate, a, b):
    assert gate in failed(a, b, cosine=1.0)
    assert gate in judge(a, b, 1.0, 0.9).differences


@pytest.mark.parametrize(("a", "b"), SAME)
def test_another_way_to_write_the_same_passes_every_gate(a, b):
    found = judge(a, b, 0.9, 0.9)
    assert (found.passed, found.failed, found.differences) == (GATES, (), {})
    assert signature(a) == signature(b)


# What a rule of formatting once swallowed: the texts differ in a fact, whichever gate says so.
PERSONS = [
    ("Tom told me that the user is late", "Tom told the user that I am late"),
    ("I asked the user to call back", "The user asked me to call back"),
    ("Tom told me that the user is late", "Tom told me that I am late"),
    ("The user told us about my car", "I told us about the user's car"),
    ("The user told us", "I told us"),
]
SIGNS = [
    ("The balance is - 500 euros", "The balance is 500 euros"),
    ("The balance is - 500 euros", "The balance is + 500 euros"),
    ("- 500 euros", "500 euros"),
    ("It is revenue - cost", "It is revenue | cost"),
    ("It is total - tax", "It is total tax"),
    ("Run a -> b", "Run a b"),
    ("It is a • b", "It is a b"),
]
UNITS = [
    *(
        (f"It takes {one} now", f"It takes {other} now")
        for one, other in (
            ("5Mg", "5mg"),
            ("5 Mg", "5 mg"),
            ("5 MW", "5 mW"),
            ("5MW", "5mW"),
            ("5 Mb", "5 MB"),
            ("5MB", "5Mb"),
            ("100Mbps", "100MBps"),
            ("5 MPa", "5 mPa"),
            ("10 Mm", "10 mm"),
            ("10Mm", "10mm"),
            ('24"', "24'"),
            ("5'", '5"'),
            ("5'", "5"),
            ("5'10\"", "5'10"),
        )
    ),
]
SPELLING = [
    *(
        (f"The one is {one} now", f"The one is {other} now")
        for one, other in (
            ("AB12cd", "ab12CD"),
            ("xYz9", "XyZ9"),
            ("Foo.Bar", "foo.bar"),
            ("userId1", "userid1"),
            ("userId", "userid"),
            ("HOST", "host"),
            ("`HOST`", "`host`"),
            ("HOST=1", "host=1"),
            ("List<int>", "List<Int>"),
            ("<int>", "int"),
            ("_private", "private"),
            ("__init__", "init"),
            ("*args", "args"),
            ("[a, b]", "(a, b)"),
            ("[]", "{}"),
            ('"Not Found"', '"not found"'),
            ('called "Max"', "called max"),
            ('"the tags"', '"the tag"'),
            ('"the tags"', "the tag"),
            ("`a the b`", "`a b`"),
            ("US employees", "us employees"),
            ("Polish", "polish"),
            ("Us and us", "us and Us"),
        )
    ),
    ("`Foo` is slow", "`foo` is slow"),
    ("US employees left", "Us employees left"),
]
POLARITY = [
    ("No, more deploys on Fridays are fine", "No more deploys on Fridays are fine"),
    ("No — more deploys on Fridays are fine", "No more deploys on Fridays are fine"),
    ("No , more deploys on Fridays are fine", "No more deploys on Fridays are fine"),
    ("Stop. No more deploys", "Stop no more deploys"),
    ("Don't, stop the job", "Don't stop the job"),
    ("We cannot. Stop the job", "We cannot stop the job"),
]
FIGURES_ALIKE = [
    ("They won 3:00 again", "They won 03:00 again"),
    ("It lasts 12:30 now", "It lasts 12:30 pm now"),
    ("No one came", "No 1 came"),
]
NAMES = [
    ("We use Keras now", "We use Kera now"),
    ("Ask Peters about it", "Ask Peter about it"),
    ("Peters left", "Peter left"),
]


@pytest.mark.parametrize(("a", "b"), [*PERSONS, *SIGNS, *UNITS, *SPELLING, *POLARITY, *FIGURES_ALIKE, *NAMES])
def test_what_looks_like_formatting_but_is_a_fact_fails_a_gate(a, b):
    for end in ("", "."):
        assert failed(a + end, b + end, cosine=1.0) != ()
        assert failed(b + end, a + end, cosine=1.0) != ()
        assert failed(a + end, a, cosine=0.9) == ()


def test_the_cells_of_a_table_are_facts_and_its_frame_is_not():
    assert failed("| a | b c |", "| a b | c |") == ("order",)
    assert failed("| a | b |", "a | b") == ()


def test_a_difference_is_told_in_a_few_words():
    assert judge("PR #260 is in", "PR #480 is in", 0.9, 0.9).differences == {"identifiers": "#260 | #480"}
    assert judge("Wait 5 ms", "Wait 5 s", 0.9, 0.9).differences == {"numbers": "5 ms | 5 s"}
    assert judge("He has a cat", "He has a dog", 0.9, 0.9).differences == {"overlap": "cat | dog"}
    assert judge("Ann met Bob", "Bob met Ann", 0.9, 0.9).differences == {"order": "ann | bob"}
    assert judge("For US staff", "For us staff", 0.9, 0.9).differences == {"names": "US | -", "overlap": "US | us"}
    assert judge('Set "the tags"', "Set the tag", 0.9, 0.9).differences["quotation"] == "the tags | -"
    assert judge('Set "tags" up', 'Set "tag" up', 0.9, 0.9).differences["quotation"] == "tags | tag"
    negated = judge("It works", "It doesn't work", 0.9, 0.9).differences["negation"]
    assert negated == "0 negations, 0 questions | 1 negations, 0 questions"
    long = judge("alpha " * 400, "beta " * 400, 0.9, 0.9).differences["overlap"]
    assert len(long) < 200


def test_overlap_is_the_jaccard_overlap_of_the_words():
    assert judge("red green blue", "red green black", 0.9, 0.9).overlap == 0.5
    assert judge("7", "8", 0.9, 0.9).overlap == 1.0
    assert judge("red", "blue", 0.9, 0.9).overlap == 0.0


LONG = "Grandpa Walter wants small lunch at home with close family, lemon cake and slideshow"


@pytest.mark.parametrize(
    ("extra", "cosine", "passes"),
    [
        ("and", 0.96, True),  # a light word in a long text, with a cosine well above the threshold
        ("and", 0.94, False),  # a cosine that is not
        ("and also then so", 0.99, False),  # more than a tenth of the text
        ("maybe", 0.99, False),  # a word that carries something
        ("only", 0.99, False),
        ("production", 0.99, False),
    ],
)
def test_only_light_words_may_stand_on_one_side(extra, cosine, passes):
    assert (failed(LONG, f"{LONG} {extra}", cosine) == ()) is passes
    assert (failed(f"{LONG} {extra}", LONG, cosine) == ()) is passes


def test_a_light_word_on_one_side_of_a_short_text_is_too_much():
    assert failed("She is and in Rome", "She is in Rome", 1.0) == ("extra",)


def test_the_version_is_named_so_that_a_watermark_can_tell_it():
    assert GATE_VERSION == "4"


WORDS = """user the my I don't never cannot manages studies user's a few not is Rome café ten may March twenty-one
re-use it's no 日本語 well, why?"""
FIGURES = """5 1,000 2026 3pm $500 5% 12:30 -7 3.11.2 10² ½ 80th am ms 450°F #260 SUP-7 eu-west-1 node.js h264 a1b2c3
C++ < = 👍"""
words = st.sampled_from(WORDS.split())
figures = st.sampled_from(FIGURES.split())
cased = st.sampled_from(
    ["src/App.py", "--Force", "ENV=dev", "max_Size", "https://Example.org/A?b=1", "ann@x.org", "-v"]
)
plain_text = st.lists(words, max_size=14).map(" ".join)
any_text = st.one_of(
    st.lists(st.one_of(words, figures, cased), max_size=14).map(" ".join),
    st.text(max_size=50),
)


@given(any_text, any_text, st.sampled_from([0.9, 0.97, 1.0]))
def test_judging_is_symmetric_and_deterministic(a, b, cosine):
    one, other = judge(a, b, cosine, 0.9), judge(b, a, cosine, 0.9)
    assert (one.passed, one.failed, one.overlap) == (other.passed, other.failed, other.overlap)
    assert one.differences.keys() == other.differences.keys()
    assert one == judge(a, b, cosine, 0.9)


@given(any_text, any_text)
def test_every_gate_either_passes_or_fails_with_its_difference_in_a_fixed_order(a, b):
    found = judge(a, b, 0.97, 0.9)
    assert sorted(found.passed + found.failed, key=GATES.index) == list(GATES)
    assert tuple(gate for gate in GATES if gate in found.failed) == found.failed == tuple(found.differences)
    assert 0 <= found.overlap <= 1


@given(any_text, any_text)
def test_what_passes_has_one_signature_and_one_merge_key(a, b):
    if not judge(a, b, 1.0, 0.9).failed:
        assert signature(a) == signature(b)
        assert hash(signature(a)) == hash(signature(b))
        assert merge_key(a) == merge_key(b)


@given(any_text, any_text)
def test_comparing_designations_first_changes_nothing(a, b):
    assert same_signature(a, b) == (signature(a) == signature(b))
    assert same_signature(a, a)


@given(any_text, st.sampled_from(("SUP-717", "v2.1-rc3", "Klio123", "a1b2c3d4", "k8s", "H2O", "Q3")))
def test_another_designation_is_another_signature(text, name):
    assert not same_signature(f"{text} about {name}4 here", f"{text} about {name}5 here")


@given(any_text, st.floats(0, 1))
def test_a_text_is_always_a_duplicate_of_itself(text, cosine):
    found = judge(text, text, cosine, 0.9)
    assert (found.failed, found.overlap) == ((), 1.0)


@given(plain_text, st.randoms(use_true_random=False))
def test_the_first_capital_white_space_and_closing_punctuation_are_formatting(text, rng):
    for other in (text[:1].upper() + text[1:], f"  {text}\n"):
        assert failed(text, other) == ()
    assert failed(text, "".join(rng.choice([" ", "  ", "\t", "\n", "\u00a0"]) if c == " " else c for c in text)) == ()
    assume(text and not text.endswith("?"))
    for closing in (".", "!", ";", "...", "…", "。"):
        assert failed(text, text + closing) == ()


@given(st.lists(st.one_of(words, figures, cased), min_size=1, max_size=10), st.data())
def test_markdown_is_formatting(chunks, data):
    text = " ".join(chunks)
    # A bullet before a sign or another bullet is ambiguous; words and names are not.
    assume(chunks[0][0].isalpha())
    for bullet in ("- ", "* ", "> ", "## ", "  + ", "> - "):
        assert failed(text, bullet + text) == ()
    at = data.draw(st.sampled_from([at for at, chunk in enumerate(chunks) if chunk[0].isalpha()]))
    for mark in ("**", "*", "_", "`", '"'):
        marked = [f"{mark}{chunk}{mark}" if place == at else chunk for place, chunk in enumerate(chunks)]
        assert failed(text, " ".join(marked)) == ()


@given(st.lists(words, min_size=1, max_size=10), figures, figures)
def test_another_figure_always_fails(chunks, one, other):
    assume(signature(one) != signature(other))
    assert failed(" ".join([*chunks, "equals", one]), " ".join([*chunks, "equals", other]), 1.0) != ()


def test_the_gates_with_the_shipped_model_and_threshold_merge_nothing_falsely():
    path = SHARED / "data" / "eval" / "dedup-dev.jsonl"
    if not path.is_file():
        pytest.skip("the labelled pairs are not here")
    scores = evaluate(read_pairs(path), OnnxEmbedder(default_model()), default_model().near_threshold).scores
    assert scores.precision >= 0.98
    assert scores.recall >= 0.65


WORDS = st.sampled_from("I the user likes like Likes not 3 3, tea Tea and also a my coffee. of PR #260 `x`".split())


@settings(deadline=None, max_examples=300)
@given(st.lists(WORDS, max_size=7).map(" ".join), st.lists(WORDS, max_size=7).map(" ".join))
def test_texts_that_may_merge_have_one_merge_key(first, second):
    for other in (first, second, f"- **{first}**", first.capitalize()):
        if not judge(first, other, 1.0, 0.9).failed:
            assert merge_key(first) == merge_key(other)


def test_another_number_is_another_merge_key():
    assert merge_key("job 7 is done") != merge_key("job 8 is done")


def test_texts_of_thousands_of_tokens_are_judged():
    text = "A. " * 3000
    assert judge(text, text, 0.99, 0.9).failed == ()
    assert judge(text, text + "Rex is not here.", 0.99, 0.9).failed
