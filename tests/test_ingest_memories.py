"""What becomes of what was said: verbatim and rule memories, duplicates, stars, review pairs, tags, recall, secrets."""

import json
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support_ingest import (
    append,
    assert_sound,
    assistant,
    flat,
    lines,
    logical,
    memories,
    query,
    run,
    texts,
    user,
    write,
)

from memcli.dedup.gates import GATES
from memcli.embed.models import default_model
from memcli.embed.onnx import OnnxEmbedder

DEPLOY = "The deploy window is on Tuesday morning."
DEPLOY_MARKED = "The *deploy* window is on **Tuesday** morning."
DEPLOY_BANG = "The deploy window is on Tuesday morning!"
TEA = "I prefer tea to coffee in the morning."
BILL = "My account has a billing problem since Tuesday."
SECRET = "sk-ant-api03-" + "Zq7" * 12


@pytest.fixture
def db(tmp_path):
    return tmp_path / "memory.db"


@pytest.fixture
def file(tmp_path):
    return tmp_path / "a.jsonl"


def links(db):
    return query(db, "SELECT loser_id, winner_id, kind FROM merges WHERE ended_at IS NULL ORDER BY loser_id")


# --- verbatim and rules ----------------------------------------------------------------------------------------------


def test_a_verbatim_memory_is_episodic_of_importance_three_tenths(db, file):
    run(db, write(file, flat(DEPLOY, timestamp="2026-03-02T08:00:00Z")))
    columns = "type, importance, extraction_method, keywords, timestamp, verdict, agent_id"
    assert query(db, f"SELECT {columns} FROM memories") == [
        ("episodic", 0.3, "verbatim", "[]", "2026-03-02T08:00:00.000Z", "new", "default")
    ]


def test_a_long_text_is_split_at_sentence_ends_and_the_spans_hold_the_pieces(db, file):
    long = "\n\n".join(f"Grüße {n} 🙂. " + f"Crate {n} holds salt, row {n * 7}. " * 20 for n in range(9))
    run(db, write(file, flat(f"   {long}")), starter_rules=False)
    rows = query(db, 'SELECT m.content, p.start, p."end" FROM memories AS m JOIN provenance AS p ON p.memory_id = m.id')
    (stored,) = texts(db)
    assert len(rows) > 4
    assert all(len(content) <= 1000 for content, _, _ in rows)
    assert all(stored[start:end] == content and content.endswith(".") for content, start, end in rows)
    assert " ".join(" ".join(content for content, _, _ in rows).split()) == " ".join(long.split())
    assert_sound(db)


@pytest.mark.parametrize("gap", ["", " "])
def test_a_text_without_sentences_is_split_all_the_same(db, file, gap):
    run(db, write(file, flat(gap.join(f"word{n:05}" for n in range(400)))), starter_rules=False)
    assert all(len(content) <= 1000 for content, _ in memories(db))
    assert len(memories(db)) == (4 if gap == "" else 5)


def test_the_memory_of_a_rule_wins_over_the_verbatim_one(db, file):
    report = run(db, write(file, flat(TEA)))
    assert query(db, "SELECT content, type, importance, extraction_method, mentions FROM active_memories") == [
        (TEA, "semantic", 0.7, "rules:preference", 1)
    ]
    assert (report.created, report.merged_exact, report.embedded, report.embed_reused) == (1, 1, 1, 1)


@pytest.mark.parametrize("text", [TEA, BILL])
@pytest.mark.parametrize("batch_size", [1, 1024])
@pytest.mark.parametrize("earlier", ["window", "run"])
def test_the_memory_of_a_rule_wins_over_an_earlier_verbatim_one(db, file, text, batch_size, earlier):
    """The rules for these texts read users only: what an assistant says first is a verbatim memory."""
    write(file, flat(text, role="assistant", session_id="s"))
    if earlier == "run":
        run(db, file)
    append(file, flat(text, session_id="t"))
    run(db, file, batch_size=batch_size)
    ((content, mentions, method),) = query(db, "SELECT content, mentions, extraction_method FROM active_memories")
    assert (content, mentions) == (text, 2)
    assert method.startswith("rules:")
    assert_sound(db)


