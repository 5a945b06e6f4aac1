"""`memcli bench scan` measures all ways on the same vectors, and counts pairs that float64 has checked."""

from importlib.util import find_spec

import numpy as np
import pytest
from support_cli import Home

from memcli.bench import scan as bench
from memcli.bench import vectors as generated
from memcli.bench.scan import Plan, bench_scan
from memcli.errors import UsageError

KEYS = {"benchmark", "versions", "machine", "timed", "vectors", "seed", "repeat", "n", "dim", "threads", "threshold",
        "seconds", "cpu_seconds", "times_faster", "pairs", "peak_rss_mb", "peers_peak_rss_mb", "samples",
        "notes"}  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return Home(tmp_path_factory.mktemp("home"))


def naive(vectors, threshold):
    scores = vectors.astype(np.float64) @ vectors.astype(np.float64).T
    return int(np.count_nonzero(np.tril(scores >= threshold, -1)))


def test_the_document_says_what_was_measured_and_memcli_finds_all_pairs(home):
    done = home.run("bench", "scan", "--n", "1500", "--dim", "48", "--threshold", "0.85", "--repeat", "1", "--json")
    assert done.code == 0, done.err
    document = done.json
    assert set(document) == KEYS
    assert (document["n"], document["dim"], document["threshold"]) == (1500, 48, 0.85)
    assert set(document["seconds"]) == {"memcli", "numpy", "semhash"}
    expected = naive(generated.generate(1500, 48, 7), 0.85)
    assert document["pairs"]["memcli"] == document["pairs"]["expected"] == expected > 50
    assert document["seconds"]["memcli"] > 0
    assert document["seconds"]["numpy"] > 0
    assert document["peak_rss_mb"] > 20
    if find_spec("semhash"):
        assert 0 < document["pairs"]["semhash"] <= expected
    else:
        assert document["seconds"]["semhash"] is None
        assert "memcli[bench]" in " ".join(document["notes"])


def test_the_users_vectors_are_scaled_and_cut(home, tmp_path):
    draw = np.random.default_rng(1)
    vectors = (draw.normal(size=(60, 8)) * 5)[draw.integers(0, 20, 300)]
    vectors[3] = 0
    np.save(tmp_path / "mine.npy", vectors)
    done = home.run("bench", "scan", "--vectors", str(tmp_path / "mine.npy"), "--n", "200", "--repeat", "1", "--alone")
    assert done.code == 0, done.err
    scaled = vectors[:200] / np.maximum(np.linalg.norm(vectors[:200], axis=1, keepdims=True), 1e-9)
    assert f"{naive(scaled, 0.9):,}" in done.out
    assert "200 vectors x 8" in done.out
    assert "numpy " not in done.out.split("\n\n")[1]


@pytest.mark.parametrize(
    ("content", "dim", "message"),
    [
        (None, None, "cannot read"),
        (b"no numbers", None, "no .npy file"),
        (np.zeros(4), None, "no matrix"),
        (np.zeros((0, 4)), None, "no matrix"),
        (np.array([["a", "b"]]), None, "no matrix"),
        (np.full((2, 2), np.nan), None, "not finite"),
        (np.zeros((2, 2)), 3, "2 dimensions"),
    ],
)
def test_a_file_that_holds_no_vectors_is_said_to(tmp_path, content, dim, message):
    path = tmp_path / "mine.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    with pytest.raises(UsageError, match=message):
        bench_scan(Plan(vectors=path, dim=dim), lambda _: None)


def test_a_missing_file_is_an_error_of_use(home, tmp_path):
    done = home.run("bench", "scan", "--vectors", str(tmp_path / "mine.npy"))
    assert (done.code, done.out) == (2, "")
    assert "No such file" in done.err


def test_without_semhash_its_column_is_left_out_with_a_note(monkeypatch):
    monkeypatch.setattr(bench, "find_spec", lambda _: None)
    result = bench_scan(Plan(count=300, dim=16, repeat=1), lambda _: None)
    assert list(result.samples) == ["memcli", "numpy"]
    assert result.to_json()["pairs"]["semhash"] is None
    assert result.notes == ["SemHash is not installed: pip install 'memcli[bench]'"]


def test_pairs_that_memcli_missed_or_made_up_would_be_said(tmp_path):
    vectors = generated.generate(400, 16, 7)
    result = bench.Benchmark(Plan(), 400, 16, {"memcli": [], "numpy": []})
    right = np.argwhere(np.tril(vectors.astype(np.float64) @ vectors.T >= 0.9, -1))
    made_up = np.argwhere(np.tril(vectors.astype(np.float64) @ vectors.T < 0.5, -1))[:2]
    np.save(tmp_path / "numpy.npy", np.concatenate([right, made_up]))
    np.save(tmp_path / "memcli.npy", np.concatenate([right[3:], made_up]))
    bench._compare(result, vectors, tmp_path)
    assert (result.expected, result.pairs["memcli"]) == (len(right), len(right) - 3)
    assert result.notes == ["memcli gave 2 pairs too many and 3 too few"]


def test_generated_vectors_are_the_same_for_the_same_seed_and_have_pairs_around_the_threshold():
    vectors = generated.generate(3000, 64, 7)
    assert (vectors == generated.generate(3000, 64, 7)).all()
    assert (vectors != generated.generate(3000, 64, 8)).any()
    assert np.allclose(np.linalg.norm(vectors.astype(np.float64), axis=1), 1, atol=1e-6)
    scores = np.tril(vectors @ vectors.T, -1)
    for low, high in ((0.85, 0.9), (0.9, 0.95), (0.95, 0.999)):
        assert ((scores >= low) & (scores < high)).sum() > 30


def test_templated_lines_leave_at_most_five_review_rows_each(home):
    done = home.run("bench", "scan", "--templated", "--n", "600", "--json")
    assert done.code == 0, done.err
    few, many = done.json["runs"]
    assert (few["lines"], many["lines"]) == (60, 600)
    for run in (few, many):
        assert run["merged"] == run["lines"] // 10 - 1
        assert run["memories"] + run["merged"] == run["lines"]
        assert 0 < run["review_rows"] <= 5 * run["memories"]
    assert many["review_pairs"] > 2 * many["review_rows"]


def test_templated_is_shown_as_a_table(home):
    done = home.run("bench", "scan", "--templated", "--n", "20", "--quiet", env={"COLUMNS": "80"})
    assert done.code == 0, done.err
    assert "kept pairs" in done.out
    assert max(map(len, done.out.split("\n\n")[1].splitlines())) <= 80
    assert done.err == ""
