"""The targets of `make fuzz` under hypothesis, for a short while; and that none of them takes quadratic time."""

import json
import sys
import time
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parent / "fuzz"))

from targets import FIXTURES, TARGETS, corpus, reading

from memcli.dedup.gates import judge
from memcli.errors import MemcliError, UsageError
from memcli.extract.answer import UnreadableAnswerError, statements
from memcli.extract.rule_files import check_ids, parse_rules
from memcli.extract.rules import RuleExtractor
from memcli.files import toml_of
from memcli.filters import FilterRules, recall_lines, screen
from memcli.model import Part, Rejected, Window
from memcli.protocols import Source
from memcli.readers import READERS, detect, make_reader
from memcli.redact import redact
from memcli.render.terminal import safe
from memcli.search.words import any_of, dates_of, telling, words_of
from memcli.text import normalise, pieces, sentences

# Pieces that mean something to some target, so that short examples come far.
_TOKENS = [
    *('{"a": [ } ] " : , \\ \\u0000 \\ud800 null true 1e999 -0 0.5 NaN'.split()),
    *("role content messages conversations from value mapping parts type message uuid sessionId user".split()),
    *("kind memory members texts memories statement quote rules name pattern".split()),
    *("(a|b)* [^x] {9999} (?i) \\b ^ $ ** -- ``` ' \" # = [[rules]] 'x' 2026-03-05 v1.2.3 $5 not never".split()),
    "\n", " ", "\0", "\u202e", "\ud800", "\xff", "İ", "ß", "²", "½", "\u200d", "A\u0301", "東", "\r", "\u2028",
]  # fmt: skip
_TEXT = st.lists(st.sampled_from(_TOKENS) | st.text(max_size=5), max_size=40).map("".join)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(_TOKENS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(_TOKENS), inner, max_size=5),
    max_leaves=12,
)
_INPUT = st.one_of(
    st.binary(max_size=300),
    _TEXT.map(lambda text: text.encode("utf-8", "surrogatepass")),
    _JSON.map(lambda value: json.dumps(value).encode()),
    st.lists(_JSON.map(lambda value: json.dumps(value).encode()), max_size=4).map(b"\n".join),
    st.tuples(_TEXT, _TEXT).map(lambda both: b"\xff".join(each.encode("utf-8", "replace") for each in both)),
)


def _mutated(data, seeds):
    raw = bytearray(data.draw(st.sampled_from(seeds)))
    for _ in range(data.draw(st.integers(0, 3))):
        start = data.draw(st.integers(0, len(raw)))
        raw[start : start + data.draw(st.integers(0, 20))] = data.draw(_INPUT)
    return bytes(raw)


@pytest.mark.parametrize("name", TARGETS)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_nothing_but_what_is_promised_is_raised(name, data):
    TARGETS[name](data.draw(_INPUT))
    small = [raw for raw in corpus(name) if len(raw) < 4000]
    TARGETS[name](_mutated(data, small))


@pytest.mark.parametrize("name", TARGETS)
def test_what_the_fuzzers_begin_with_is_read(name):
    seeds = corpus(name)
    assert len(seeds) > 5
    for raw in seeds:
        TARGETS[name](raw)


@settings(deadline=None)
@given(st.binary(max_size=200))
@example(b"a = " + b"[" * 100_000)
@example(b"a = " + b"9" * 1_000_000)
@example(b"a = 2026-02-31")
@example(b"a = 1e400")
def test_whatever_is_no_toml_is_a_value_error(raw):
    try:
        toml_of(raw.decode("utf-8", "replace"))
    except ValueError as error:
        assert str(error)  # noqa: PT017 - what is raised is the point, not that it is


# --- no quadratic time -----------------------------------------------------------------------------------------------

SMALL, TIMES = 40_000, 8
# Linear time grows 8 times from one size to the other, n log n a little more, quadratic time 64 times.
FACTOR = 28
# Below this, in seconds of the processor, a clock says nothing; and what is so short is not what an attack looks for.
_SEEN = 0.05


