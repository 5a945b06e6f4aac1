"""BM25 from the postings that a process keeps: FTS5's own scores, bit by bit, whatever is asked in whatever order."""

import random
import sqlite3
from contextlib import closing, contextmanager
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support_ingest import append, flat, query, run, write
from support_search import request, search, searcher

from memcli.search.pool import keywords
from memcli.search.postings import Postings, numbers
from memcli.search.words import any_of
from memcli.store import search as search_rows
from memcli.store.db import Store

ROOM = 1 << 20
# Forms of one word, a word of two terms, other scripts, digits; "everywhere" has an idf of FTS5's least value.
WORDS = [
    *"harbour harbours harbored lantern naïve NAIVE 42 3 route_66 two_2 ox Straße ЧАЙ чай 東京".split(),
    *(f"word{number}" for number in range(30)),
]
ABSENT = ["nowhere", "not_here", "lantern_word1"]


def made(db, texts):
    """A database with nothing but a keyword index."""
    with Store.create(db) as store:
        store.conn.executemany("INSERT INTO memories_fts (rowid, content) VALUES (?, ?)", texts.items())
    return db


@contextmanager
def opened(db, room=ROOM):
    with Store.open(db) as store:
        search_rows.prepare(store)
        yield Postings(store, room)


@pytest.fixture(scope="module")
def db(tmp_path_factory):
    """Texts from two words to thousands, with gaps between their ids, in which words come once or often."""
    draw = random.Random(5)  # noqa: S311 - no secret
    weights = [1 / (rank + 1) for rank in range(len(WORDS))]
    texts = {
        3 * number: f"everywhere text {number}: "
        + " ".join(draw.choices(WORDS, weights, k=draw.choice((1, 5, 40, 300))))
        for number in range(1, 400)
    }
    texts[2000] = "everywhere " + "lantern harbour " * 9000
    texts[2001] = "everywhere"
    return made(tmp_path_factory.mktemp("postings") / "memory.db", texts)


def all_pass(ids):
    return np.ones(len(ids), dtype=np.bool_)


def asked_of_fts5(db, words):
    rows = query(db, "SELECT rowid, -bm25(memories_fts) FROM memories_fts WHERE memories_fts MATCH ? ORDER BY rowid",
                 any_of(words))  # fmt: skip
    return [tuple(row) for row in rows]


def pairs(found):
    return list(zip(found.ids.tolist(), found.scores.tolist(), strict=True))


@pytest.fixture(scope="module")
def store(db):
    with Store.open(db) as one:
        search_rows.prepare(one)
        yield one


@pytest.mark.parametrize("word", [*WORDS, "everywhere", "harbouring", "text"])
def test_a_word_scores_what_fts5_says(db, store, word):
    postings = Postings(store, ROOM)
    assert word in postings.known([word, *ABSENT])
    expected = asked_of_fts5(db, [word])
    assert len(expected) > 0
    assert pairs(postings.scores(word)) == expected
    assert pairs(postings.scores(word)) == expected, "the second time, too"


@settings(max_examples=60, deadline=None)
@given(asked=st.lists(st.sampled_from([*WORDS, *ABSENT, "everywhere"]), unique=True, min_size=1, max_size=8),
       enough=st.sampled_from([1, 5, 50, 10**6]), room=st.sampled_from([0, 2000, ROOM]))  # fmt: skip
def test_queries_score_what_fts5_says(db, store, asked, enough, room):
    """All that is found has the score of the whole query; where nothing is left out, FTS5 finds the same."""
    found = pairs(keywords(Postings(store, room), asked, all_pass, enough))
    whole = asked_of_fts5(db, asked)
    assert [memory_id for memory_id, _ in found] == sorted({memory_id for memory_id, _ in found})
    known = dict(whole)
    for memory_id, score in found:
        # FTS5 adds in the order of the query, and the rarest come first here: the last bit may differ.
        assert score == pytest.approx(known[memory_id], rel=1e-14)
    if enough == 10**6:
        assert len(found) == len(whole)