@pytest.mark.parametrize("batch_size", [1, 1024])
@pytest.mark.parametrize("text", [TEA, BILL])
def test_a_rule_takes_over_the_near_losers_of_a_verbatim_memory(db, file, text, batch_size):
    near = text[:-1] + "!"
    said = [(text, "assistant"), (near, "assistant"), (text, "user"), (near, "assistant")]
    for number, (content, role) in enumerate(said):
        append(file, flat(content, role=role, session_id=f"s{number}"))
        if batch_size == 1:
            run(db, file, batch_size=1)
    run(db, file)
    assert_sound(db)
    ((content, mentions, method),) = query(db, "SELECT content, mentions, extraction_method FROM active_memories")
    assert (content, mentions, method[:6]) == (text, 4, "rules:")


def test_a_rule_memory_near_an_earlier_one_of_another_wording_brings_its_verbatim_text_along(db, file):
    other = BILL.replace("My account", "my account")
    write(file, flat(other), flat(BILL, role="assistant", session_id="t"))
    run(db, file)
    run(db, append(file, flat(BILL, session_id="u")))
    assert memories(db) == [(other, 3)]
    assert_sound(db)


# --- exact duplicates ------------------------------------------------------------------------------------------------


def test_an_exact_duplicate_costs_no_embedding(db, file):
    report = run(db, write(file, *(flat(DEPLOY, id=n) for n in range(5))), batch_size=2)
    assert (report.created, report.merged_exact, report.embedded, report.embed_reused) == (1, 4, 1, 4)
    report = run(db, append(file, flat(DEPLOY, id=9)))
    assert (report.created, report.merged_exact, report.embedded, report.embed_reused) == (0, 1, 0, 1)
    assert memories(db) == [(DEPLOY, 6)]


def test_composed_and_decomposed_letters_and_white_space_make_no_difference(db, file):
    text = "Die Bürokatze heißt Ännchen und schläft."
    others = [unicodedata.normalize("NFD", text), text.replace(" ", "\n\t "), f"  {text} "]
    report = run(db, write(file, *(flat(each, id=n) for n, each in enumerate([text, *others]))))
    assert (report.merged_exact, report.embedded) == (3, 1)
    assert memories(db) == [(text, 4)]


@pytest.mark.parametrize(
    "other", ["Vitamin B₁₂ helps in winter.", "Vitamin B¹² helps in winter.", "VITAMIN B12 HELPS IN WINTER."]
)
def test_what_only_looks_alike_is_no_exact_duplicate(db, file, other):
    report = run(db, write(file, flat("Vitamin B12 helps in winter.", id=1), flat(other, id=2)))
    assert report.merged_exact == 0


# --- near duplicates and traps ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 1024])
def test_near_duplicates_merge_into_the_earliest_and_keep_their_words(db, file, batch_size):
    report = run(db, write(file, flat(DEPLOY), flat(DEPLOY_MARKED), flat(DEPLOY_BANG)), batch_size=batch_size)
    assert (report.created, report.merged_near, report.embedded) == (1, 2, 3)
    assert memories(db) == [(DEPLOY, 3)]
    rows = query(db, "SELECT winner_content, loser_content, kind, ended_at FROM merge_log ORDER BY merge_id")
    assert rows == [(DEPLOY, DEPLOY_MARKED, "near", None), (DEPLOY, DEPLOY_BANG, "near", None)]
    gates, cosine, threshold = query(db, "SELECT gates_passed, cosine, threshold FROM merges")[0]
    assert set(json.loads(gates)) == set(GATES)
    one, other = OnnxEmbedder(default_model()).embed([DEPLOY, DEPLOY_MARKED])
    assert cosine == pytest.approx(float(one @ other), abs=1e-6)
    assert threshold == default_model().near_threshold


