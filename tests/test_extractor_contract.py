"""What every extraction tier promises, run on each of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memcli.extract.rules import Rule, RuleExtractor, starter_rules
from memcli.extract.verbatim import VerbatimExtractor
from memcli.model import Part, Window
from memcli.text import PIECE_LIMIT

EVERYTHING = Rule("all", "everything", ".", "episodic", 0.5)
EXTRACTORS = [
    pytest.param(VerbatimExtractor(), id="verbatim"),
    pytest.param(RuleExtractor(starter_rules()), id="starter rules"),
    pytest.param(RuleExtractor([EVERYTHING]), id="a rule that hits everything"),
    pytest.param(RuleExtractor([]), id="no rules"),
]
PHRASES = (
    "We decided to use SQLite.",
    "I prefer tea 🍵 to coffee!",
    "- My name is Łukasz\n",
    "漢字を使います。",
    "From now on, no emoji.",
    "The login page shows an error.",
    "x" * 600 + " deadline",
    "\n\n",
    " ",
    "I feel so happy today",
)
TEXTS = st.lists(st.one_of(st.sampled_from(PHRASES), st.text(max_size=20)), max_size=8).map(" ".join)
PARTS = st.builds(
    Part,
    message_id=st.integers(1, 9),
    role=st.sampled_from(["user", "assistant", "system", "tool"]),
    text=TEXTS.map(lambda text: text.replace("\x00", "")),
    start=st.sampled_from([0, 17]),
)
WINDOWS = st.lists(PARTS, max_size=3, unique_by=lambda part: part.message_id).map(
    lambda parts: Window(1, 1, "anna", tuple(parts))
)


@pytest.fixture(params=EXTRACTORS)
def extractor(request):
    return request.param


@pytest.mark.parametrize("extractor", EXTRACTORS)
@given(window=WINDOWS)
def test_a_candidate_says_what_its_source_says(extractor, window):
    parts = {part.message_id: part for part in window.parts}
    for candidate in extractor.extract(window).candidates:
        (source,) = candidate.sources
        part = parts[source.message_id]
        assert candidate.content == part.text[source.start - part.start : source.end - part.start]
        assert part.start <= source.start < source.end <= part.start + len(part.text)


@pytest.mark.parametrize("extractor", EXTRACTORS)
@given(window=WINDOWS)
def test_candidates_are_trimmed_short_and_within_the_scales(extractor, window):
    for candidate in extractor.extract(window).candidates:
        assert candidate.content == candidate.content.strip()
        assert 0 < len(candidate.content) <= PIECE_LIMIT
        assert 0 <= candidate.importance <= 1
        assert candidate.type in {"semantic", "episodic", "procedural"}
        assert candidate.method.split(":")[0] == extractor.tier


@pytest.mark.parametrize("extractor", EXTRACTORS)
@given(window=WINDOWS)
def test_candidates_come_in_the_order_of_the_text_and_none_twice(extractor, window):
    found = extractor.extract(window).candidates
    order = [part.message_id for part in window.parts]
    places = [(order.index(c.sources[0].message_id), c.sources[0].start, c.sources[0].end, c.type) for c in found]
    assert places == sorted(places)
    assert len(places) == len(set(places))


@pytest.mark.parametrize("extractor", EXTRACTORS)
@given(window=WINDOWS)
def test_a_window_gives_the_same_whatever_was_extracted_before(extractor, window):
    assert extractor.extract(window) == extractor.extract(window)


def test_a_local_tier_costs_nothing(extractor):
    extraction = extractor.extract(Window(1, 1, "anna", (Part(1, "user", " ".join(PHRASES)),)))
    assert (extraction.tokens, extraction.cost_usd) == (0, 0.0)


def test_an_empty_window_gives_nothing(extractor):
    assert extractor.extract(Window(1, 1, "anna", ())).candidates == ()


def test_lone_surrogates_do_not_stop_an_extractor(extractor):
    extractor.extract(Window(1, 1, "anna", (Part(1, "user", "I prefer \ud83d tea. We decided \udc00."),)))


def test_a_tier_has_a_name_and_a_version(extractor):
    assert extractor.tier in {"rules", "verbatim"}
    assert extractor.version_for("anna") == extractor.version_for("anna") != ""
