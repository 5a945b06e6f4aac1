"""Search in process: what it finds, what it filters, what it prints, and that no query is an error."""

import json
import re
from io import BytesIO, TextIOWrapper

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support_ingest import append, assistant, flat, query, run, user, write
from support_search import contents, search

from memcli.commands.search import read_queries
from memcli.errors import NoDatabaseError, UsageError

DEPLOY = "The deploy window is on Tuesday morning."
DEPLOYS = "The deploy windows are on Tuesday morning."
TEA = "I prefer tea to coffee in the morning."
SAID = [
    "We decided to retry failed webhooks five times with growing pauses.",
    "The database password rotates every ninety days.",
    "Lisbon is lovely in October when the crowds are gone.",
    "Our kitten sleeps on the radiator all winter.",
    "The quarterly invoice goes to the accountant in Utrecht.",
    "Redis keeps the session tokens for two weeks.",
]


@pytest.fixture(scope="module")
def db(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    records = [
        flat(text, id=n, session_id=f"s{n}", timestamp=f"2026-03-0{n + 1}T08:00:00Z", model="m1" if n < 3 else "m2")
        for n, text in enumerate(SAID)
    ]
    records.append(flat("The lighthouse keeper reads novels.", id=9, session_id="s9", agent_id="ann"))
    run(folder / "memory.db", write(folder / "a.jsonl", *records))
    return folder / "memory.db"


# --- finding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("what did we decide about retries", 0),
        ("password rotation", 1),
        ("Lisbon", 2),
        ("accountant utrecht", 4),
        ("tokens", 5),
    ],
)
def test_words_find(db, asked, expected):
    assert contents(db, asked)[0] == SAID[expected]


@pytest.mark.parametrize("asked", ["Straße", "straße", "größe", "GRÖßE"])
def test_a_word_whose_folded_form_is_another_word_is_found(tmp_path, asked):
    text = "Die Straße vor dem Büro hat eine ungewöhnliche Größe."
    run(tmp_path / "memory.db", write(tmp_path / "a.jsonl", flat(text, session_id="s1")))
    assert contents(tmp_path / "memory.db", asked, mode="keyword") == [text]


@pytest.mark.parametrize(("asked", "expected"), [("cat", 3), ("travel to Portugal in autumn", 2), ("credentials", 1)])
def test_meaning_finds_what_shares_no_word(db, asked, expected):
    assert not set(re.findall(r"\w+", asked.lower())) & set(re.findall(r"\w+", SAID[expected].lower())) - {"in", "to"}
    assert contents(db, asked)[0] == SAID[expected]


def test_hits_are_ordered_by_score_and_at_most_k(db):
    (answer,) = search(db, "the session password", k=3)
    scores = [hit["score"] for hit in answer["hits"]]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert len(contents(db, "the session password", k=1)) == 1
    assert len(contents(db, "the session password", k=1000)) == 7


def test_several_queries_are_answered_in_order(db):
    asked = ["password", "kitten", "password", "no such thing"]
    answers = search(db, *asked)
    assert [answer["query"] for answer in answers] == asked
    assert [answer["hits"][0]["content"] for answer in answers[:3]] == [SAID[1], SAID[3], SAID[1]]
    alone = search(db, "kitten")[0]
    assert answers[1]["hits"] == alone["hits"]


def test_an_empty_database_finds_nothing(tmp_path):
    run(tmp_path / "memory.db", write(tmp_path / "a.jsonl", flat("ok")))
    assert search(tmp_path / "memory.db", "anything", "")[0]["hits"] == []


def test_no_database_is_no_empty_one(tmp_path):
    with pytest.raises(NoDatabaseError):
        search(tmp_path / "memory.db", "anything")
    assert list(tmp_path.iterdir()) == []


def test_a_search_does_not_change_the_database(db):
    before = db.read_bytes()
    search(db, "password")
    assert db.read_bytes() == before


def test_a_match_deep_in_a_large_corpus_is_found_by_words(tmp_path):
    """More memories than are looked at for their meaning, and a query whose meaning is that of most of them."""
    records = [flat(f"Crate {n} of row {n * 7} holds lanterns for the market.", id=n) for n in range(900)]
    records.insert(450, flat("Crate zanzibar holds lanterns for the market.", id="z"))
    run(tmp_path / "memory.db", write(tmp_path / "a.jsonl", *records))
    assert contents(tmp_path / "memory.db", "which crate holds zanzibar lanterns")[0] == records[450]["content"]


# --- no query is an error --------------------------------------------------------------------------------------------

SYNTAX = '" * ( ) ^ : - AND OR NOT NEAR NEAR(a {a content: a* + password the'.split()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=60) | st.lists(st.sampled_from(SYNTAX), max_size=12).map(" ".join))
@example("")
@example("\0")
@example("\ud83d")
@example('" OR content : "')
@example("the of and")
@example("_ __ ___")
@example("٣ ² ½ Ⅷ")
@example("password " * 3000)
@example(" ".join(f"word{n}" for n in range(3000)))
def test_no_query_is_an_error(db, asked):
    (answer,) = search(db, asked, k=3)
    assert len(answer["hits"]) == 3
    json.dumps(answer).encode()


@pytest.mark.parametrize(
    "asked", ['"password"', "password*", "password AND nothing", "NOT password", "content:password"]
)
def test_search_syntax_is_only_text(db, asked):
    assert SAID[1] in contents(db, asked, k=2)


@pytest.mark.parametrize("asked", ["what is the password", "the password", "PASSWORD", "passwords"])
def test_stop_words_case_and_number_do_not_matter(db, asked):
    assert contents(db, asked)[0] == SAID[1]


