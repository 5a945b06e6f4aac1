"""The ONNX embedder with the model that ships in the package."""

import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from tokenizers import Tokenizer

from memcli.embed.models import compute_model_id, default_model, load_card
from memcli.embed.onnx import BUCKETS, OnnxEmbedder
from memcli.errors import DamagedError

SHARED = Path(__file__).resolve().parents[2] / "shared"

WORDS = ["retry", "the", "budget", "№ 7", "don't", "日本", "🚀", "x_y", "\ud800", "é", "café", "migration " * 40, "\n"]
some_text = st.one_of(st.text(max_size=60), st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join))


@cache
def embedder(batch_size=64, threads=None):
    return OnnxEmbedder(default_model(), batch_size, threads)


def bits(vectors):
    return vectors.view(np.uint32).tolist()


@settings(deadline=None, max_examples=60)
@given(st.lists(some_text, max_size=40), st.sampled_from([1, 2, 7, 64]), st.sampled_from([1, 2]))
def test_a_vector_is_bitwise_the_same_whatever_its_batch_mates_batch_size_and_threads(texts, batch_size, threads):
    alone = [bits(embedder(1).embed([text]))[0] for text in texts]
    assert bits(embedder(batch_size, threads).embed(texts)) == alone


def test_a_vector_is_bitwise_the_same_in_every_length_bucket_and_across_tokenizer_chunks():
    texts = ["word " * length for bucket in BUCKETS for length in (bucket - 1, bucket, bucket + 1)] * 60
    vectors = embedder().embed(texts)
    once = len(BUCKETS) * 3
    assert len(texts) > 2048
    assert bits(vectors[:once]) * 60 == bits(vectors)
    assert bits(embedder(7).embed(texts[:once][::-1])) == bits(vectors[:once][::-1])


def test_vectors_agree_with_the_table_summed_by_hand():
    files = default_model()
    graph = onnx.load(str(files.folder / "model.onnx")).graph
    table = {value.name: numpy_helper.to_array(value).astype(np.float64) for value in graph.initializer}
    tokenizer = Tokenizer.from_file(str(files.folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    texts = ["We retry 5 times, then page the on-call.", "Kubernetes", "naïve café 日本語", "long " * 700]
    for text, vector in zip(texts, embedder().embed(texts), strict=True):
        ids = tokenizer.encode(text, add_special_tokens=False).ids[: files.max_tokens]
        summed = (table["codes"][ids] * table["scales"][ids][:, None]).sum(axis=0)
        assert np.abs(vector - summed / np.linalg.norm(summed)).max() < 1e-5


def test_a_text_is_cut_off_at_max_tokens():
    files = default_model()
    long = embedder().embed(["alpha " * files.max_tokens, "alpha " * files.max_tokens + "beta " * 5000])
    assert bits(long[:1]) == bits(long[1:])


@pytest.mark.parametrize("text", ["", " \n\t ", "\u3000\u2003"])
def test_a_text_without_a_visible_character_has_the_zero_row(text):
    assert not embedder().embed(["before", text])[1].any()


def test_the_graph_itself_gives_the_zero_row_and_no_nan_where_the_mask_is_empty():
    nothing = np.zeros((2, 8), dtype=np.int64)
    session = embedder().session
    assert not session.run(["embedding"], {"input_ids": nothing + 2000, "attention_mask": nothing})[0].any()


def test_the_names_of_special_tokens_are_words_like_others():
    padding, spaced, unknown = embedder().embed(["[PAD]", "[ pad ]", "[UNK]"])
    assert np.abs(padding - spaced).max() < 1e-6
    assert padding @ unknown < 0.9


def test_starting_a_process_after_embedding_warns_of_nothing():
    code = (
        "import os; from memcli.embed.onnx import OnnxEmbedder; from memcli.embed.models import default_model\n"
        "OnnxEmbedder(default_model()).embed(['a b', 'c d'] * 100)\n"
        "pid = os.fork()\n"
        "if pid == 0: OnnxEmbedder; os._exit(0)\n"
        "os.waitpid(pid, 0)"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def damaged_copy(tmp_path, name, change):
    folder = tmp_path / "model"
    shutil.copytree(default_model().folder, folder)
    (folder / name).write_bytes(change((folder / name).read_bytes()))
    return folder


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_changed_file_is_refused_since_it_is_another_model(tmp_path, name):
    folder = damaged_copy(tmp_path, name, lambda raw: raw[:-1000] + bytes(1000))
    with pytest.raises(DamagedError, match="its content is model"):
        OnnxEmbedder(load_card(folder))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("model.onnx", lambda raw: raw[: len(raw) // 2]),
        ("model.onnx", lambda _: b""),
        ("tokenizer.json", lambda raw: raw[:1000]),
        ("tokenizer.json", lambda _: b"{}"),
    ],
)
def test_a_file_that_does_not_load_is_named_even_when_the_card_vouches_for_it(tmp_path, name, change):
    folder = damaged_copy(tmp_path, name, change)
    card = folder / "card.json"
    card.write_text(card.read_text().replace(default_model().model_id, compute_model_id(folder)))
    with pytest.raises(DamagedError, match=name) as caught:
        OnnxEmbedder(load_card(folder))
    assert caught.value.hint


@pytest.mark.parametrize(("old", "new"), [("embedding", "embodying"), ("attention_mask", "attention_musk")])
def test_a_graph_with_other_inputs_or_outputs_is_refused(tmp_path, old, new):
    folder = damaged_copy(tmp_path, "model.onnx", lambda raw: raw.replace(old.encode(), new.encode()))
    card = folder / "card.json"
    card.write_text(card.read_text().replace(default_model().model_id, compute_model_id(folder)))
    with pytest.raises(DamagedError, match="are needed"):
        OnnxEmbedder(load_card(folder))


def test_a_card_of_another_dimension_is_refused(tmp_path):
    folder = damaged_copy(tmp_path, "card.json", lambda raw: raw.replace(b'"dim": 256', b'"dim": 128'))
    with pytest.raises(DamagedError, match="128 columns"):
        OnnxEmbedder(load_card(folder))


def ranks(values):
    """Average ranks, ties sharing theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def test_the_shipped_model_ranks_sentence_pairs_as_people_do():
    path = SHARED / "data" / "eval" / "stsb-dev.csv"
    if not path.is_file():
        pytest.skip("the STS benchmark's development pairs are not here")
    import csv

    with path.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.reader(lines))
    first, second = embedder().embed([row[0] for row in rows]), embedder().embed([row[1] for row in rows])
    cosine = np.einsum("ij,ij->i", first, second, dtype=np.float64)
    spearman = np.corrcoef(ranks(cosine), ranks([float(row[2]) for row in rows]))[0, 1]
    assert spearman > 0.75, spearman
