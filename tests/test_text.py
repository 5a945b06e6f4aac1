"""Text functions: what hashing ignores, and that cutting loses nothing."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from memcli.text import PIECE_LIMIT, clean, content_hash, digest, normalise, pieces, sentences

texts = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(" \n.!?-"), max_size=300)


def test_sentences_end_at_stops_lists_and_empty_lines_but_not_at_abbreviations():
    text = "We met Dr. Smith, e.g. on Monday. Fine!\n\n- first item\n- second item。三个"
    found = [text[start:end] for start, end in sentences(text)]
    assert found == ["We met Dr. Smith, e.g. on Monday.", "Fine!", "- first item", "- second item。", "三个"]


@given(texts)
def test_sentences_and_pieces_keep_every_character_that_is_no_white_space(text):
    for spans in (sentences(text), pieces(text, 20)):
        kept = "".join(text[start:end] for start, end in spans)
        assert "".join(kept.split()) == "".join(text.split())
        assert all(text[start:end].strip() == text[start:end] != "" for start, end in spans)
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))


@given(texts, st.integers(10, 50))
def test_pieces_are_never_longer_than_the_limit(text, limit):
    assert all(end - start <= limit for start, end in pieces(text, limit))


def test_a_long_text_is_cut_at_sentence_ends():
    text = "This is a sentence of some length. " * 80
    found = [text[start:end] for start, end in pieces(text)]
    assert all(piece.endswith(".") and len(piece) <= PIECE_LIMIT for piece in found)
    assert len(found) == 3


def test_a_text_without_any_space_is_cut_too():
    assert [end - start for start, end in pieces("x" * 2500)] == [1000, 1000, 500]


@given(texts)
def test_the_content_hash_ignores_white_space_and_composition_only(text):
    assert content_hash(f"  {text}\n\t") == content_hash(" ".join(text.split()))
    assert (content_hash(text) == content_hash(text + "x")) is False


def test_composed_and_decomposed_accents_are_one_text_but_superscripts_stay():
    assert content_hash("caf\u0065\u0301") == content_hash("café")
    assert normalise("10²") == "10²"
    assert content_hash("Tea") != content_hash("tea")


def test_digest_keeps_parts_apart():
    assert digest("ab", "c") != digest("a", "bc")
    assert len(digest("x")) == 16


def test_clean_replaces_what_the_database_cannot_hold():
    assert clean("a\ud83db\x00c") == "a�b�c"
    clean("\ud83d\ude00").encode()