@settings(max_examples=60, deadline=None)
@given(asked=st.lists(st.sampled_from([*WORDS, *ABSENT, "everywhere"]), unique=True, min_size=1, max_size=8),
       enough=st.sampled_from([1, 5, 50, 10**6]))  # fmt: skip
def test_a_database_too_large_for_postings_has_the_same_scores(store, asked, enough):
    """FTS5 scores what does not fit: bit by bit the same."""
    assert pairs(keywords(Postings(store, 0), asked, all_pass, enough)) == pairs(
        keywords(Postings(store, ROOM), asked, all_pass, enough)
    )


def test_what_is_kept_fits_into_the_room(store):
    postings = Postings(store, 3000)
    for word in postings.known(WORDS):
        postings.scores(word)
        assert postings.kept_bytes <= max(3000, 16 * len(postings.scores(word).ids))


def test_a_word_is_read_once_from_the_index(store):
    postings = Postings(store, ROOM)
    with patch.object(search_rows, "memories_with", wraps=search_rows.memories_with) as read:
        for _ in range(3):
            keywords(postings, ["lantern", "word1"], all_pass)
    assert sorted(call.args[1] for call in read.call_args_list) == ["lantern", "word1"]


def test_postings_follow_the_corpus(tmp_path):
    """A commit of another process between two queries of an open searcher is seen, in idf and lengths as well."""
    db, source = tmp_path / "memory.db", tmp_path / "a.jsonl"
    run(db, write(source, *(flat(f"The lantern number {n} is lit.", id=n) for n in range(5))), near_threshold=1.0)
    with searcher(db, use_cache=False) as one:
        before = one.answer(["lantern"], request(mode="keyword", k=20))[0].hits
        append(
            source, *(flat(f"A longer text on the lantern of room {n * 7} and its oil.", id=f"b{n}") for n in range(9))
        )
        run(db, source, near_threshold=1.0)
        after = one.answer(["lantern"], request(mode="keyword", k=20))[0].hits
    assert len(before) == 5
    expected = search(db, "lantern", mode="keyword", k=20)[0]["hits"]
    assert [round(hit.ranked.score, 4) for hit in after] == [hit["score"] for hit in expected]
    assert len(after) == 14


def test_deletions_count_as_fts5_counts_them(tmp_path):
    """The totals that scores depend on are those of FTS5's own records."""
    texts = {number: f"Kettle number {number} sings {'often ' * number}." for number in range(1, 9)}
    db = made(tmp_path / "memory.db", texts)
    with closing(sqlite3.connect(db)) as conn, conn:
        conn.execute("INSERT INTO memories_fts (memories_fts, rowid, content) VALUES ('delete', 3, ?)", (texts[3],))
    with opened(db) as postings:
        for word in postings.known(["kettle", "sings", "often"]):
            assert pairs(postings.scores(word)) == asked_of_fts5(db, [word])
            assert len(postings.scores(word).ids) == 7


def test_a_read_only_database_has_postings(tmp_path):
    db = tmp_path / "memory.db"
    run(db, write(tmp_path / "a.jsonl", flat("The quince tree blooms.")))
    with closing(sqlite3.connect(db)) as conn:
        conn.execute("PRAGMA wal_checkpoint (TRUNCATE)")
    db.chmod(0o400)
    tmp_path.chmod(0o500)
    try:
        assert len(search(db, "quince", mode="keyword")[0]["hits"]) == 1
    finally:
        tmp_path.chmod(0o700)


def test_an_empty_database_has_no_words(tmp_path):
    with opened(made(tmp_path / "memory.db", {})) as postings:
        assert postings.known(["quince"]) == {}


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**56 - 1), max_size=50))
def test_varints(values):
    raw = bytearray()
    for value in values:
        sevens = [value & 127]
        while value := value >> 7:
            sevens.append(value & 127 | 128)
        raw += bytes(reversed(sevens))
    assert numbers(bytes(raw)).tolist() == values
