"""Vectors against the recipe of sentence-transformers, worked out here text by text: tokenise, run, pool, normalise."""

import shutil
from functools import cache

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support_models import DIM, LENGTH, MINILM, bag_model, carded, installed, minilm, static_model, transformer
from tokenizers import Tokenizer

from memcli.embed.onnx import OnnxEmbedder

TEXTS = [
    "The deploy key lives in the vault.",
    "how do I reset my password?",
    "a",
    "Zażółć gęślą jaźń, 日本語, 🚀 and 1,024 retries",
    "We retry five times, then stop. " * 30,
    "budget " * 400,
    "the soup needs more salt",
]
POOLINGS = {
    "mean": lambda tokens: tokens.mean(axis=0),
    "cls": lambda tokens: tokens[0],
    "max": lambda tokens: tokens.max(axis=0),
    "last": lambda tokens: tokens[-1],
}


def reference(folder, texts, pooling, length, prompt=""):
    """One text at a time, without padding, in float64 behind the graph."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(length)
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]
    rows = []
    for text in texts:
        ids = np.array([tokenizer.encode(prompt + text).ids], dtype=np.int64)
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        feeds["position_ids"] = np.arange(ids.shape[1])[None]
        tokens = session.run(None, {name: feeds[name] for name in names})[0][0].astype(np.float64)
        row = POOLINGS[pooling](tokens)
        rows.append(row / np.linalg.norm(row))
    return np.array(rows)


def test_the_shared_minilm_agrees_with_the_recipe(tmp_path):
    graph = minilm()
    shutil.copyfile(graph, tmp_path / "model.onnx")
    shutil.copyfile(MINILM / "tokenizer.json", tmp_path / "tokenizer.json")
    files = carded(tmp_path, dim=384, max_tokens=256)
    expected = reference(tmp_path, TEXTS, "mean", 256)
    for size in (2, 64):
        assert np.abs(OnnxEmbedder(files, size).embed(TEXTS) - expected).max() < 1e-5


@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_pooling_agrees_with_the_recipe(tmp_path, pooling):
    files = installed(tmp_path / "model", transformer(), pooling=pooling)
    expected = reference(files.folder, TEXTS, pooling, LENGTH)
    assert np.abs(OnnxEmbedder(files).embed(TEXTS) - expected).max() < 1e-5


@pytest.mark.parametrize(
    "inputs",
    [
        ("input_ids", "attention_mask"),
        ("input_ids", "attention_mask", "position_ids"),
        ("input_ids", "attention_mask", "token_type_ids", "position_ids"),
    ],
)
def test_the_inputs_that_exporters_leave_out_or_add_are_fed(tmp_path, inputs):
    files = installed(tmp_path / "model", transformer(inputs=inputs, output="token_embeddings"))
    expected = reference(files.folder, TEXTS, "mean", LENGTH)
    assert np.abs(OnnxEmbedder(files).embed(TEXTS) - expected).max() < 1e-5


def test_prompts_go_before_queries_and_passages_each_their_own(tmp_path):
    prompts = {"query_prompt": "query: ", "passage_prompt": "passage: "}
    files = installed(tmp_path / "model", transformer(), **prompts)
    embedder = OnnxEmbedder(files)
    for embed, prompt in ((embedder.embed, "passage: "), (embedder.embed_queries, "query: ")):
        assert np.abs(embed(TEXTS) - reference(files.folder, TEXTS, "mean", LENGTH, prompt)).max() < 1e-5
    assert np.abs(embedder.embed(TEXTS) - embedder.embed_queries(TEXTS)).max() > 1e-3


def test_padding_is_filled_with_the_pad_token_of_the_card(tmp_path):
    embedder = OnnxEmbedder(installed(tmp_path / "model", transformer(), pad_id=3))
    fed = []
    run = embedder.session.run
    embedder.session = type("Session", (), {"run": lambda _, names, feeds: fed.append(feeds) or run(names, feeds)})()
    embedder.embed(["the soup"])
    (feeds,) = fed
    assert feeds["attention_mask"].tolist() == [[1, 1, 1, 1, 0, 0, 0, 0]]
    assert feeds["input_ids"][0, 4:].tolist() == [3, 3, 3, 3]


def test_a_graph_that_pools_itself_is_only_brought_to_unit_length(tmp_path):
    graph = static_model(dim=DIM, normalise=False)
    embedder = OnnxEmbedder(installed(tmp_path / "model", graph, pooling="in-graph"))
    rows = embedder.embed(["the soup needs salt", "the soup"])
    assert np.abs(np.linalg.norm(rows, axis=1) - 1).max() < 1e-6


def test_a_model2vec_graph_gets_all_ids_in_one_row_and_unknown_tokens_are_left_out(tmp_path):
    graph = bag_model()
    files = installed(
        tmp_path / "bag", graph, specials=False, dim=16, pooling="in-graph", special_tokens=False, skipped_id=1
    )
    table = next(each for each in graph.graph.initializer if each.name == "tokens")
    rows = np.frombuffer(table.raw_data, dtype=np.float32).reshape(-1, 16).astype(np.float64)
    tokenizer = Tokenizer.from_file(str(files.folder / "tokenizer.json"))
    vectors = OnnxEmbedder(files, 2).embed([*TEXTS, "日本", ""])
    for text, vector in zip(TEXTS, vectors, strict=False):
        ids = [token for token in tokenizer.encode(text).ids if token != 1][:LENGTH]
        mean = rows[ids].mean(axis=0)
        assert np.abs(vector - mean / np.linalg.norm(mean)).max() < 1e-5
    assert not vectors[len(TEXTS) :].any()


def test_texts_are_lowered_where_the_card_says_so(tmp_path):
    def cased(folder, **card):
        files = installed(folder, transformer(), **card)
        text = (folder / "tokenizer.json").read_text().replace('"lowercase":true', '"lowercase":false')
        (folder / "tokenizer.json").write_text(text.replace('"lowercase": true', '"lowercase": false'))
        return OnnxEmbedder(carded(files.folder, **card))

    pair = ["The Soup", "the soup"]
    plain, lowered = cased(tmp_path / "a"), cased(tmp_path / "b", lower_case=True)
    assert np.abs(np.diff(plain.embed(pair), axis=0)).max() > 1e-3
    assert not np.diff(lowered.embed(pair), axis=0).any()


@cache
def small(folder, batch_size):
    files = carded(folder) if (folder / "model.onnx").is_file() else installed(folder, transformer())
    return OnnxEmbedder(files, batch_size)


@settings(deadline=None, max_examples=40)
@given(texts=st.lists(st.text(max_size=300), max_size=12), batch_size=st.sampled_from([1, 3, 64]))
def test_a_transformers_vectors_do_not_depend_on_batch_mates_and_keep_their_order(tmp_path_factory, texts, batch_size):
    folder = tmp_path_factory.getbasetemp() / "independent"
    alone = [small(folder, 64).embed([text])[0] for text in texts]
    together = small(folder, batch_size).embed(texts)
    assert len(together) == len(texts)
    for one, other in zip(alone, together, strict=True):
        assert np.abs(one - other).max() <= 1e-5


def test_a_dynamically_quantised_minilm_does_depend_on_them(tmp_path):
    shutil.copyfile(minilm("model_qint8.onnx"), tmp_path / "model.onnx")
    shutil.copyfile(MINILM / "tokenizer.json", tmp_path / "tokenizer.json")
    embedder = OnnxEmbedder(carded(tmp_path, dim=384, max_tokens=256))
    alone = np.concatenate([embedder.embed([text]) for text in TEXTS])
    assert np.abs(embedder.embed(TEXTS) - alone).max() > 1e-3
