"""Each gate by name: its docstring's examples, its properties, and several hundred minimal pairs of varied kinds."""

import json
import re
import time
from collections import Counter
from datetime import date
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from memcli.dedup.gates import GATES, evidence, judge, lexicon, merge_key, signature

ROOT = Path(__file__).resolve().parents[1]
PAIRS = [
    json.loads(line) for line in (ROOT / "fixtures" / "dedup_pairs.jsonl").read_text(encoding="utf-8").splitlines()
]
TEXTS = sorted({pair[side] for pair in PAIRS for side in "ab"})
EXAMPLE = re.compile(r"(\"[^\"|]+\"|'[^'|]+') \| (\"[^\"|]+\"|'[^'|]+')")


def failed(a, b, cosine=0.95):
    return judge(a, b, cosine, 0.9).failed


def examples(kind):
    for gate in GATES:
        function = {"quotation": evidence.quotation}.get(gate) or getattr(evidence, gate)
        found = re.search(rf"{kind}: (.+?)(?=\n\s*\w+: |\Z)", function.__doc__, re.DOTALL)
        for a, b in EXAMPLE.findall(" ".join(found[1].split())):
            yield gate, a[1:-1], b[1:-1]


@pytest.mark.parametrize(("gate", "a", "b"), list(examples("Same")))
def test_what_a_gate_says_is_the_same_passes_every_gate(gate, a, b):
    assert gate in judge(a, b, 0.95, 0.9).passed
    assert failed(a, b) == failed(b, a) == ()


@pytest.mark.parametrize(("gate", "a", "b"), list(examples("Other")))
def test_what_a_gate_says_is_another_fact_fails_it(gate, a, b):
    assert gate in failed(a, b, 1.0)
    assert gate in failed(b, a, 1.0)


def test_every_gate_has_examples_of_both():
    assert {gate for gate, _, _ in examples("Same")} == {gate for gate, _, _ in examples("Other")} == set(GATES)


def test_the_minimal_pairs_are_decided_with_few_misses_and_hardly_a_false_merge():
    merged = [pair for pair in PAIRS if not failed(pair["a"], pair["b"])]
    false = [(pair["kind"], pair["a"], pair["b"]) for pair in merged if pair["label"] == "distinct"]
    duplicates = sum(pair["label"] == "duplicate" for pair in PAIRS)
    assert false == []
    assert len(merged) / duplicates > 0.85
    kinds = Counter(pair["kind"] for pair in PAIRS)
    assert len(PAIRS) > 400
    assert len(kinds) > 20


def test_judging_the_minimal_pairs_is_symmetric_and_keeps_the_merge_key():
    for pair in PAIRS:
        one, other = judge(pair["a"], pair["b"], 0.95, 0.9), judge(pair["b"], pair["a"], 0.95, 0.9)
        assert one.failed == other.failed, pair
        if not one.failed:
            assert signature(pair["a"]) == signature(pair["b"])
            assert merge_key(pair["a"]) == merge_key(pair["b"])


REFORMATTED = {
    "bullet": lambda text: f"- {text}",
    "quotation": lambda text: f'"{text}"' if '"' not in text else text,
    "exclamation": lambda text: text.rstrip(".") + "!",
    "no stop": lambda text: text.rstrip("."),
    "no code marks": lambda text: text.replace("`", ""),
    "semicolons": lambda text: text.replace(", ", "; "),
    "dashes": lambda text: text.replace(", ", " — "),
    "white space": lambda text: text.replace(" ", "  "),
    "no-break spaces": lambda text: text.replace(" ", "\u00a0"),
    "ampersand": lambda text: text.replace(" and ", " & "),
    "curly": lambda text: text.replace("'", "’"),
}


@pytest.mark.parametrize("name", REFORMATTED)
def test_a_text_is_a_duplicate_of_its_re_formatting(name):
    for text in TEXTS:
        assert failed(text, REFORMATTED[name](text), 0.9) == (), text


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(TEXTS), st.sampled_from(TEXTS), st.sampled_from([0.9, 0.97, 1.0]))
def test_any_two_texts_are_judged_alike_both_ways(a, b, cosine):
    one, other = judge(a, b, cosine, 0.9), judge(b, a, cosine, 0.9)
    assert (one.passed, one.failed, one.overlap) == (other.passed, other.failed, other.overlap)
    if not one.failed:
        assert signature(a) == signature(b)


PLAIN = st.sampled_from(
    """the a of my user I we not never all some must may before after Rome Ana 5 min s to from by is was and if
    unless manages likes team report reports, sister's on Monday. started begins 3 pm at""".split()
)