def _cost(work, given_, runs=3):
    found = []
    for _ in range(runs):
        before = time.process_time()
        work(given_)
        found.append(time.process_time() - before)
        if found[-1] > 1:
            break
    return min(found)


def _assert_not_quadratic(work, make):
    large = _cost(work, make(SMALL * TIMES), runs=1)
    if large < _SEEN:
        return
    small = _cost(work, make(SMALL))
    if large > FACTOR * small:
        large = _cost(work, make(SMALL * TIMES))
    assert large <= FACTOR * small, (small, large)


REPEATED = {
    "one letter": "a", "spaces": " ", "stars": "**", "quotes": '"', "apostrophes": "'", "negations": "not ",
    "digits": "1", "brackets": "[", "objects": '{"a":', "lines": "\n", "sentences": "A. ", "backslashes": "\\",
    "ticks": "`", "list": "- x\n", "paths": "/a", "addresses": "a@b.", "secrets": "key=", "tags": "<a>",
    "open tags": "<", "links": "http://a.b/", "prefixes": "sk-", "keys": "-----BEGIN PRIVATE KEY-----\n",
    "reminders": "<system-reminder>", "accents": "e\u0301", "superscripts": "²", "names": "Ann ", "versions": "1.",
    "months": "May 8th ", "speakers": "user: ", "bidi": "\u202e", "tokens": "eyJhbGciOi.",
    "words": 'tea is not green, but Ann said "no" 5 times. ',
}  # fmt: skip


def _all_of_a_text(text):
    screen("user", "typed", text, FilterRules(10, "strict"))
    recall_lines("user", text)
    redact(text)
    sentences(text)
    pieces(text)
    normalise(text)
    safe(text)


def _query(text):
    any_of(telling(words_of(text)))
    dates_of(text)


def _answer(text):
    with suppress(UnreadableAnswerError):
        statements(text[:199_999])  # longer ones are not looked at


def _evidence(text):
    # A memory has at most 1,000 characters, one that is imported any number.
    judge(text, text + " x", 0.99, 0.9)


WORK = {"text": _all_of_a_text, "query": _query, "answer": _answer}