def test_queries_come_from_words_files_and_standard_input(tmp_path, monkeypatch):
    file = tmp_path / "queries.txt"
    file.write_text("\ufefffirst one\n\n  second  \r\n", encoding="utf-8")
    assert read_queries(["zeroth"], str(file)) == ["zeroth", "first one", "second"]
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(b"from a pipe\n\nand more\n")))
    assert read_queries(["zeroth", "-"], None) == ["zeroth", "from a pipe", "and more"]
    with pytest.raises(UsageError, match="no query"):
        read_queries(["  "], None)
    with pytest.raises(UsageError, match="cannot read"):
        read_queries([], str(tmp_path / "gone"))
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="UTF-8"):
        read_queries([], str(file))


# --- filters ---------------------------------------------------------------------------------------------------------


def test_the_agent_filter(db):
    assert contents(db, "lighthouse password", agent="ann") == ["The lighthouse keeper reads novels."]
    assert len(contents(db, "lighthouse password", agent="default")) == 6
    assert contents(db, "lighthouse", agent="nobody") == []


def test_the_type_filter(db):
    (fact,) = contents(db, "kitten", type="semantic")
    assert fact == SAID[0]
    assert SAID[0] not in contents(db, "we decided", type="episodic")
    assert contents(db, "kitten", type="procedural") == []


def test_the_tag_filter(db):
    assert sorted(contents(db, "session tokens", tag="model:m1")) == sorted(SAID[:3])
    assert sorted(contents(db, "session tokens", tag="model:m2")) == sorted(SAID[3:])
    assert contents(db, "session tokens", tag="model:m3") == []


def test_the_date_filter(db):
    assert sorted(contents(db, "password", since="2026-03-05T00:00:00.000Z")) == sorted(SAID[4:])
    assert sorted(contents(db, "password", since="2026-03-05T08:00:00.000Z")) == sorted(SAID[4:])


def test_filters_work_together(db):
    filters = {"agent": "default", "type": "episodic", "tag": "model:m2", "since": "2026-03-06T00:00:00.000Z"}
    assert contents(db, "x", **filters) == SAID[5:]


# --- stars -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def starred(tmp_path):
    """A star of three wordings from three sessions, and the exact duplicate of a fourth."""
    file = write(
        tmp_path / "a.jsonl",
        user(DEPLOY, "u1", "s1", cwd="/srv/api", timestamp="2026-03-01T08:00:00Z"),
        user(DEPLOYS, "u2", "s2", cwd="/srv/web", timestamp="2026-03-02T08:00:00Z"),
        user(DEPLOY, "u3", "s3", cwd="/srv/api", gitBranch="fix", timestamp="2026-03-03T08:00:00Z"),
        user("Nobody feeds the office cat.", "u4", "s4", cwd="/srv/api", timestamp="2026-02-01T08:00:00Z"),
    )
    run(tmp_path / "memory.db", file)
    return tmp_path / "memory.db"


def test_the_wording_of_a_loser_finds_its_star_once(starred):
    hits = contents(starred, "deploy windows")
    assert hits == [DEPLOY, "Nobody feeds the office cat."]


def test_a_hit_has_the_shape_of_the_document(starred):
    (answer,) = search(starred, "deploy windows", k=1)
    assert answer.keys() == {"query", "seconds", "cached", "hits"}
    assert answer["cached"] is False
    (hit,) = answer["hits"]
    path = str(starred.with_name("a.jsonl"))
    assert hit.pop("score") > 0
    assert hit.pop("tags") == pytest.approx({"project:api": 2 / 3, "branch:fix": 1 / 3, "project:web": 1 / 3}, abs=1e-4)
    assert hit == {
        "memory_id": 1,
        "content": DEPLOY,
        "type": "episodic",
        "importance": 0.3,
        "keywords": [],
        "agent_id": "claude-code",
        "session_id": "s1",
        "timestamp": "2026-03-01T08:00:00.000Z",
        "sources": [
            {"message_id": 1, "external_id": "u1", "path": path, "start": 0, "end": len(DEPLOY)},
            {"message_id": 2, "external_id": "u2", "path": path, "start": 0, "end": len(DEPLOYS)},
            {"message_id": 3, "external_id": "u3", "path": path, "start": 0, "end": len(DEPLOY)},
        ],
    }


@pytest.mark.parametrize("tag", ["project:api", "project:web", "branch:fix"])
def test_a_star_is_found_by_the_tags_of_all_its_members(starred, tag):
    assert contents(starred, "deploy", tag=tag)[0] == DEPLOY


@pytest.mark.parametrize("since", ["2026-03-02T00:00:00.000Z", "2026-03-03T00:00:00.000Z"])
def test_a_star_is_as_new_as_its_newest_member(starred, since):
    assert contents(starred, "deploy", since=since) == [DEPLOY]
    assert contents(starred, "deploy", since="2026-03-04T00:00:00.000Z") == []


def test_the_type_of_a_star_is_its_winners(tmp_path):
    file = write(tmp_path / "a.jsonl", assistant(TEA, "a1", "m1"), assistant(TEA[:-1] + "!", "a2", "m2"))
    run(tmp_path / "memory.db", file)
    run(tmp_path / "memory.db", append(file, user(TEA, "u1")))
    assert query(tmp_path / "memory.db", "SELECT type, mentions FROM active_memories") == [("semantic", 3)]
    assert contents(tmp_path / "memory.db", "tea", type="semantic") == [TEA]
    assert contents(tmp_path / "memory.db", "tea", type="episodic") == []
