"""What ranks a memory: words, meaning, the turns around it, who said it and when; modes, filters, explanations."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from support_ingest import append, flat, query, run, user, write
from support_search import contents, search, searcher

from memcli.search import pool
from memcli.search.postings import Postings
from memcli.search.words import Day, closeness, dates_of, telling, words_of

CHAT = [
    ("ann", "Did you hear back about the apartment in Ghent?"),
    ("ben", "Yes, they finally called me yesterday evening."),
    ("ann", "The landlord wants two months of deposit, can you manage that?"),
    ("ben", "My aunt Rosalind lends me the money until spring."),
]
OTHER = [
    ("ann", "Our choir sings a requiem in the old church."),
    ("ben", "I repaired the bicycle with a part from the flea market."),
    ("ann", "Rain again, so the barbecue moves indoors."),
    ("ben", "They called the plumber because of the leak."),
]


def chat(name, lines, day):
    return [
        {"speaker": who.capitalize(), "text": text, "id": f"{name}{at}", "session_id": name}
        | {"timestamp": f"{day}T10:0{at}:00Z"}
        for at, (who, text) in enumerate(lines)
    ]


@pytest.fixture(scope="module")
def db(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranking")
    run(folder / "memory.db", write(folder / "chats" / "home.jsonl", *chat("s1", CHAT, "2024-05-03")),
        write(folder / "chats" / "other.jsonl", *chat("s2", OTHER, "2024-08-20")))  # fmt: skip
    return folder / "memory.db"


def parts(db, asked, text, **options):
    (answer,) = search(db, asked, explain=True, **options)
    return next(hit["parts"] for hit in answer["hits"] if hit["content"] == text)


# --- what counts -----------------------------------------------------------------------------------------------------


def test_the_turns_around_a_memory_count(db):
    """An answer that shares nothing with the question is found beside the turn that does."""
    answer, stranger = CHAT[1][1], OTHER[3][1]
    order = contents(db, "apartment in Ghent")
    assert order.index(answer) < order.index(stranger)
    assert parts(db, "apartment in Ghent", answer)["context"] > 0.3
    assert parts(db, "apartment in Ghent", stranger)["context"] < 0.2
    assert parts(db, "apartment in Ghent", CHAT[2][1])["context"] > 0.2, "two turns away"


def test_context_ends_with_the_session(tmp_path):
    lines = [flat(text, session_id=f"s{n}", id=n) for n, (_, text) in enumerate(CHAT)]
    run(tmp_path / "memory.db", write(tmp_path / "a.jsonl", *lines))
    (answer,) = search(tmp_path / "memory.db", "apartment in Ghent", explain=True)
    assert all(hit["parts"]["context"] == 0 for hit in answer["hits"])


def test_turns_that_nothing_is_remembered_of_do_not_stand_between(tmp_path):
    said = ["Is the apartment in Ghent still free?", "ok", "thanks!", "hm", "Somebody signed the contract on Monday."]
    other = ["Our choir rehearses a requiem.", "ok", "thanks!", "hm", "Somebody repaired the bicycle on Monday."]
    lines = [
        flat(text, session_id=name, id=f"{name}{n}")
        for n in range(len(said))
        for name, text in (("s1", said[n]), ("s2", other[n]))
    ]
    run(tmp_path / "memory.db", write(tmp_path / "a.jsonl", *lines))
    hits = search(tmp_path / "memory.db", "apartment in Ghent", explain=True)[0]["hits"]
    context = {hit["content"]: hit["parts"]["context"] for hit in hits}
    assert context[said[4]] > 0.4
    assert context[other[4]] < 0.1


def test_kept_messages_that_no_rule_finds_anything_in_do_not_stand_between(tmp_path):
    between = [f"The weather in the valley was fair on day {day}." for day in range(6)]
    said = ["We decided to rent the apartment in Ghent.", *between, "We decided to sign the contract on Monday."]
    lines = [flat(text, session_id="s1", id=n) for n, text in enumerate(said)]
    run(tmp_path / "memory.db", write(tmp_path / "a.jsonl", *lines), extract=("rules",))
    hits = search(tmp_path / "memory.db", "apartment in Ghent", explain=True)[0]["hits"]
    context = {hit["content"]: hit["parts"]["context"] for hit in hits}
    assert not set(between) & context.keys()
    assert context[said[-1]] > 0.4


def test_whom_a_query_names_said_it(db):
    assert parts(db, "what did Ben repair", OTHER[1][1])["speaker"] > 0
    assert parts(db, "what did Ben repair", OTHER[0][1])["speaker"] == 0
    assert parts(db, "what did ben repair", OTHER[1][1])["speaker"] > 0
    assert parts(db, "what did Rosalind repair", OTHER[1][1])["speaker"] == 0


@pytest.mark.parametrize("asked", ["what happened on 20 August 2024", "2024-08-20", "in August", "august 20th"])
def test_the_date_that_a_query_names(db, asked):
    assert parts(db, asked, OTHER[0][1])["date"] > 0.2
    assert parts(db, asked, CHAT[0][1])["date"] < parts(db, asked, OTHER[0][1])["date"]


def test_a_question_is_no_answer(db):
    assert parts(db, "deposit for the landlord", CHAT[2][1])["question"] < 0
    assert parts(db, "deposit for the landlord", CHAT[3][1])["question"] == 0


def test_what_is_important_and_what_is_new_comes_a_little_before_the_rest(tmp_path):
    ages = {"oak": 0, "elm": 90, "ash": 180}
    days = {tree: (datetime.now(UTC) - timedelta(age)).isoformat() for tree, age in ages.items()}
    lines = [
        flat(f"The {tree} stands in our garden.", id=tree, session_id=tree, timestamp=day) for tree, day in days.items()
    ]
    lines += [flat("Please always water the garden.", id=9, session_id="rule")]
    run(tmp_path / "memory.db", write(tmp_path / "a.jsonl", *lines), near_threshold=1.0)
    (answer,) = search(tmp_path / "memory.db", "garden", explain=True)
    by_text = {hit["content"]: hit for hit in answer["hits"]}
    for tree, age in ages.items():
        recency = by_text[f"The {tree} stands in our garden."]["parts"]["recency"]
        assert recency == pytest.approx(0.05 * 0.5 ** (age / 90), abs=0.001)
    assert by_text["Please always water the garden."]["parts"]["recency"] == 0, "it has no date"
    importances = {hit["importance"] for hit in answer["hits"]}
    assert len(importances) > 1, "a rule makes it more important"
    for hit in answer["hits"]:
        assert hit["parts"]["importance"] == pytest.approx(0.1 * hit["importance"], abs=0.001)


@pytest.mark.parametrize("asked", ["apartment", "what did Ben say in May 2024", "xyzzy"])
def test_the_parts_add_up_to_the_score(db, asked):
    (answer,) = search(db, asked, explain=True)
    for hit in answer["hits"]:
        assert sum(hit["parts"].values()) == pytest.approx(hit["score"], abs=5e-4)


def test_the_tags_of_the_environment_come_first(tmp_path):
    db = tmp_path / "memory.db"
    token = user("The deploy script needs a new token for the registry.", "u1", "s1", cwd="/srv/api")
    proxy = user("The deploy script needs a new certificate for the proxy.", "u2", "s2", cwd="/srv/web")
    run(db, write(tmp_path / "a.jsonl", token, proxy))
    plain = contents(db, "deploy script token certificate")
    for project in ("api", "web"):
        (answer,) = search(db, "deploy script", environment=(f"project:{project}",), explain=True)
        first = answer["hits"][0]
        assert f"project:{project}" in first["tags"]
        assert first["parts"]["environment"] == pytest.approx(0.5)
    assert sorted(plain) == sorted(hit["content"] for hit in answer["hits"]), "a boost, not a filter"
    (answer,) = search(db, "deploy script", environment=("project:api", "branch:none"), explain=True)
    assert answer["hits"][0]["parts"]["environment"] == pytest.approx(0.25)


# --- modes -----------------------------------------------------------------------------------------------------------


def test_vector_mode_is_brute_force(tmp_path):
    verbs, things = ("paint", "sell", "lose", "find", "repair", "borrow"), ("boat", "piano", "camera", "ladder")
    places = ("in Oslo", "at night", "for free")
    texts = [f"{verb} the {thing} {place}" for verb in verbs for thing in things for place in places]
    db = tmp_path / "memory.db"
    run(db, write(tmp_path / "a.jsonl", *(flat(text, id=n) for n, text in enumerate(texts))), near_threshold=1.0)
    with searcher(db, use_cache=False) as one:
        rows = query(db, "SELECT memory_ids, vectors, count, dim FROM segments")
        ids = np.concatenate([np.frombuffer(row[0], "<i8") for row in rows])
        vectors = np.concatenate([np.frombuffer(row[1], "<f4").reshape(row[2], row[3]) for row in rows])
        for asked in ("someone sold an instrument", "ladder", "photography after dark"):
            (answer,) = search(db, asked, mode="vector")
            scores = vectors.astype(np.float64) @ one._embedder.embed_queries([asked])[0]
            assert [hit["memory_id"] for hit in answer["hits"]] == ids[np.lexsort((ids, -scores))][:10].tolist()
            assert answer["hits"][0]["score"] == pytest.approx(scores.max(), abs=1e-4)


def test_keyword_mode_knows_words_only(db):
    assert contents(db, "choirs singing", mode="keyword") == [OTHER[0][1]]
    assert contents(db, "music ensemble", mode="keyword") == []
    assert OTHER[0][1] in contents(db, "music ensemble", mode="vector", k=2)


def test_keyword_mode_is_bm25_of_fts5(tmp_path):
    """Also where a word is so common that it is looked up only beside rarer ones."""
    rare = {3: "zither", 500: "zither", 899: "quince"}
    texts = [f"Crate {n} holds {rare.get(n, 'plain')} lanterns number {n * 13}." for n in range(900)]
    db = tmp_path / "memory.db"
    run(db, write(tmp_path / "a.jsonl", *(flat(text, id=n) for n, text in enumerate(texts))), near_threshold=1.0)
    for asked, words in (("the zither lanterns", '"zither" OR "lanterns"'), ("quince zither", '"quince" OR "zither"')):
        best = query(db, "SELECT rowid, -bm25(memories_fts) FROM memories_fts WHERE memories_fts MATCH ?"
                         " ORDER BY bm25(memories_fts), rowid LIMIT 2", words)  # fmt: skip
        (answer,) = search(db, asked, mode="keyword", k=2)
        assert [(hit["memory_id"], hit["score"]) for hit in answer["hits"]] == [
            (m, pytest.approx(s, abs=1e-4)) for m, s in best
        ]
    with searcher(db, use_cache=False) as one:
        postings = Postings(one.store, 1 << 20)
        found = pool.keywords(postings, ["lanterns", "zither"], lambda ids: np.ones(len(ids), bool), enough=2)
        assert len(found.ids) == 2, "of the common word only what stands beside the rare one"


# --- filters ---------------------------------------------------------------------------------------------------------


def test_more_filters(db):
    said = [text for _, text in OTHER]
    for mode in ("hybrid", "vector"):
        assert sorted(contents(db, "x", mode=mode, session="s2")) == sorted(said)
        assert sorted(contents(db, "x", mode=mode, source="other.jsonl")) == sorted(said)
        assert sorted(contents(db, "x", mode=mode, source="*/chats/o*")) == sorted(said)
        assert sorted(contents(db, "x", mode=mode, source="o*.jsonl")) == sorted(said), "a pattern of the file's name"
        assert sorted(contents(db, "x", mode=mode, source="chats/othe?.jsonl")) == sorted(said)
        assert contents(db, "x", mode=mode, source="the*.jsonl") == [], "of whole parts of the path only"
        assert sorted(contents(db, "x", mode=mode, source=str(db.with_name("chats") / "other.jsonl"))) == sorted(said)
        assert sorted(contents(db, "x", mode=mode, source=f"{db.parent}/ch*/other.*")) == sorted(said), "of the path"
        assert contents(db, "x", mode=mode, source="ther.jsonl") == []
        span = {"since": "2024-08-20T10:01:00.000Z", "until": "2024-08-20T10:03:00.000Z"}
        assert sorted(contents(db, "x", mode=mode, **span)) == sorted(said[1:3])
        assert contents(db, "x", mode=mode, role="assistant") == []
        assert len(contents(db, "x", mode=mode, role="user")) == 8
        assert contents(db, "x", mode=mode, importance=0.95) == []
        assert len(contents(db, "x", mode=mode, importance=0.3)) == 8
    assert contents(db, "they called", mode="keyword", session="s2") == [OTHER[3][1]]


def test_the_turns_around_count_even_if_they_may_not_be_found(db):
    hits = search(db, "apartment in Ghent", explain=True, since="2024-05-03T10:01:00.000Z")[0]["hits"]
    assert CHAT[0][1] not in [hit["content"] for hit in hits]
    assert hits[0]["content"] == CHAT[1][1]


def test_context_shows_the_messages_around(db):
    (answer,) = search(db, "aunt Rosalind", k=1, context=1)
    shown = answer["hits"][0]["context"]
    assert [(each["text"], each["speaker"], each["source"]) for each in shown] == [
        (CHAT[2][1], "Ann", False), (CHAT[3][1], "Ben", True)]  # fmt: skip
    (answer,) = search(db, "they finally called me", k=1, context=50)
    assert [each["text"] for each in answer["hits"][0]["context"]] == [text for _, text in CHAT]
    assert "context" not in search(db, "aunt")[0]["hits"][0]


def test_many_queries_give_what_each_gives_alone(db):
    asked = [text for _, text in CHAT + OTHER] * 5
    for mode in ("hybrid", "vector", "keyword"):
        together = search(db, *asked, mode=mode)
        for text, answer in list(zip(asked, together, strict=True))[:8]:
            assert answer["hits"] == search(db, text, mode=mode)[0]["hits"]


def test_a_copy_in_another_session_lends_its_star_its_place(tmp_path):
    """An exact duplicate has no vector of its own; as a neighbour it counts with its star's."""
    db, file = tmp_path / "memory.db", tmp_path / "a.jsonl"
    run(db, write(file, flat("The Ghent apartment has a balcony.", id=1, session_id="s1")))
    run(db, append(file, flat("The Ghent apartment has a balcony.", id=2, session_id="s2"),
                   flat("Nobody waters the plants there.", id=3, session_id="s2"),
                   flat("Nobody feeds the parrot today.", id=4, session_id="s3")))  # fmt: skip
    order = contents(db, "apartment balcony")
    assert order.index("Nobody waters the plants there.") < order.index("Nobody feeds the parrot today.")


