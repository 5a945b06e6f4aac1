"""What every Embedder promises (see memcli.protocols), run over each embedder that there is."""

import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from support_api import Provider
from support_models import MINILM, carded, installed, minilm, transformer

from memcli.embed.api import ApiEmbedder, ApiModel
from memcli.embed.models import default_model
from memcli.embed.onnx import OnnxEmbedder
from memcli.protocols import Embedder

TEXTS = [
    "The deploy key lives in the vault.",
    "",
    "Ich mag Käse, 日本語も少し and a café ☕",
    "a",
    "The deploy key lives in the vault.",
    "one sentence that is quite a bit longer than all of its neighbours, " * 12,
]


@cache
def packaged() -> Embedder:
    return OnnxEmbedder(default_model())


@cache
def small_transformer() -> Embedder:
    with tempfile.TemporaryDirectory() as name:
        return OnnxEmbedder(installed(Path(name) / "small", transformer()))


@cache
def prompted() -> Embedder:
    with tempfile.TemporaryDirectory() as name:
        prompts = {"query_prompt": "query: ", "passage_prompt": "passage: "}
        return OnnxEmbedder(installed(Path(name) / "small", transformer(), **prompts))


@cache
def shared_minilm() -> Embedder:
    graph = minilm()
    with tempfile.TemporaryDirectory() as name:
        shutil.copyfile(graph, Path(name) / "model.onnx")
        shutil.copyfile(MINILM / "tokenizer.json", Path(name) / "tokenizer.json")
        return OnnxEmbedder(carded(Path(name), dim=384, max_tokens=256))


def _of_the_packaged_model(_number, texts):
    """A provider whose vectors mean something; longer than 1, as a provider's may be."""
    rows = packaged().embed(texts) * 3
    data = [{"index": place, "embedding": row.tolist()} for place, row in enumerate(rows)]
    return 200, {}, {"data": data}


LOCAL = [packaged, small_transformer, prompted, shared_minilm]


@pytest.fixture(scope="module")
def provider():
    with Provider(_of_the_packaged_model) as running:
        yield ApiEmbedder(ApiModel("m", packaged().dim, running.url), {})


@pytest.fixture(params=[*LOCAL, None], ids=[*(each.__name__ for each in LOCAL), "provider"])
def embedder(request):
    return request.getfixturevalue("provider") if request.param is None else request.param()


@pytest.fixture(params=["embed", "embed_queries"])
def embed(request, embedder):
    return getattr(embedder, request.param)


def test_gives_one_float32_row_of_dim_columns_per_text(embedder, embed):
    vectors = embed(TEXTS)
    assert vectors.shape == (len(TEXTS), embedder.dim)
    assert vectors.dtype == np.float32


def test_no_text_gives_no_row(embedder, embed):
    assert embed([]).shape == (0, embedder.dim)


def test_rows_have_unit_length_and_a_text_without_token_the_zero_row(embed):
    lengths = np.linalg.norm(embed(TEXTS).astype(np.float64), axis=1)
    assert lengths[1] == 0
    assert np.abs(np.delete(lengths, 1) - 1).max() < 1e-6


def test_rows_come_in_the_order_of_the_texts(embed):
    alone = np.concatenate([embed([text]) for text in TEXTS])
    assert np.abs(embed(TEXTS) - alone).max() <= 1e-5
    assert np.abs(embed(TEXTS[::-1]) - alone[::-1]).max() <= 1e-5


def test_equal_texts_have_equal_rows_and_different_texts_do_not(embed):
    vectors = embed(TEXTS)
    assert np.array_equal(vectors[0], vectors[4])
    assert not np.array_equal(vectors[0], vectors[2])


def test_related_texts_are_nearer_than_unrelated_ones(embed):
    query, near, far = embed(
        ["How do I reset my password?", "I forgot my password, how can I change it?", "The soup needs more salt."]
    )
    assert query @ near > query @ far + 0.2


def test_is_named_by_a_content_hash(embedder):
    assert len(embedder.model_id) == 32
    int(embedder.model_id, 16)