@pytest.mark.parametrize(
    ("one", "other", "gate"),
    [
        ("PR #260 was merged into main today.", "PR #480 was merged into main today.", "identifiers"),
        ("My budget for the trip is $500.", "My budget for the trip is $5000.", "numbers"),
        ("She likes the new office chairs.", "She does not like the new office chairs.", "negation"),
        ("I prefer tea to coffee in the evening.", "I prefer coffee to tea in the evening.", "order"),
        (DEPLOY, "The deploy window is on Thursday morning.", "overlap"),
    ],
)
@pytest.mark.parametrize("batch_size", [1, 1024])
def test_what_an_embedding_cannot_tell_apart_is_kept_and_listed_for_review(db, file, one, other, gate, batch_size):
    write(file, flat(one), flat(other))
    report = run(db, file, batch_size=batch_size, near_threshold=0.7, extract=("verbatim",))
    assert (report.created, report.merged_near, report.review) == (2, 0, 1)
    assert memories(db) == [(one, 1), (other, 1)]
    ((memory, other_id, failed, differences),) = query(
        db, "SELECT memory_id, other_id, gates_failed, differences FROM review_pairs WHERE status = 'open'"
    )
    assert (memory, other_id) == (2, 1)
    assert gate in json.loads(failed)
    assert gate in json.loads(differences)
    assert query(db, "SELECT verdict FROM memories") == [("new",), ("review",)]


@pytest.mark.parametrize("batch_size", [1, 3, 1024])
def test_at_most_five_review_pairs_are_kept_per_memory_and_all_are_counted(db, file, batch_size):
    said = "PR #{} was merged into the main branch today, after the tests had passed."
    write(file, *(flat(said.format(number)) for number in range(200, 208)))
    run(db, file, near_threshold=0.7, batch_size=batch_size)
    assert [n for (n,) in query(db, "SELECT review_pairs FROM memories ORDER BY id")] == list(range(8))
    kept = query(db, "SELECT count(*) FROM review_pairs GROUP BY memory_id ORDER BY memory_id")
    assert [n for (n,) in kept] == [1, 2, 3, 4, 5, 5, 5]
    strongest = "SELECT min(cosine) FROM review_pairs WHERE memory_id = 8"
    assert query(db, strongest)[0][0] >= 0.7


def test_memories_of_two_types_are_not_near_duplicates(db, file):
    write(file, flat(TEA, role="assistant"), flat("I prefer tea to coffee in the mornings."))
    run(db, file, extract=("rules", "verbatim"))
    assert query(db, "SELECT type, content FROM active_memories ORDER BY type") == [
        ("episodic", TEA),
        ("semantic", "I prefer tea to coffee in the mornings."),
    ]


def test_the_threshold_can_be_set(db, file):
    write(file, flat(DEPLOY), flat(DEPLOY_MARKED))
    assert run(db, file, near_threshold=0.95).merged_near == 0


def test_a_star_has_the_highest_importance_and_every_mention_once(db, file):
    records = [assistant(DEPLOY, "a1", "m1"), user(f"{DEPLOY} {DEPLOY_BANG}", "u1"), user(DEPLOY_MARKED, "u2")]
    run(db, write(file, *records), starter_rules=False)
    assert memories(db)[0] == (DEPLOY, 2)
    run(
        db,
        append(
            file,
            user("I feel so anxious about it all.", "u3"),
            assistant("I feel so anxious about it all.", "a2", "m2"),
        ),
    )
    assert query(db, "SELECT importance, mentions FROM active_memories WHERE content LIKE 'I feel%'") == [(0.95, 2)]


# --- stars, whatever the stream --------------------------------------------------------------------------------------

POOL = [
    DEPLOY,
    DEPLOY_MARKED,
    DEPLOY_BANG,
    "the deploy window is on tuesday morning",
    "The deploy window is not on Tuesday morning.",
    "And the deploy window is on Tuesday morning.",
    TEA,
    "I prefer tea to coffee in the mornings.",
    "I prefer coffee to tea in the morning.",
    BILL,
    BILL.replace("a billing", "the billing"),
    BILL[:-1] + "!",
    BILL.replace("My", "my"),
]
said = st.tuples(st.sampled_from(POOL), st.sampled_from(["user", "assistant"]), st.sampled_from("abc"))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(said, min_size=1, max_size=25), st.integers(1, 4), st.sampled_from([1, 4, 1024]), st.booleans())
def test_merges_are_stars_that_hold_every_mention(tmp_path_factory, stream, runs, batch_size, paused):
    folder = tmp_path_factory.mktemp("stars")
    db, file = folder / "memory.db", write(folder / "a.jsonl")
    for part in range(runs):
        append(file, *(
            flat(text, role=role, session_id=session, id=f"{part}-{n}")
            for n, (text, role, session) in enumerate(stream[part::runs])
        ))  # fmt: skip
        run(db, file, batch_size=batch_size, profile="local" if paused else "customer-support",
            extract=("rules", "verbatim"), flush=part == runs - 1)  # fmt: skip
    assert_sound(db)
    found = logical(db)
    by_id = {row[0]: row for row in found["memories"]}
    active = {row[0] for row in found["active"]}
    assert active == by_id.keys() - {link[0] for link in found["links"]}
    for loser, winner, kind, cosine, *_ in found["links"]:
        assert winner in active
        assert by_id[loser][1] == by_id[winner][1]
        assert kind == "exact" or cosine >= default_model().near_threshold
    # Of one text there is one active memory per type, and every message is mentioned by one.
    assert len({(row[3], row[4]) for row in found["active"]}) == len(active)
    mentioned = query(db, "SELECT count(DISTINCT message_id) FROM provenance")
    assert mentioned == query(db, "SELECT count(*) FROM messages")
    assert sum(row[6] for row in found["active"]) >= len(stream)
    for review in found["reviews"]:
        assert json.loads(review[4]), "a review pair without a failed gate"


