"""Distilling, with a teacher of a few tokens."""

import json
import sys

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from memcli.embed.distill import distill
from memcli.embed.models import compute_model_id, load_card
from memcli.embed.onnx import OnnxEmbedder
from memcli.errors import UsageError

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[unused0]", ".", "7", "the", "key", "##s", "vault", "soup"]
HIDDEN = 6


@pytest.fixture
def teacher(tmp_path):
    """A teacher that looks each token up in a random table."""
    folder = tmp_path / "teacher"
    folder.mkdir()
    special = [{"id": at, "special": True, "content": VOCABULARY[at]} for at in range(4)]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    tokenizer = {
        "version": "1.0",
        "truncation": {"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": None,
        "added_tokens": [token | flags for token in special],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {token: at for at, token in enumerate(VOCABULARY)},
        },
    }
    tokenizer["normalizer"]["strip_accents"] = None
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    table = np.random.default_rng(5).normal(size=(len(VOCABULARY), HIDDEN)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])],
        "teacher",
        [helper.make_tensor_value_info("input_ids", onnx.TensorProto.INT64, ["b", "s"])],
        [helper.make_tensor_value_info("last_hidden_state", onnx.TensorProto.FLOAT, ["b", "s", HIDDEN])],
        [numpy_helper.from_array(table, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder, table


def test_the_result_is_a_model_that_embeds(tmp_path, teacher):
    distill(teacher[0], tmp_path / "out")
    files = load_card(tmp_path / "out")
    assert files.model_id == compute_model_id(files.folder)
    assert files.dim == HIDDEN
    vectors = OnnxEmbedder(files).embed(["the keys", "soup", "the vault . 7", "???", "[unused0]"])
    assert np.allclose(np.linalg.norm(vectors[:3], axis=1), 1)
    assert not vectors[3].any()


def test_cosines_of_single_tokens_are_those_of_the_centred_teacher(tmp_path, teacher):
    folder, table = teacher
    distill(folder, tmp_path / "out")
    pooled = (table + table[2] + table[3]) / 3
    centred = pooled - pooled[5:].mean(axis=0)
    words = [10, 11, 8]
    expected = centred[words] / np.linalg.norm(centred[words], axis=1, keepdims=True)
    vectors = OnnxEmbedder(load_card(tmp_path / "out")).embed([VOCABULARY[at] for at in words])
    assert np.abs(vectors @ vectors.T - expected @ expected.T).max() < 0.02


def test_common_tokens_weigh_less_than_rare_ones_and_special_ones_nothing(tmp_path, teacher):
    distill(teacher[0], tmp_path / "out")
    graph = onnx.load(str(tmp_path / "out" / "model.onnx")).graph
    table = {value.name: numpy_helper.to_array(value) for value in graph.initializer}
    assert not table["codes"][:5].any()
    assert not table["scales"][:5].any()
    the, vault, soup = OnnxEmbedder(load_card(tmp_path / "out")).embed(["the", "vault", "soup"])
    mixed = OnnxEmbedder(load_card(tmp_path / "out")).embed(["the soup"])[0]
    assert mixed @ soup > mixed @ the
    assert abs(float(vault @ vault) - 1) < 1e-6


def test_the_same_teacher_gives_the_same_bytes(tmp_path, teacher):
    for name in ("one", "two"):
        distill(teacher[0], tmp_path / name)
    for name in ("model.onnx", "tokenizer.json", "card.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_without_the_onnx_package_the_extra_is_named(tmp_path, teacher, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UsageError) as caught:
        distill(teacher[0], tmp_path / "out")
    assert 'pip install "memcli[train]"' in caught.value.hint


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_folder_that_is_no_teacher_is_named(tmp_path, teacher, name):
    (teacher[0] / name).unlink()
    with pytest.raises(UsageError, match=str(teacher[0])):
        distill(teacher[0], tmp_path / "out")
    assert not (tmp_path / "out").exists()
