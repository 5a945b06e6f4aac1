"""`memcli bench embed` measures the embedder of the product in every mode, and says what each step brings."""

import copy
import json
import re

import pytest
from support_cli import Home

from memcli.bench import embed_mode
from memcli.bench.corpus import texts_to_embed
from memcli.bench.embed import MODES, Plan, compare, read_baseline
from memcli.embed.models import default_model
from memcli.embed.onnx import OnnxEmbedder
from memcli.errors import UsageError

PLAN = ("--texts", "60", "--repeat", "1")
KEYS = {"benchmark", "versions", "machine", "timed", "model", "model_id", "dim", "texts", "tokens", "seed", "repeat",
        "batch_size", "start", "modes", "ratios"}  # fmt: skip
MODE_KEYS = {"name", "way", "threads", "seconds", "cpu_seconds", "texts_per_second", "tokens_per_second", "peak_rss_mb",
             "samples"}  # fmt: skip
RATIOS = {"threads", "callers", "batches_as_they_come", "length_sorted_batches", "of_bare_1", "of_bare_2",
          "of_bare_cpu", "tokenizer_share"}  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return Home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def done(home):
    return home.run("bench", "embed", *PLAN, "--json")


def test_the_document_has_the_documented_keys_and_every_mode(done):
    document = done.json
    assert done.code == 0, done.err
    assert set(document) == KEYS
    assert [(mode["name"], mode["way"], mode["threads"]) for mode in document["modes"]] == list(MODES)
    assert all(set(mode) == MODE_KEYS for mode in document["modes"])
    assert set(document["ratios"]) == RATIOS
    assert {"memcli", "onnxruntime", "tokenizers"} <= set(document["versions"])
    assert document["tokens"] == sum(map(len, OnnxEmbedder(default_model()).tokenize(texts_to_embed(60, 7))))


def test_the_start_is_a_whole_process_that_loads_the_model(done):
    start = done.json["start"]
    assert start["runs"] == 3
    assert 0.05 < start["seconds"] <= start["median_seconds"]
    assert start["cpu_seconds"] > 0.05
    assert start["peak_rss_mb"] > 40


def test_rates_and_ratios_follow_from_the_times(done):
    document = done.json
    seconds = {(mode["way"], mode["threads"]): mode["seconds"] for mode in document["modes"]}
    for mode in document["modes"]:
        assert mode["texts_per_second"] == pytest.approx(60 / mode["seconds"], rel=0.01)
        assert mode["tokens_per_second"] == pytest.approx(document["tokens"] / mode["seconds"], rel=0.01)
        assert mode["peak_rss_mb"] > 20
        assert mode["cpu_seconds"] > 0
    ratios = document["ratios"]
    batches = min(seconds["queued", 1], seconds["queued", 2])
    assert ratios["length_sorted_batches"] == pytest.approx(seconds["one", 1] / batches, rel=0.01)
    assert ratios["callers"] == pytest.approx(seconds["one", 1] / seconds["gathered", 1], rel=0.01)
    bare = next(mode for mode in document["modes"] if (mode["way"], mode["threads"]) == ("bare", 1))["samples"][0]
    assert bare["seconds"] == pytest.approx(bare["tokenizer_seconds"] + bare["graph_seconds"], abs=1e-4)
    assert ratios["of_bare_1"] == pytest.approx(bare["seconds"] / seconds["queued", 1], rel=0.01)


@pytest.mark.parametrize("way", embed_mode.WAYS)
def test_every_way_hands_each_text_to_the_products_embedder_once(monkeypatch, way):
    texts = texts_to_embed(50, 1)
    calls = []
    embedder = OnnxEmbedder(default_model())
    monkeypatch.setattr(embedder, "embed", lambda some: calls.append(list(some)))
    embed_mode.WAYS[way](embedder, texts, 16)
    sizes = {"one": [1] * 50, "gathered": [1] * 50, "fixed": [16, 16, 16, 2], "queued": [50]}
    assert list(map(len, calls)) == sizes[way]
    assert sorted(text for some in calls for text in some) == sorted(texts)


def test_the_bare_parts_do_the_same_work_as_the_embedder(monkeypatch):
    texts = texts_to_embed(120, 1)
    embedder = OnnxEmbedder(default_model(), 16)
    runs = []

    class Session:
        def run(self, outputs, feeds):
            runs.append(feeds["input_ids"].shape)
            return whole.run(outputs, feeds)

    whole = embedder.session
    monkeypatch.setattr(embedder, "session", Session())
    embedder.embed(texts)
    by_embedder = runs.copy()
    runs.clear()
    embed_mode.bare(embedder, OnnxEmbedder(default_model(), 16), texts)
    assert runs == by_embedder


def test_the_texts_are_of_mixed_lengths_and_the_same_for_the_same_seed():
    texts = texts_to_embed(400, 5)
    assert texts == texts_to_embed(400, 5) != texts_to_embed(400, 6)
    counts = [text.count(". ") + 1 for text in texts]
    assert {1, 2, 4, 8} == set(counts)
    assert counts.count(1) > 150


def test_the_table_fits_a_terminal_and_tells_what_each_step_brings(home, done, tmp_path):
    baseline = tmp_path / "baseline.json"
    baseline.write_text(json.dumps(slower(done.json, 50)))
    shown = home.on_terminal("bench", "embed", *PLAN, "--quiet", "--compare", baseline).out
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert max(map(len, plain.split("\n"))) <= 80
    for words in (
        "one at a time, 2 callers",
        "texts/s",
        "parallel: two threads",
        "the tokenizer's share",
        "a process that embeds one query",
    ):
        assert words in plain
    told = re.search(r"sorted batches now by one at a time before: ([\d.]+) times", plain)
    assert float(told[1]) > 10


def slower(document, factor):
    made = copy.deepcopy(document)
    for mode in made["modes"]:
        for part in (mode, *mode["samples"]):
            part["seconds"] *= factor
    return made


def test_comparing_marks_what_became_slower_by_more_than_the_noise(done):
    document = done.json
    found = compare(slower(document, 1 / 3), document)
    assert all(mode["worse"] and mode["ratio"] == pytest.approx(1 / 3, rel=0.01) for mode in found["modes"])
    assert not any(mode["worse"] for mode in compare(slower(document, 3), document)["modes"])
    assert not any(mode["worse"] for mode in compare(document, document)["modes"])
    best = min(mode["seconds"] for mode in document["modes"] if mode["way"] == "queued")
    one = document["modes"][0]["seconds"]
    assert found["batches_by_one_before"] == pytest.approx(one / 3 / best, rel=0.01, abs=0.01)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read"),
        ("{", "is not JSON"),
        ("[]", "no benchmark of embedding"),
        ('{"benchmark": "ingest", "runs": []}', "no benchmark of embedding"),
        ('{"benchmark": "embed", "modes": [], "texts": 1, "seed": 7}', "--texts 1"),
        ('{"benchmark": "embed", "modes": [], "texts": 60, "seed": 8}', "--seed 8"),
    ],
)
def test_a_baseline_that_cannot_be_compared_is_refused_before_anything_runs(tmp_path, content, message):
    path = tmp_path / "baseline.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=message):
        read_baseline(path, Plan(60))


def test_an_unknown_model_is_refused(home):
    done = home.run("bench", "embed", "--model", "nonsense")
    assert done.code == 2
    assert "nonsense" in done.err