# --- tags ------------------------------------------------------------------------------------------------------------


def test_a_memory_has_the_tags_of_its_session(db, file):
    write(file, user(DEPLOY, "u1", cwd="/srv/api", gitBranch="main"), user(TEA, "u2", "s2", cwd="/srv/web"))
    run(db, file)
    tags = "SELECT content, tag, relevance FROM memory_tags, memories WHERE id = memory_id AND content = ? ORDER BY tag"
    assert query(db, tags, DEPLOY) == [(DEPLOY, "branch:main", 1.0), (DEPLOY, "project:api", 1.0)]
    assert set(query(db, tags, TEA)) == {(TEA, "project:web", 1.0)}


@pytest.mark.parametrize("batch_size", [1, 1024])
def test_old_memories_get_the_tags_that_their_session_grows(db, file, batch_size):
    tool = {**assistant("", "a1", "m1", cwd="/srv/api"), "message": {
        "id": "m1", "role": "assistant", "content": [{"type": "tool_use", "name": "Bash", "input": {}}]}}  # fmt: skip
    run(db, write(file, user(DEPLOY, "u1", cwd="/srv/api"), user(TEA, "u2", "s2")), batch_size=batch_size)
    run(db, append(file, tool, user("More was said later on.", "u3", gitBranch="fix")), batch_size=batch_size)
    rows = query(db, "SELECT memory_id, tag, relevance FROM memory_tags JOIN memories ON id = memory_id"
                     " WHERE content = ? ORDER BY tag", DEPLOY)  # fmt: skip
    assert [row[1:] for row in rows] == [("branch:fix", 1.0), ("project:api", 1.0), ("tool:Bash", 1.0)]
    assert query(db, "SELECT * FROM memory_tags JOIN memories ON id = memory_id WHERE content = ?", TEA) == []


# --- recalled memories -----------------------------------------------------------------------------------------------


def test_memories_that_a_prompt_brings_back_are_no_new_ones(db, file):
    run(db, write(file, flat(DEPLOY, id=1), flat(TEA, id=2)))
    prompt = f"What I remember:\n- {DEPLOY}\n- [0.91] {TEA}\n\nWhen should we deploy the parser then?"
    report = run(db, append(file, flat(prompt, id=3), flat(f"# Memories\n1. {DEPLOY}\n2. {TEA}\n", id=4)))
    assert report.filtered == {"recalled": 1}
    assert texts(db)[2:] == ["When should we deploy the parser then?", ""]
    assert memories(db) == [(TEA, 1), (DEPLOY, 1), ("When should we deploy the parser then?", 1)]


def test_what_was_said_in_the_same_run_is_not_recalled(db, file):
    write(file, flat(DEPLOY, id=1), flat(f"Notes:\n- {DEPLOY}\n- {TEA}", id=2))
    for batch_size in (1, 1024):
        assert run(db.with_name(f"{batch_size}.db"), file, batch_size=batch_size).filtered == {}


def test_a_user_who_repeats_a_statement_mentions_it(db, file):
    run(db, write(file, flat(DEPLOY, id=1)))
    report = run(db, append(file, flat(DEPLOY, id=2)))
    assert (report.filtered, memories(db)) == ({}, [(DEPLOY, 2)])