# --- words and dates of a query --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("on 8 May 2023", [Day(2023, 5, 8)]),
        ("on the 8th of May, 2023?", [Day(2023, 5, 8)]),
        ("May 8, 2023", [Day(2023, 5, 8)]),
        ("Sept. 2021 or 2022", [Day(2021, 9), Day(2022)]),
        ("2023-05-08 and 2023-06", [Day(2023, 5, 8), Day(2023, 6)]),
        ("in December", [Day(None, 12)]),
        ("it may march on", []),
        ("in may 2020", [Day(2020, 5)]),
        ("version 20231 of 12345 marching decimal", []),
    ],
)
def test_dates_of_a_query(asked, found):
    assert dates_of(asked) == found


def test_how_near_a_date_is():
    at = "2023-05-08T10:00:00.000Z"
    assert closeness([Day(2023, 5, 8)], at) == closeness([Day(None, 5, 14)], at) == 1
    assert 0 < closeness([Day(2023)], at) < closeness([Day(2023, 5, 30)], at) < closeness([Day(2023, 5)], at) < 1
    assert closeness([Day(2022, 5)], at) == closeness([Day(2023, 2, 31)], at) == closeness([], at) == 0
    assert closeness([Day(2023)], None) == 0


def test_telling_words():
    asked = "What did Caroline say to Melanie's boss?"
    assert telling(words_of(asked), {"caroline"}) == ["say", "melanie", "boss"]
    assert telling(words_of("It doesn't work, who's on call?")) == ["work", "call"]
    assert telling(words_of("who are you")) == ["who", "are", "you"]
