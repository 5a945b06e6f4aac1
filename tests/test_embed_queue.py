"""The queue before the graph: full batches, each text once, order restored, whatever windows and files it came from."""

import math
from collections import Counter
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_cli import Home, some_chat, write_jsonl
from support_ingest import run as ingest
from support_models import installed, transformer

from memcli.bench.corpus import texts_to_embed
from memcli.config import load
from memcli.embed.models import default_model
from memcli.embed.onnx import OnnxEmbedder
from memcli.embed.queue import SIZES, fastest_size, fill, size_within
from memcli.errors import UsageError

BUCKETS = np.array([8, 16, 32, 64])


class Counted:
    """A session that counts its runs, and the texts of each."""

    def __init__(self, session):
        self._session = session
        self.runs = []

    def run(self, outputs, feeds):
        self.runs.append(feeds["input_ids"].shape)
        return self._session.run(outputs, feeds)


@cache
def loaded(batch_size=64):
    return OnnxEmbedder(default_model(), batch_size)


def counted(batch_size=64):
    embedder = OnnxEmbedder(default_model(), batch_size)
    embedder.session = Counted(embedder.session)
    return embedder


@given(st.lists(st.integers(1, 64), max_size=200), st.integers(1, 20), st.sampled_from([None, 64, 200]))
def test_each_text_is_in_one_batch_and_there_are_no_more_batches_than_full_ones_need(lengths, size, most_tokens):
    batches = list(fill(np.array(lengths, dtype=np.int64), BUCKETS, size, most_tokens))
    places = [place for _, members in batches for place in members.tolist()]
    assert sorted(places) == list(range(len(lengths)))
    for bucket, members in batches:
        assert len(members) <= size_within(size, bucket, most_tokens)
        for place in members.tolist():
            assert bucket == next(each for each in BUCKETS if lengths[place] <= each)
    wanted = Counter(next(int(each) for each in BUCKETS if length <= each) for length in lengths)
    needed = sum(math.ceil(count / size_within(size, bucket, most_tokens)) for bucket, count in wanted.items())
    assert len(batches) == needed


def test_a_text_too_long_for_the_token_limit_still_gets_a_batch():
    assert [members.tolist() for _, members in fill(np.array([60, 60]), BUCKETS, 10, 8)] == [[0], [1]]


def test_the_graph_runs_as_often_as_full_batches_need_and_the_order_is_restored():
    texts = texts_to_embed(700, 1)
    embedder = counted(32)
    rows = embedder.embed(texts)
    lengths = [len(row) for row in embedder.tokenize(texts)]
    buckets = Counter(next(each for each in embedder._buckets if length <= each) for length in lengths)
    runs = embedder.session.runs
    assert len(runs) == sum(math.ceil(count / 32) for count in buckets.values())
    assert len(runs) < len(texts) / 32 + len(buckets)
    assert np.array_equal(rows, np.concatenate([loaded(1).embed([text]) for text in texts]))


def test_batches_fill_across_windows_and_files_and_the_last_ones_are_emptied_by_the_commit(tmp_path, monkeypatch):
    calls = []
    whole = OnnxEmbedder.embed
    monkeypatch.setattr(OnnxEmbedder, "embed", lambda self, texts: calls.append(list(texts)) or whole(self, texts))
    chat = list(some_chat(400))
    for number in range(40):
        write_jsonl(tmp_path / "in" / f"{number:02}.jsonl", chat[number * 10 : number * 10 + 10])
    report = ingest(tmp_path / "m.db", tmp_path / "in", batch_size=200)
    assert report.files.read == 40
    assert report.windows_processed > 10
    # At most one call per transaction, each with all the texts that it commits.
    assert len(calls) <= report.batches <= 4
    assert sum(map(len, calls)) == report.embedded == len({text for texts in calls for text in texts})