@pytest.mark.parametrize("shape", REPEATED)
@pytest.mark.parametrize("work", ["text", "query", "answer"])
def test_a_text_of_one_thing_over_and_over_takes_linear_time(work, shape):
    piece = REPEATED[shape]
    _assert_not_quadratic(WORK[work], lambda size: (piece * (size // len(piece) + 1))[:size])


@pytest.mark.torture
@pytest.mark.parametrize("shape", REPEATED)
def test_the_evidence_about_two_long_texts_takes_linear_time(shape):
    piece = REPEATED[shape]
    _assert_not_quadratic(_evidence, lambda size: (piece * (size // len(piece) + 1))[:size])


@pytest.mark.parametrize("shape", REPEATED)
def test_the_evidence_about_two_texts_as_long_as_memories_are_is_found(shape):
    text = (REPEATED[shape] * 1000)[:1000]
    assert isinstance(judge(text, text, 1.0, 0.9).failed, tuple | list | dict)
    judge(text, f"{text[:990]} not 5", 0.99, 0.9)


FILES = {
    "a line of one text": lambda size: json.dumps({"role": "user", "content": "a b " * size}).encode() + b"\n",
    "brackets": lambda size: b"[" * size + b"\n",
    "brackets in a message": lambda size: b'{"role":"user","content":' + b"[" * size + b"]" * size + b"}\n",
    "objects": lambda size: b'{"a":' * size + b"\n",
    "digits": lambda size: b'{"role":"user","content":"x","id":' + b"1" * size + b"}\n",
    "an array of digits": lambda size: b"[" + b"1" * size + b"]\n",
    "an open string": lambda size: b'{"a":"' + b"\\" * size,
    "quotes": lambda size: b'"' * size,
    "NULs": lambda size: b"\0" * size,
    "broken lines": lambda size: b"{\n" * (size // 32),
    "keys": lambda size: json.dumps(
        {"role": "user", "content": "x", **{f"k{n}": n for n in range(size // 8)}}
    ).encode(),
    "turns": lambda size: json.dumps({"messages": [{"role": "user", "content": "x"}] * (size // 20)}).encode() + b"\n",
    "a ring of messages": lambda size: _tree(size // 100, ring=True),
    "a chain of messages": lambda size: _tree(size // 100, ring=False),
}


def _tree(size, *, ring):
    def place(number):
        return str(number % size) if ring else str(number)

    nodes = {
        place(number): {
            "id": place(number),
            "parent": place(number - 1),
            "children": [place(number + 1)],
            "message": {"author": {"role": "user"}, "content": {"parts": [f"x {number}"]}},
        }
        for number in range(size)
    }
    return json.dumps([{"id": "c", "current_node": "0", "mapping": nodes}]).encode()


@pytest.mark.parametrize("shape", FILES)
def test_a_hostile_file_takes_linear_time(shape):
    make = FILES[shape]

    def read(raw):
        for name in READERS:
            try:
                reading(name, raw)
            except MemcliError:
                continue

    _assert_not_quadratic(read, make)


# --- the measures of the design --------------------------------------------------------------------------------------


def test_a_line_of_ten_megabytes_is_one_message():
    raw = json.dumps({"role": "user", "content": "word " * 2_000_000}).encode() + b"\n"
    (message,) = make_reader("flat").read(Source(BytesIO(raw), final=True))
    assert len(message.text) == 10_000_000
    assert sum(end - start for start, end in pieces(message.text)) > 9_000_000


@pytest.mark.parametrize("name", READERS)
def test_a_hundred_thousand_brackets_are_a_line_that_is_rejected(name):
    raw = b"[" * 100_000 + b"\n" + b'{"a":' * 100_000 + b"\n"
    assert detect(raw) is None or detect(raw).name
    items = list(make_reader(name).read(Source(BytesIO(raw), final=True)))
    assert items
    assert all(isinstance(item, Rejected) for item in items)


def test_a_number_of_a_million_digits_is_a_line_that_is_rejected():
    raw = b'{"role": "user", "content": "x", "id": ' + b"1" * 1_000_000 + b"}\n"
    (item,) = make_reader("flat").read(Source(BytesIO(raw), final=True))
    assert isinstance(item, Rejected)
    assert "too many digits" in item.reason


def test_ten_thousand_rules_are_read_and_applied_to_one_message():
    table = [{"name": f"rule {n}", "pattern": f"word{n}\\b", "id": f"r{n}"} for n in range(10_000)]
    rules = parse_rules(json.dumps(table), "json").rules
    check_ids(rules)
    extractor = RuleExtractor(rules)
    assert not extractor.problems
    found = extractor.extract(Window(1, 1, "a", (Part(1, "user", "We said word7, and word9999 too."),)))
    assert [each.method for each in found.candidates] == ["rules:rule 7"]
    assert [rule.name for rule in extractor.hits("a", "user", "word7 word9999")] == ["rule 7", "rule 9999"]


@pytest.mark.parametrize("words", [100_000, pytest.param(2_500_000, marks=pytest.mark.torture)])
def test_a_query_of_megabytes_is_answered(home, tmp_path, words):
    (tmp_path / "tea.jsonl").write_text('{"role": "user", "content": "I prefer green tea over coffee."}\n')
    assert home.run("ingest", tmp_path / "tea.jsonl").code == 0
    queries = tmp_path / "queries"
    queries.write_text("tea " * words + '" OR NEAR( * ^')
    done = home.run("search", "--queries", queries, "--json")
    assert done.code == 0, done.err
    assert done.json[0]["hits"][0]["content"] == "I prefer green tea over coffee."


def test_the_corpora_of_the_fuzzers_are_the_fixtures():
    assert sum(1 for _ in FIXTURES.rglob("*.jsonl")) > 20
    with pytest.raises(UsageError):
        make_reader("no such reader")
