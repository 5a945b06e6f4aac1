"""`memcli bench quality` scores a model as the textbooks say, on whatever files it is given, and names a bad row."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_cli import Home

from memcli.bench.quality import Question, bench_quality, best_f1, first_ranks
from memcli.embed.judged import read_sts, spearman
from memcli.embed.models import default_model

STSB_DEV = Path(__file__).resolve().parents[2] / "shared" / "data" / "eval" / "stsb-dev.csv"
PAIRS = [
    ("The cat sleeps on the sofa.", "A cat is sleeping on the couch.", 4.5),
    ("The cat sleeps on the sofa.", "The invoice was paid in March.", 0.0),
    ('He said "no", twice.', "He refused two times, saying\nno.", 3.5),
    ("We deploy on Friday.", "The release is shipped on Friday.", 3.8),
    ("We deploy on Friday.", "Bread needs salt, flour and water.", 0.2),
]


class Lookup:
    """An embedder of known vectors, which counts what it is asked for."""

    model_id = "0" * 32
    dim = 2

    def __init__(self, **angles):
        self.angles = angles
        self.texts = []

    def embed(self, texts):
        self.texts.extend(texts)
        angle = np.array([self.angles[text] for text in texts], dtype=np.float32)
        return np.stack([np.cos(angle), np.sin(angle)], axis=1)


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def write_csv(path, rows):
    with path.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows(rows)
    return path


def write_lines(path, *records):
    path.write_text("".join(json.dumps(each) + "\n" for each in records))
    return path


def naive_spearman(first, second):
    """By the definition: the rank of a value is the mean place of all equal ones."""

    def ranks(values):
        return [np.mean([1 + place for place, each in enumerate(sorted(values)) if each == value]) for value in values]

    return np.corrcoef(ranks(first), ranks(second))[0, 1]


values = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=30)


@given(values)
def test_spearman_is_pearsons_correlation_of_averaged_ranks(pairs):
    first, second = np.array(pairs, dtype=np.float64).T
    found = spearman(first, second)
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(naive_spearman(list(first), list(second)), abs=1e-9)


def test_spearman_of_a_worked_example():
    assert spearman(np.array([1.0, 2, 3, 4, 5]), np.array([5.0, 6, 7, 8, 7])) == pytest.approx(0.8207826816681233)
    assert spearman(np.array([1.0, 2, 3]), np.array([1.0, 10, 100])) == pytest.approx(1)


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=25))
def test_best_f1_and_average_precision_are_those_of_trying_every_threshold(rows):
    cosines, labels = np.array([row[0] / 4 for row in rows]), np.array([row[1] for row in rows])
    if not labels.any():
        return
    found = {}
    average = gained = 0.0
    for threshold in sorted(set(cosines), reverse=True):
        said = cosines >= threshold
        hits = (said & labels).sum()
        found[threshold] = 2 * hits / (said.sum() + labels.sum())
        average += (hits / labels.sum() - gained) * hits / said.sum()
        gained = hits / labels.sum()
    f1, threshold, precision = best_f1(cosines, labels)
    assert f1 == pytest.approx(max(found.values()))
    assert found[threshold] == pytest.approx(f1)
    assert precision == pytest.approx(average)


def test_a_wrong_text_of_the_same_score_stands_before_the_right_one():
    same = np.ones((4, 2), dtype=np.float32)
    assert first_ranks(same[:2], same, [[0], [2, 3]]).tolist() == [4, 3]


def test_each_text_is_embedded_once_however_often_the_files_name_it(tmp_path):
    model = Lookup(a=0.0, b=0.1, c=1.0, d=1.5)
    sts = write_csv(tmp_path / "a.csv", [("a", "b", 5), ("a", "c", 1), ("c", "b", 2)])
    pairs = write_lines(
        tmp_path / "p.jsonl", {"a": "a", "b": "b", "label": "duplicate"}, {"a": "a", "b": "d", "label": 0}
    )
    retrieval = write_lines(
        tmp_path / "r.jsonl",
        {"query": "a", "positive": "b"},
        {"query": "d", "positive": "c"},
        {"query": "c", "positive": "b"},
    )
    told = []
    document = bench_quality(model, "m", None, Question([sts], [pairs], [retrieval]), told.append)
    assert sorted(model.texts) == ["a", "b", "c", "d"]
    assert document == {
        "model": "m",
        "dim": 2,
        "megabytes": None,
        "sts": [{"file": str(sts), "n": 3, "spearman": 1.0}],
        "pairs": [
            {
                "file": str(pairs),
                "n": 2,
                "duplicates": 1,
                "best_f1": 1.0,
                "threshold": 0.995,
                "average_precision": 1.0,
            }
        ],
        "retrieval": [
            {
                "file": str(retrieval),
                "n": 3,
                "queries": 3,
                "candidates": 2,
                "recall_at_1": 0.6667,
                "recall_at_10": 1.0,
                "mrr": 0.8333,
            }
        ],
    }
    assert len(told) == 3


def test_the_document_has_exactly_the_promised_keys(home, tmp_path):
    path, other = write_csv(tmp_path / "one.csv", PAIRS), write_csv(tmp_path / "two.csv", PAIRS[1:])
    done = home.run("bench", "quality", "--sts", path, other, "--json", "--quiet")
    assert (done.code, done.err) == (0, "")
    model = default_model()
    megabytes = sum(each.stat().st_size for each in model.folder.iterdir()) / 1e6
    assert {key: done.json[key] for key in ("model", "dim")} == {"model": model.name, "dim": model.dim}
    assert done.json["megabytes"] == pytest.approx(megabytes, abs=0.01)
    assert set(done.json) == {"model", "dim", "megabytes", "sts"}
    assert [(each["file"], each["n"]) for each in done.json["sts"]] == [(str(path), 5), (str(other), 4)]
    assert all(set(each) == {"file", "n", "spearman"} for each in done.json["sts"])
    assert done.json["sts"][0]["spearman"] > 0.7


def test_a_model_is_named_by_its_folder_or_its_name(home, tmp_path):
    path = write_csv(tmp_path / "one.csv", PAIRS)
    by_default = home.run("bench", "quality", "--sts", path, "--json", "-q").json
    for name in ("default", default_model().name, default_model().folder):
        assert home.run("bench", "quality", "--model", name, "--sts", path, "--json", "-q").json == by_default
    unknown = home.run("bench", "quality", "--model", "nonsense", "--sts", path)
    assert unknown.code == 2
    assert "nonsense" in unknown.err
    assert "memcli model list" in unknown.err


def test_tables_fit_a_terminal_and_progress_is_on_stderr(home, tmp_path):
    path = write_csv(tmp_path / "one.csv", PAIRS)
    pairs = write_lines(tmp_path / "p", {"a": "x", "b": "x", "label": True}, {"a": "x", "b": "y z", "label": False})
    shown = home.on_terminal("bench", "quality", "--sts", path, "--pairs", pairs, "-q").out
    assert max(map(len, re.sub(r"\x1b\[[0-9;]*m", "", shown).split("\n"))) <= 80
    piped = home.run("bench", "quality", "--sts", path)
    assert "Spearman" in piped.out
    assert "5 rows" in piped.err


def test_without_data_the_model_is_described_and_a_flag_is_named(home):
    done = home.run("bench", "quality")
    assert done.code == 0
    assert "--sts" in done.out
    assert home.run("bench", "quality", "--json").json["sts"] == []


@pytest.mark.parametrize(
    ("flag", "content", "message"),
    [
        ("--sts", b"a,b,1\na,b\n", ":2: 2 columns"),
        ("--sts", b"sentence1,sentence2,score\na,b,1\n", ":1: the score is not a number: 'score'"),
        ("--sts", b"a,b,1\n\nc,d,nan\n", ":3: the score is not a number: 'nan'"),
        ("--sts", b'a,b,1\n"c" d,e,2\n', ":2: not CSV"),
        ("--sts", b'a,b,1\n"c,d,2\n', ":2: not CSV"),
        ("--sts", b"a,b,1\nc,d,1\n", "fewer than two different scores"),
        ("--sts", b"", "fewer than two different scores"),
        ("--sts", b"a,b\xff,1\n", "not UTF-8"),
        ("--pairs", b'{"a": "x", "b": "y", "label": 1}\n{"a": "x", "b": "y"}\n', ":2: the label is null"),
        ("--pairs", b'{"a": "x", "b": "y", "label": [1]}\n', ":1: the label is [1]"),
        ("--pairs", b'{"a": "x", "b": 7, "label": 1}\n', ":1: 'b' is not a text"),
        ("--pairs", b'{"a": "x", "b": "y", "label": 1}\n', "that are not"),
        ("--pairs", b"[]\n", ":1: not a JSON object"),
        ("--retrieval", b'{"query": "x"', ":1: not JSON"),
        ("--retrieval", b'{"query": "x", "positive": " "}', ":1: 'positive' is not a text"),
        ("--retrieval", b'{"query": "x", "positive": "y"}', "nothing to choose from"),
        ("--retrieval", b"[" * 100_000, ":1: not JSON"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(home_of_module, tmp_path, flag, content, message):
    path = tmp_path / "data"
    path.write_bytes(content)
    done = home_of_module("bench", "quality", flag, str(path))
    assert done[0] == 2
    assert message in done[1]
    assert str(path) in done[1]


@pytest.fixture
def home_of_module(capfd, monkeypatch):
    """The command in this process: two dozen interpreters would take ten seconds."""
    from memcli.cli import main

    def run(*args):
        monkeypatch.setattr("sys.argv", ["memcli", *args])
        with pytest.raises(SystemExit) as caught:
            main()
        return caught.value.code, capfd.readouterr().err.replace("\n", "")

    return run


def test_a_missing_file_is_named(home):
    done = home.run("bench", "quality", "--sts", "nowhere.csv")
    assert done.code == 2
    assert "cannot read nowhere.csv" in done.err


def test_quotes_line_ends_and_a_byte_order_mark_are_read_as_csv_says(tmp_path):
    path = write_csv(tmp_path / "one.csv", PAIRS)
    assert read_sts(path) == PAIRS
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_sts(path) == PAIRS


def test_the_shipped_models_score_is_that_of_an_independent_computation(home):
    if not STSB_DEV.is_file():
        pytest.skip("the STS benchmark's development pairs are not here")
    from memcli.embed.onnx import OnnxEmbedder

    found = home.run("bench", "quality", "--sts", STSB_DEV, "--json", "-q").json["sts"][0]
    with STSB_DEV.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.reader(lines))
    embedder = OnnxEmbedder(default_model())
    first, second = (embedder.embed([row[side] for row in rows]).astype(np.float64) for side in (0, 1))
    places = [np.array([cos, float(row[2])]) for cos, row in zip((first * second).sum(axis=1), rows, strict=True)]
    order = [np.argsort(np.argsort([each[side] for each in places])) for side in (0, 1)]
    assert found["n"] == len(rows) == 1500
    # Ties of the scores are broken by place here, which moves the figure by less than this.
    assert found["spearman"] == pytest.approx(np.corrcoef(*order)[0, 1], abs=0.01)