def test_rows_come_as_their_batches_are_done():
    texts = ["", *texts_to_embed(300, 2), " "]
    embedder = counted(16)
    found = {}
    for number, (places, rows) in enumerate(embedder.stream(texts), 1):
        assert len(embedder.session.runs) == number, "a batch was run before its rows were asked for"
        found |= dict(zip(places.tolist(), rows, strict=True))
    assert sorted(found) == list(range(1, 301))
    whole = loaded().embed(texts)
    assert all(np.array_equal(whole[place], row) for place, row in found.items())


def test_auto_takes_the_smallest_size_that_is_about_as_fast_as_the_best():
    def seconds(per_text):
        return lambda size: size * per_text[size]

    falling = {16: 5.0, 32: 3.0, 64: 2.0, 128: 1.98, 256: 2.5}
    assert fastest_size(seconds(falling)) == 64
    assert fastest_size(seconds(dict.fromkeys(SIZES, 1.0))) == 16
    assert fastest_size(seconds({size: 1 / size for size in SIZES})) == 256


def test_auto_is_not_misled_by_one_slow_moment():
    told = iter([0.0, *[9999.0] * 5, *(size * cost for size, cost in zip(SIZES, (3, 2, 1, 1, 1), strict=True))])
    assert fastest_size(lambda _size: next(told)) == 64


def test_auto_measures_once_and_only_where_there_is_enough_to_do():
    embedder = counted(None)
    few = embedder.embed(texts_to_embed(100, 3))
    assert max(rows for rows, _ in embedder.session.runs) <= 64
    assert np.array_equal(few, loaded().embed(texts_to_embed(100, 3)))
    embedder.session.runs.clear()
    texts = texts_to_embed(600, 3)
    rows = embedder.embed(texts)
    measured = len(embedder.session.runs)
    embedder.session.runs.clear()
    assert np.array_equal(embedder.embed(texts), rows)
    assert np.array_equal(loaded().embed(texts), rows)
    assert measured == len(embedder.session.runs) + 1 + 2 * len(SIZES)


def test_runs_of_a_transformer_stay_small_and_those_of_a_static_model_do_not(tmp_path):
    texts = ["word " * count for count in (3, 20, 90, 120)] * 80
    embedder = OnnxEmbedder(installed(tmp_path / "small", transformer()), 64)
    sizes = [ids.shape for _, ids, _ in embedder.batches(embedder.tokenize(texts))]
    assert sum(rows for rows, _ in sizes) == len(texts)
    assert max(rows * length for rows, length in sizes) == 1024
    assert max(rows for rows, _ in sizes) == 64
    assert {rows for rows, length in sizes if length == 128} == {8}
    static = [ids.size for _, ids, _ in loaded().batches(loaded().tokenize(texts))]
    assert max(static) == 64 * 128


def test_auto_stays_within_the_memory_bound():
    assert [size_within(size, 512, 8192) for size in SIZES] == [16, 16, 16, 16, 16]
    assert size_within(256, 32, 8192) == 256
    assert size_within(4, 9000, 8192) == 1


@pytest.mark.parametrize(("value", "size"), [("auto", None), ("32", 32), (7, 7)])
def test_the_setting_is_a_number_or_auto(tmp_path, value, size):
    assert load({"embed_batch_size": value}, None, {}, tmp_path)[0].embed_batch_size == size


@pytest.mark.parametrize("value", ["0", "many", "1.5", True])
def test_anything_else_is_refused(tmp_path, value):
    with pytest.raises(UsageError, match='"auto" or a whole number'):
        load({"embed_batch_size": value}, None, {}, tmp_path)


def test_ingest_with_auto_remembers_the_same(tmp_path):
    home = Home(tmp_path / "home")
    chat = write_jsonl(tmp_path / "chat.jsonl", some_chat(40))
    assert home.run("ingest", chat, "--embed-batch-size", "auto", "--quiet").code == 0
    other = Home(tmp_path / "other", home.data)
    assert other.run("ingest", chat, "--quiet").code == 0
    vectors = "SELECT vectors FROM segments ORDER BY id"
    assert home.rows(vectors) == other.rows(vectors)
    shown = home.run("config", "show", env={"MEMCLI_EMBED_BATCH_SIZE": "auto"})
    assert "auto" in shown.out
