"""Where embedding models live and what identifies them. No model is loaded here and nothing heavy is imported."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from memcli.errors import DamagedError, UsageError
from memcli.text import digest

MODEL_FILE = "model.onnx"
TOKENIZER_FILE = "tokenizer.json"
CARD_FILE = "card.json"
CALIBRATION_FILE = "calibration.json"

_FILES = (MODEL_FILE, TOKENIZER_FILE, CARD_FILE)
_PACKAGED = Path(__file__).parent / "default"
_MODEL_ID = re.compile(r"[0-9a-f]{32}")
_HINT = "reinstall memcli, or restore the folder from a backup; `memcli reindex --model default` moves to another model"


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """An embedding model on disk and what its card says.

    `near_threshold` is the cosine from which two texts may be near duplicates under this model; `max_tokens` is where
    a text is cut off.
    """

    folder: Path
    model_id: str
    name: str
    dim: int
    near_threshold: float
    max_tokens: int


def default_model() -> ModelFiles:
    """Return the model that ships inside the package."""
    return load_card(_PACKAGED)


def find_model(model_id: str, store_dir: Path) -> ModelFiles | None:
    """Find the model of that id: the packaged one, else the copy in `store_dir`; None when neither is it.

    Raises DamagedError when the folder is there but is not that model.
    """
    packaged = default_model()
    if packaged.model_id == model_id:
        return packaged
    folder = store_dir / model_id
    # The id comes from a database: it must not lead out of `store_dir`.
    if not _MODEL_ID.fullmatch(model_id) or not folder.is_dir():
        return None
    found = load_card(folder)
    if found.model_id != model_id:
        raise DamagedError(f"{folder / CARD_FILE}: the card is of model {found.model_id}, not of {model_id}", _HINT)
    return found


def keep_model(files: ModelFiles, store_dir: Path) -> Path:
    """Copy the model into `store_dir/<model_id>/` and return that folder; nothing is copied when it is there.

    The folder appears complete or not at all, whatever happens meanwhile. Raises UsageError when it cannot be
    written.
    """
    target = store_dir / files.model_id
    if target.is_dir():
        return target
    try:
        store_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".model-", dir=store_dir))
        try:
            for name in _FILES:
                _copy(files.folder / name, temporary / name)
            if (files.folder / CALIBRATION_FILE).is_file():
                _copy(files.folder / CALIBRATION_FILE, temporary / CALIBRATION_FILE)
            _move(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise UsageError(f"cannot keep the embedding model in {store_dir}: {error}", "make it writable") from error
    return target


def compute_model_id(folder: Path) -> str:
    """Return the content hash of the model in `folder`, 32 hex digits.

    It covers the graph, the tokenizer and the card's settings that change vectors; names, scores and thresholds may
    change without making another model of it.
    """
    card = _read_card(folder)
    parts = [hashlib.blake2b(_read(folder / name), digest_size=16).hexdigest() for name in (MODEL_FILE, TOKENIZER_FILE)]
    settings = [f"{key}={card[key]}" for key in ("pooling", "normalise", "max_tokens")]
    return digest(*parts, *settings).hex()


def load_card(folder: Path) -> ModelFiles:
    """Read the card of the model in `folder`. Raises DamagedError when a file is missing or the card makes no sense."""
    card = _read_card(folder)
    for name in _FILES:
        if not (folder / name).is_file():
            raise DamagedError(f"{folder / name}: the model file is missing", _HINT)
    calibrated = _calibrated(folder, str(card["model_id"]))
    return ModelFiles(
        folder=folder,
        model_id=str(card["model_id"]),
        name=str(card["name"]),
        dim=int(str(card["dim"])),
        near_threshold=calibrated if calibrated is not None else float(str(card["near_threshold"])),
        max_tokens=int(str(card["max_tokens"])),
    )


def write_calibration(folder: Path, document: Mapping[str, object]) -> Path:
    """Put a calibration beside the card in `folder`, at once; its `threshold` then counts instead of the card's.

    `document` names the `model_id` it was made with; a calibration of another model is not heeded. Raises UsageError
    when it cannot be written.
    """
    path = folder / CALIBRATION_FILE
    temporary = path.with_suffix(".tmp")
    try:
        temporary.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error}", "make the model's folder writable") from error
    return path


def _calibrated(folder: Path, model_id: str) -> float | None:
    """Return the near threshold of a calibration of that model, None when there is none."""
    path = folder / CALIBRATION_FILE
    if not path.is_file():
        return None
    try:
        found = json.loads(_read(path))
        threshold, made_for = float(found["threshold"]), found["model_id"]
    except (ValueError, TypeError, KeyError) as error:
        raise DamagedError(f"{path}: no calibration", "make it again: memcli dedup --calibrate PAIRS.jsonl") from error
    return threshold if made_for == model_id and 0 <= threshold <= 1 else None


def _read_card(folder: Path) -> dict[str, object]:
    path = folder / CARD_FILE
    kinds = {"dim": int, "max_tokens": int, "near_threshold": float}
    kinds |= dict.fromkeys(("model_id", "name", "pooling", "normalise"), str)
    try:
        card = json.loads(_read(path))
    except ValueError as error:
        raise DamagedError(f"{path}: the model card is not JSON: {error}", _HINT) from error
    for key, kind in kinds.items():
        if not isinstance(card, dict) or not isinstance(card.get(key), kind):
            raise DamagedError(f"{path}: the model card has no valid {key!r}", _HINT)
    result: dict[str, object] = card
    return result


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DamagedError(f"{path}: the model file cannot be read: {error.strerror}", _HINT) from error


def _copy(source: Path, target: Path) -> None:
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(_read(source))
        out.flush()
        os.fsync(out.fileno())  # the rename must not reach the disk before the bytes do


def _move(temporary: Path, target: Path) -> None:
    try:
        temporary.replace(target)
    except OSError:
        if not target.is_dir():  # another process kept the same model first: equally good
            raise