def test_the_memories_of_another_agent_are_not_recalled(db, file):
    run(db, write(file, flat(DEPLOY, id=1, agent_id="ann")))
    report = run(db, append(file, flat(f"Notes:\n- {DEPLOY}", id=2, agent_id="bob")))
    assert report.filtered == {}


# --- system prompts and secrets --------------------------------------------------------------------------------------

ROLES = ("system", "user", "assistant")


@pytest.mark.parametrize("batch_size", [1, 1024])
def test_a_repeated_system_prompt_is_kept_once_per_agent(db, file, batch_size):
    prompt = "You are the help desk of a hosting company."
    records = [flat(prompt, role="system", session_id=str(n), agent_id="ab"[n % 2]) for n in range(6)]
    report = run(db, write(file, *records), roles=ROLES, batch_size=batch_size)
    assert (report.filtered, memories(db)) == ({"system_prompt": 4}, [(prompt, 1)] * 2)
    report = run(db, append(file, flat(prompt, role="system", session_id="z", agent_id="a")), roles=ROLES)
    assert report.filtered == {"system_prompt": 1}


@pytest.mark.parametrize("batch_size", [1, 1024])
def test_a_repeated_system_prompt_with_recalled_memories_is_kept_once(db, file, batch_size):
    run(db, write(file, flat(DEPLOY, id=1)), roles=ROLES)
    prompt = f"You are the help desk of a hosting company.\nWhat you know:\n- {DEPLOY}"
    append(file, *(flat(prompt, role="system", id=n, session_id=str(n)) for n in range(2, 6)))
    assert run(db, file, roles=ROLES, batch_size=batch_size).filtered == {"system_prompt": 3}


@pytest.mark.parametrize("batch_size", [1, 1024])
def test_a_repeated_system_prompt_is_known_though_its_lines_have_become_memories(db, file, batch_size):
    prompt = f"You are the help desk of a hosting company.\nWhat you know:\n- {DEPLOY}"
    run(db, write(file, flat(prompt, role="system", id=1), flat(DEPLOY, id=2)), roles=ROLES)
    append(file, *(flat(prompt, role="system", id=n, session_id=str(n)) for n in range(3, 6)))
    report = run(db, file, roles=ROLES, batch_size=batch_size)
    assert (report.filtered, report.windows_processed) == ({"system_prompt": 3}, 0)


@pytest.mark.parametrize("batch_size", [1, 1024])
def test_a_system_prompt_that_is_all_recalled_is_recalled_each_time(db, file, batch_size):
    run(db, write(file, flat(DEPLOY, id=1)), roles=ROLES)
    append(file, *(flat(DEPLOY, role="system", id=n, session_id=str(n)) for n in range(2, 5)))
    assert run(db, file, roles=ROLES, batch_size=batch_size).filtered == {"recalled": 3}


def test_without_the_role_a_system_prompt_is_not_kept(db, file):
    assert run(db, write(file, flat(DEPLOY, role="system"), flat(TEA))).filtered == {"role": 1}
    assert texts(db) == ["", TEA]


def test_a_secret_is_nowhere_in_the_database_file(db, tmp_path):
    roles = ("user", "assistant", "system", "tool")
    said = [f"The key is {SECRET} for now.", SECRET, f"ok {SECRET[:40]}"]
    file = write(tmp_path / "a.jsonl", *(flat(text, role=role, session_id="s") for text in said for role in roles))
    with file.open("ab") as out:
        out.write(lines({"role": "user", "content": 7, "note": SECRET}))
        out.write(b'{"broken": "' + SECRET.encode() + b"\n" + b"\0\0" + SECRET.encode() + b"\n")
    write(tmp_path / "b.jsonl", user(said[0], "u1"), assistant(said[0], "a1", "m1"))
    report = run(db, tmp_path, roles=roles)
    assert report.redacted["anthropic-key"] == 14
    assert report.rejected == 3
    assert "[redacted:anthropic-key]" in " ".join(texts(db))
    assert all("[redacted:anthropic-key]" in head for (head,) in query(db, "SELECT head FROM rejected_lines"))
    raw = b"".join(path.read_bytes() for path in tmp_path.glob("memory.db*"))
    assert SECRET[:30].encode() not in raw
    assert SECRET.encode("utf-16-le") not in raw
