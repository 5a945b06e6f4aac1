"""`memcli bench dedup`, and the calibration of a model's near threshold."""

import json
import subprocess
import sys

import numpy as np
import pytest

from memcli.bench.dedup import SPARED_RECALL, WANTED_PRECISION, calibrate, evaluate, read_pairs
from memcli.embed.models import CALIBRATION_FILE, default_model, keep_model, load_card, write_calibration
from memcli.errors import DamagedError, UsageError

ROWS = [
    {"id": "a-1", "a": "Ann likes tea.", "b": "Ann likes tea!", "label": "duplicate", "kind": "format"},
    {"id": "a-2", "a": "Ann likes tea.", "b": "Ann likes coffee.", "label": "distinct", "kind": "entity"},
    {"id": "a-3", "a": "Wait 300 s.", "b": "Wait five minutes.", "label": "duplicate", "kind": "number"},
    {"id": "a-4", "a": "Tea is nice.", "b": "Ann enjoys a warm cup of it.", "label": "duplicate", "kind": "paraphrase"},
]


class Embedder:
    """Cosines as told: each pair of texts gets two vectors at that angle."""

    model_id, dim = "0" * 32, 2

    def __init__(self, *cosines):
        self.cosines = cosines

    def embed(self, texts):
        assert len(texts) == 2 * len(self.cosines)
        rows = [row for cosine in self.cosines for row in ((1, 0), (cosine, (1 - cosine**2) ** 0.5))]
        return np.array(rows, dtype=np.float32)


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def bench(*arguments):
    command = [sys.executable, "-m", "memcli", "bench", "dedup", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(autouse=True)
def no_installed_models(tmp_path, monkeypatch):
    """The models of whoever runs the tests are none of their business."""
    monkeypatch.setenv("MEMCLI_DATA_DIR", str(tmp_path / "data"))


@pytest.fixture
def pairs(tmp_path):
    return write(tmp_path / "pairs.jsonl", ROWS)


def test_what_is_merged_is_near_and_passes_the_gates(pairs):
    found = evaluate(read_pairs(pairs), Embedder(0.95, 0.99, 0.8, 0.9), 0.85)
    assert (found.scores.merged, found.scores.false, found.scores.duplicates, found.scores.pairs) == (1, 0, 3, 4)
    assert found.by_kind["duplicate", "format"].merged == 1
    assert evaluate(read_pairs(pairs), Embedder(0.95, 0.99, 0.8, 0.9), 0.75).scores.merged == 2
    assert found.baselines["cosine"][0] == pytest.approx(0.8, abs=1e-6)
    assert found.baselines["cosine"][1].false == 1


def test_a_false_merge_is_shown_with_its_kind_and_texts(tmp_path):
    wrong = {"id": "x", "a": "It is done.", "b": "It is done", "label": "distinct", "kind": "trap"}
    found = evaluate(read_pairs(write(tmp_path / "p.jsonl", [wrong])), Embedder(0.99), 0.9)
    assert found.scores.precision == 0
    assert found.to_json()["false_merges"] == [wrong]
    shown = bench("--pairs", tmp_path / "p.jsonl").stdout
    assert "false merges: 1" in shown
    assert "x (trap)\n    It is done.\n    It is done\n" in shown


def test_the_calibration_is_the_highest_threshold_that_loses_little_recall(pairs):
    found = calibrate(read_pairs(pairs), Embedder(0.95, 0.99, 0.805, 0.9))
    assert (found.threshold, found.precision, found.recall) == (0.80, 1.0, round(2 / 3, 4))
    assert (WANTED_PRECISION, SPARED_RECALL) == (0.98, 0.02)


def test_where_no_threshold_is_precise_the_most_precise_one_is_chosen(tmp_path):
    wrong = {**ROWS[0], "label": "distinct"}
    labelled = read_pairs(write(tmp_path / "p.jsonl", [wrong, ROWS[2]]))
    assert calibrate(labelled, Embedder(0.85, 0.955)).threshold == 0.95
    assert calibrate(labelled, Embedder(0.95, 0.85)).threshold > 0.95


def test_the_command_prints_a_table_or_one_document(pairs):
    plain, document = bench("--pairs", pairs), bench("--pairs", pairs, "--json")
    assert (plain.returncode, plain.stderr) == (0, "")
    for word in ("precision", "recall", "F1", "cosine alone", "jaccard alone", "paraphrase", "false merges: 0"):
        assert word in plain.stdout
    found = json.loads(document.stdout)
    assert (found["pairs"], found["duplicates"], found["merged"], found["false"]) == (4, 3, 1, 0)
    assert found["threshold"] == default_model().near_threshold
    assert {each["kind"] for each in found["by_kind"]} == {"format", "entity", "number", "paraphrase"}
    assert set(found["baselines"]) == {"cosine", "jaccard"}
    assert json.loads(bench("--pairs", pairs, "--threshold", "1", "--json").stdout)["merged"] < 2


def test_a_model_is_named_by_its_name_the_start_of_its_id_or_its_folder(pairs):
    files = default_model()
    for name in ("default", files.name, files.model_id[:6], files.folder):
        assert (
            json.loads(bench("--pairs", pairs, "--model", name, "--json").stdout)["model"]["model_id"] == files.model_id
        )
    unknown = bench("--pairs", pairs, "--model", "nonsense")
    assert (unknown.returncode, "nonsense" in unknown.stderr) == (2, True)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "p.jsonl:2: not JSON"),
        ("[]", "p.jsonl:2: not an object"),
        (json.dumps({**ROWS[0], "label": "same"}), "p.jsonl:2: label 'same'"),
        (json.dumps({**ROWS[0], "a": 1}), "p.jsonl:2: no text in the field 'a'"),
    ],
)
def test_a_bad_row_is_an_error_with_file_and_line(tmp_path, line, said):
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps(ROWS[0]) + "\n" + line + "\n", encoding="utf-8")
    with pytest.raises(UsageError) as raised:
        read_pairs(path)
    assert said in raised.value.message


def test_no_pairs_and_no_file_are_errors(tmp_path):
    (tmp_path / "p.jsonl").write_text("\n", encoding="utf-8")
    for name in ("p.jsonl", "none.jsonl"):
        failed = bench("--pairs", tmp_path / name)
        assert failed.returncode == 2
        assert name in failed.stderr
        assert "Traceback" not in failed.stderr


def test_a_calibration_counts_instead_of_the_card_and_travels_with_the_model(tmp_path):
    files = default_model()
    folder = keep_model(files, tmp_path)
    write_calibration(folder, {"model_id": files.model_id, "threshold": 0.5})
    assert load_card(folder).near_threshold == 0.5
    copied = keep_model(load_card(folder), tmp_path / "other")
    assert load_card(copied).near_threshold == 0.5
    write_calibration(folder, {"model_id": "another", "threshold": 0.6})
    assert load_card(folder).near_threshold == json.loads((folder / "card.json").read_text())["near_threshold"]
    (folder / CALIBRATION_FILE).write_text("no")
    with pytest.raises(DamagedError):
        load_card(folder)
