"""Model folders: identity, keeping, finding, and what is said of damaged ones."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from memcli.embed import models
from memcli.embed.installed import chosen_model, resolve
from memcli.embed.models import (
    compute_model_id,
    default_model,
    find_model,
    keep_model,
    load_card,
    write_calibration,
)
from memcli.errors import DamagedError, UsageError

OTHER_ID = "0" * 32


@pytest.fixture
def other(tmp_path):
    """A small model that is not the packaged one."""
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"graph")
    (folder / "tokenizer.json").write_bytes(b"{}")
    card = {"name": "other", "model_id": "", "dim": 4, "max_tokens": 16, "near_threshold": 0.8}
    card |= {"pooling": "in-graph", "normalise": "in-graph"}
    (folder / "card.json").write_text(json.dumps(card))
    card["model_id"] = compute_model_id(folder)
    (folder / "card.json").write_text(json.dumps(card))
    return load_card(folder)


def edit_card(folder, **changes):
    path = folder / "card.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_shipped_card_names_the_hash_of_the_shipped_files():
    files = default_model()
    assert compute_model_id(files.folder) == files.model_id


def test_the_shipped_card_gives_what_users_and_licences_ask_for():
    files = default_model()
    card = json.loads((files.folder / "card.json").read_text())
    assert (card["dim"], files.dim, files.max_tokens) == (256, 256, 512)
    assert 0.5 < files.near_threshold < 1
    assert card["licence"] == "Apache-2.0"
    assert card["teacher"] in card["source"]
    assert card["attribution"]
    assert card["scores"]["sts"][0]["spearman"] > 0.6


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_another_byte_in_a_file_is_another_model(other, name):
    path = other.folder / name
    path.write_bytes(path.read_bytes() + b" ")
    assert compute_model_id(other.folder) != other.model_id


@pytest.mark.parametrize("changes", [{"pooling": "cls"}, {"normalise": "none"}, {"max_tokens": 17}])
def test_a_setting_that_changes_vectors_is_another_model(other, changes):
    edit_card(other.folder, **changes)
    assert compute_model_id(other.folder) != other.model_id


def test_a_name_score_or_threshold_does_not_make_another_model(other):
    edit_card(other.folder, name="x", near_threshold=0.99, scores={"a": 1.0})
    assert compute_model_id(other.folder) == other.model_id


def test_the_packaged_model_is_found_by_its_id_without_any_store(tmp_path):
    assert find_model(default_model().model_id, tmp_path / "none") == default_model()


def test_a_kept_model_is_found_by_its_id_and_is_private(tmp_path, other):
    store = tmp_path / "data" / "models"
    folder = keep_model(other, store)
    assert folder == store / other.model_id
    found = find_model(other.model_id, store)
    assert found == dataclasses.replace(other, folder=folder)
    assert compute_model_id(folder) == other.model_id
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == dict.fromkeys(
        ("model.onnx", "tokenizer.json", "card.json"), 0o600
    )


def test_a_folder_that_is_not_what_its_card_says_is_not_kept(tmp_path, other):
    (other.folder / "model.onnx").write_bytes(b"another graph")
    with pytest.raises(DamagedError, match="its content is model"):
        keep_model(other, tmp_path / "models")
    assert not (tmp_path / "models").exists()


def shipped_with(other, threshold, monkeypatch):
    """`other` as the packaged model, with a calibration."""
    write_calibration(other.folder, {"model_id": other.model_id, "threshold": threshold, "pairs": 7})
    monkeypatch.setattr(models, "_PACKAGED", other.folder)
    return load_card(other.folder)


def test_the_calibration_of_a_later_release_counts_where_the_user_made_none(tmp_path, other, monkeypatch):
    folder = keep_model(shipped_with(other, 0.7, monkeypatch), tmp_path / "models")
    shipped_with(other, 0.8, monkeypatch)
    assert find_model(other.model_id, tmp_path / "models").near_threshold == 0.8
    assert chosen_model(tmp_path / "models").near_threshold == 0.8
    write_calibration(folder, {"model_id": other.model_id, "threshold": 0.75})
    store = tmp_path / "models"
    for found in (find_model(other.model_id, store), chosen_model(store), resolve("default", store)):
        assert found.near_threshold == 0.75
    assert resolve(other.name, store).near_threshold == 0.75


def test_a_copy_keeps_the_shipped_calibration_when_the_package_moves_on(tmp_path, other, monkeypatch):
    with monkeypatch.context() as release:
        folder = keep_model(shipped_with(other, 0.7, release), tmp_path / "models")
    assert default_model().model_id != other.model_id
    assert find_model(other.model_id, tmp_path / "models").near_threshold == 0.7
    assert json.loads((folder / "calibration.json").read_text())["pairs"] == 7
    # Whoever imports that folder elsewhere takes the calibration along.
    assert load_card(keep_model(load_card(folder), tmp_path / "elsewhere")).near_threshold == 0.7


def test_keeping_twice_writes_once(tmp_path, other):
    folder = keep_model(other, tmp_path / "models")
    before = (folder / "model.onnx").stat()
    assert keep_model(other, tmp_path / "models") == folder
    assert (folder / "model.onnx").stat() == before
    assert [path.name for path in (tmp_path / "models").iterdir()] == [other.model_id]


def test_a_copy_that_fails_half_way_leaves_nothing_behind(tmp_path, other, monkeypatch):
    real = models.copy_file

    def failing(source: Path, target: Path) -> None:
        if source.name == "tokenizer.json":
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(models, "copy_file", failing)
    with pytest.raises(UsageError, match="No space left"):
        keep_model(other, tmp_path / "models")
    assert list((tmp_path / "models").iterdir()) == []


def test_losing_the_race_to_keep_a_model_is_no_error(tmp_path, other, monkeypatch):
    store = tmp_path / "models"
    real = models.copy_file

    def slow(source: Path, target: Path) -> None:
        real(source, target)
        if source.name == "card.json":
            shutil.copytree(other.folder, store / other.model_id)

    monkeypatch.setattr(models, "copy_file", slow)
    assert keep_model(other, store) == store / other.model_id
    assert [path.name for path in store.iterdir()] == [other.model_id]


def test_an_unknown_model_is_not_found(tmp_path):
    assert find_model(OTHER_ID, tmp_path) is None


@pytest.mark.parametrize("model_id", ["../other", "", ".", "a/b", OTHER_ID.upper() + "X"])
def test_an_id_that_is_no_hash_leads_nowhere(tmp_path, other, model_id):
    assert other.folder.is_dir()
    store = tmp_path / "models"
    store.mkdir()
    assert find_model(model_id, store) is None


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "card.json"])
def test_a_missing_file_is_named(tmp_path, other, name):
    folder = keep_model(other, tmp_path)
    (folder / name).unlink()
    with pytest.raises(DamagedError, match=name) as caught:
        find_model(other.model_id, tmp_path)
    assert str(folder) in caught.value.message
    assert "reindex" in caught.value.hint


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model_id": 5}', "\xff"])
def test_a_card_that_makes_no_sense_is_damage(other, content):
    (other.folder / "card.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(DamagedError, match=r"card\.json"):
        load_card(other.folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"dim": 0},
        {"max_tokens": -1},
        {"near_threshold": 1.5},
        {"pooling": "attention"},
        {"normalise": "none"},
        {"pad_id": "0"},
        {"special_tokens": 1},
        {"data_files": ["../weights"]},
        {"data_files": ["/etc/passwd"]},
        {"data_files": "weights"},
    ],
)
def test_a_card_with_settings_that_cannot_be_is_damage(other, changes):
    edit_card(other.folder, **changes)
    with pytest.raises(DamagedError, match=r"card\.json"):
        load_card(other.folder)


def test_settings_that_older_cards_do_not_know_change_the_id_only_where_they_say_something(other):
    usual = {"special_tokens": False, "pad_id": 0, "skipped_id": -1, "lower_case": False}
    edit_card(other.folder, **usual, query_prompt="", passage_prompt="")
    assert compute_model_id(other.folder) == other.model_id
    seen = {other.model_id}
    for changes in ({"special_tokens": True}, {"pad_id": 1}, {"skipped_id": 0}, {"lower_case": True}):
        edit_card(other.folder, **(usual | changes))
        seen.add(compute_model_id(other.folder))
    edit_card(other.folder, **usual, query_prompt="query: ")
    seen.add(compute_model_id(other.folder))
    edit_card(other.folder, query_prompt="", passage_prompt="query: ")
    seen.add(compute_model_id(other.folder))
    assert len(seen) == 7


def test_a_folder_that_holds_another_model_is_damage(tmp_path, other):
    shutil.copytree(other.folder, tmp_path / OTHER_ID)
    with pytest.raises(DamagedError, match=other.model_id):
        find_model(OTHER_ID, tmp_path)


def test_finding_models_imports_nothing_heavy():
    code = "import sys; from memcli.embed.models import default_model; default_model(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "onnxruntime", "tokenizers", "onnx"} & set(done.stdout.split())
