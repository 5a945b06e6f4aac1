"""`memcli bench search`: recall as it is defined, latencies of all ways on the same vectors, a log with repetitions."""

import json
from importlib.util import find_spec

import numpy as np
import pytest
from support_cli import SHARED, Home

from memcli import render
from memcli.bench.search_locomo import read_locomo
from memcli.bench.search_vectors import _nearest, _queries
from memcli.bench.vectors import generate
from memcli.errors import UsageError

LOCOMO = SHARED / "data" / "transcripts" / "locomo" / "locomo-dev.json"
TOPICS = ("heron pond", "kitten radiator", "invoice Utrecht", "choir requiem", "bicycle puncture", "barbecue rain")


def conversation(name, wrong=False):
    turns, asked = [], []
    for n, topic in enumerate(TOPICS):
        turns.append({"speaker": "Ann" if n % 2 else "Ben", "dia_id": f"D1:{n + 1}", "text": f"The {topic} story."})
        evidence = [f"D1:{(n + 3) % 6 + 1 if wrong else n + 1}", "D9:9"]
        asked.append({"question": f"What about the {topic}?", "category": 1 + n % 4, "evidence": evidence})
    asked += [{"question": "Adversarial?", "category": 5, "evidence": ["D1:1"]}, {"question": "None?", "category": 1}]
    said = {"speaker_a": "Ann", "session_1": turns, "session_1_date_time": "1:56 pm on 8 May, 2023"}
    return {"sample_id": name, "conversation": said, "qa": asked}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return Home(tmp_path_factory.mktemp("home"))


def shown(report, document, capsys):
    report(document)
    return capsys.readouterr().out


def locomo(home, *conversations):
    file = home.folder / "locomo.json"
    file.write_text(json.dumps(conversations))
    done = home.run("bench", "search", "--locomo", file, "--json", "--quiet")
    assert done.code == 0, done.err
    return done.json


def test_recall_is_the_share_of_the_evidence_among_the_first_hits(home, capsys):
    document = locomo(home, conversation("c1"))
    assert (document["turns"], document["questions"]) == (6, 6)
    assert "all, hybrid" in shown(render.show_locomo_benchmark, document, capsys)
    assert document["recall"] == {mode: {"5": 1.0, "10": 1.0} for mode in ("keyword", "vector", "hybrid")}
    assert document["leave_one_out"] is None


def test_evidence_that_is_not_found_lowers_it_and_each_conversation_is_an_agent_of_its_own(home):
    document = locomo(home, conversation("c1"), conversation("c2", wrong=True))
    right, wrong = document["conversations"]
    assert (right["turns"], right["hybrid"]["5"]) == (6, 1.0)
    assert document["recall"]["keyword"]["5"] == pytest.approx(0.5), "BM25 finds the named turn and nothing else"
    assert wrong["hybrid"]["10"] == 1.0, "there are six turns"
    assert right["leave_one_out"].keys() == {"5", "10"}
    assert set(right["chosen_weights"]) == set(document["weights"])


def test_the_choice_without_a_conversation_does_not_begin_with_weights_that_have_seen_it(home):
    document = locomo(home, conversation("c1"), conversation("c2"))
    # Nothing is better than anything else here, so it ends where it began.
    for each in document["conversations"]:
        assert (each["chosen_weights"]["speaker"], each["chosen_weights"]["date"]) == (0.4, 0.6)
    assert (document["weights"]["speaker"], document["weights"]["date"]) == (0.6, 0.8)