@settings(max_examples=150, deadline=None)
@given(st.lists(PLAIN, max_size=9).map(" ".join), st.lists(PLAIN, max_size=9).map(" ".join))
def test_judging_is_symmetric_whatever_the_order_of_words(a, b):
    assert failed(a, b) == failed(b, a)
    assert failed(a, a) == ()


@settings(max_examples=80, deadline=None)
@given(
    st.lists(PLAIN, min_size=1, max_size=8), st.sampled_from(("not", "never", "some", "only", "may", "will", "without"))
)
@example(["from", "must"], "may")
def test_a_word_that_turns_a_statement_is_never_light(words, turning):
    assume(turning not in words)
    assert failed(" ".join(words), " ".join([*words[:1], turning, *words[1:]]), 1.0) != ()


ENTITIES = st.sampled_from("Ana Bela Carl Dora Emil".split())


@settings(max_examples=40, deadline=None)
@given(ENTITIES, ENTITIES, st.sampled_from(("manages", "calls", "owes", "taught", "reports to", "is taller than")))
def test_who_does_what_to_whom_is_kept(one, other, verb):
    assume(one != other)
    assert failed(f"{one} {verb} {other}.", f"{other} {verb} {one}.", 1.0) != ()
    assert failed(f"{one} {verb} {other}.", f"{one} {verb} {other}", 0.9) == ()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 10**6), st.sampled_from(("ms", "s", "min", "h", "kg", "km", "%", "€", "MB", "GB", "mg")))
def test_a_figure_is_its_value_and_unit(value, unit):
    plain = f"The value is {value} {unit} now."
    assert failed(plain, f"The value is {value:,}{unit} now.", 0.9) == ()
    assert "numbers" in failed(plain, f"The value is {value + 1} {unit} now.", 1.0)
    assert failed(plain, f"The value is {value} px now.", 1.0) != ()


@settings(max_examples=60, deadline=None)
@given(st.dates(date(1950, 1, 1), date(2099, 12, 31)), st.integers(0, 23), st.integers(0, 59))
def test_every_way_to_write_a_date_and_a_time_is_one(day, hour, minute):
    ways = (f"{day:%B} {day.day}, {day.year}", f"{day.day} {day:%b} {day.year}", f"{day:%Y/%m/%d}", f"{day:%d.%m.%Y}")
    clock = f"{hour % 12 or 12}:{minute:02} {'pm' if hour > 11 else 'am'}"
    text = f"The call is on {day:%Y-%m-%d} at {hour:02}:{minute:02}."
    for way in ways:
        assert failed(text, f"The call is on {way} at {clock}.", 0.9) == ()
    assert failed(text, f"The call is on {day:%Y-%m-%d} at {(hour + 12) % 24:02}:{minute:02}.", 1.0) != ()


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("began", "started", True),
        ("begins", "started", False),
        ("leave", "permit", False),
        ("learning", "teaching", False),
        ("physician", "doctor", True),
        ("colour", "color", True),
        ("red", "crimson", False),
    ],
)
def test_synonyms_are_those_of_most_senses_in_one_form(one, other, alike):
    pair = f"We saw that they {one} it.", f"We saw that they {other} it."
    assert (failed(*pair, 0.9) == ()) is alike


@pytest.mark.parametrize(
    ("right", "wrong", "slip"),
    [
        ("tomorrow", "tommorow", True),
        ("meeting", "meetign", True),
        ("form", "from", False),  # another word
        ("paid", "unpaid", False),
        ("rahul", "rohul", False),  # no word: a name may be another
        ("friend", "fiend", False),
    ],
)
def test_a_slip_gives_no_other_word(right, wrong, slip):
    assert lexicon.mistyped(right, wrong) is slip
    assert lexicon.mistyped(wrong, right) is slip


def test_the_lexicon_is_small_and_names_its_source_and_licence():
    path = ROOT / "memcli" / "dedup" / "lexicon.tsv.gz"
    import gzip

    with gzip.open(path, "rt", encoding="ascii") as lines:
        head = "".join(next(lines) for _ in range(6))
    assert path.stat().st_size < 1_500_000
    assert "Open English WordNet" in head
    assert "CC BY 4.0" in head


def test_a_long_text_is_judged_in_reasonable_time():
    words = " ".join(f"word{n} and the" for n in range(300))
    began = time.process_time()
    assert failed(words, words + " never", 1.0) != ()
    assert failed(words, " ".join(reversed(words.split())), 1.0) != ()
    assert time.process_time() - began < 2