def test_malformed_evidence_and_dates(tmp_path):
    record = conversation("c")
    record["qa"] = [{"question": "q", "category": 2, "evidence": ["D1:2; D1:03", "D", "D7:1", None]}]
    (tmp_path / "a.json").write_text(json.dumps([record]))
    (read,) = read_locomo(tmp_path / "a.json")
    assert read.questions[0].evidence == {"c/D1:2", "c/D1:3"}
    assert read.turns[0]["timestamp"] == "2023-05-08T13:56:00+00:00"
    record["conversation"]["session_1_date_time"] = "some day"
    (tmp_path / "a.json").write_text(json.dumps([record]))
    assert "timestamp" not in read_locomo(tmp_path / "a.json")[0].turns[0]


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '[{"conversation": {}}]', '[{"conversation": {"session_1": [{}]}, "qa": []}]', "[]"]
)
def test_what_is_no_locomo_file_is_said(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UsageError, match=r"a\.json"):
        read_locomo(tmp_path / "a.json")
    with pytest.raises(UsageError, match="cannot read"):
        read_locomo(tmp_path / "b.json")


@pytest.mark.skipif(not LOCOMO.exists(), reason="../shared has no LoCoMo conversations")
def test_unseen_conversations_reach_the_goal(home):
    """By leave-one-out: the weights of each conversation are chosen on the other four."""
    document = home.run("bench", "search", "--locomo", LOCOMO, "--json", "--quiet").json
    assert document["leave_one_out"]["5"] >= 0.62
    assert document["leave_one_out"]["10"] >= 0.72
    assert document["recall"]["hybrid"]["10"] > document["recall"]["keyword"]["10"] + 0.1


def test_all_ways_are_asked_for_the_same_vectors_and_memcli_is_exact(home, capsys):
    done = home.run("bench", "search", "--vectors", "--n", "3000", "--queries", "12", "--repeat", "1", "--json")
    assert done.code == 0, done.err
    (size,) = done.json["sizes"]
    assert {"memcli", "numpy"} <= size["ways"].keys()
    own = size["ways"]["memcli"]
    assert (own["recall"], own["identical"]) == (1.0, 12)
    assert own["warm_ms"] > 0
    for way, module in (("usearch", "usearch"), ("faiss", "faiss"), ("sqlite-vec", "sqlite_vec")):
        assert way in size["ways"] or not find_spec(module) or "extensions" in " ".join(done.json["notes"])
    if "faiss" in size["ways"]:
        assert size["ways"]["faiss"]["recall"] > 0.99
    assert "1.0000" in shown(render.show_vectors_benchmark, done.json, capsys)


def test_the_yardstick_is_the_float64_product():
    vectors = generate(2000, 32, 1)
    asked = _queries(vectors, 20, 1)
    scores = asked.astype(np.float64) @ vectors.astype(np.float64).T
    best = np.lexsort((np.broadcast_to(np.arange(2000), scores.shape), -scores), axis=1)[:, :10]
    assert np.array_equal(_nearest(vectors, asked), best)


def test_latencies_of_generated_memories(home, capsys):
    done = home.run("bench", "search", "--n", "400", "--queries", "5", "--json")
    assert done.code == 0, done.err
    (size,) = done.json["sizes"]
    assert set(size["modes"]) == {"hybrid", "vector", "keyword"}
    assert 200 < size["memories"] <= 800
    assert 0 < size["modes"]["hybrid"]["warm_ms"]["median"] < size["cold_ms"]["median"]
    assert all(mode[each] for mode in size["modes"].values() for each in ("first_ms", "again_ms")), "each is told apart"
    assert "from the shell" in shown(render.show_search_benchmark, done.json, capsys)


def test_a_log_with_repetitions_hits_the_cache(home, capsys):
    done = home.run("bench", "search", "--zipf", "--n", "400", "--queries", "300", "--json")
    assert done.code == 0, done.err
    document = done.json
    assert document["hits"] == document["queries"] - document["distinct"], "all of these fit into the cache"
    assert document["hit_rate"] > 0.3
    assert document["hit_ms"]["median"] < document["miss_ms"]["median"]
    assert f"hit rate {document['hit_rate']:.1%}" in shown(render.show_zipf_benchmark, document, capsys)


def test_only_one_benchmark_at_a_time(home):
    both = home.run("bench", "search", "--zipf", "--vectors")
    assert (both.code, "one after the other" in both.err) == (2, True)
