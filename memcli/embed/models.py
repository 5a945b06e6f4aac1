"""Where embedding models live and what identifies them. No model is loaded here and nothing heavy is imported."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from memcli.errors import DamagedError, UsageError
from memcli.files import make_private_folder, write_private
from memcli.text import digest

MODEL_FILE = "model.onnx"
TOKENIZER_FILE = "tokenizer.json"
CARD_FILE = "card.json"
CALIBRATION_FILE = "calibration.json"

IN_GRAPH = "in-graph"
POOLINGS = (IN_GRAPH, "mean", "cls", "max", "last")
UNIT_LENGTH = "l2"

_FILES = (MODEL_FILE, TOKENIZER_FILE, CARD_FILE)
# What a card need not say, and what that means. Only what differs from it enters the hash, so that the ids of models
# whose cards know nothing of a setting stay what they are.
_OPTIONAL: dict[str, object] = {
    "special_tokens": False,
    "pad_id": 0,
    "skipped_id": -1,
    "lower_case": False,
    "query_prompt": "",
    "passage_prompt": "",
}
_SHIPPED = "shipped"  # in a calibration: it came with the model
_SEAL = "hash"
_DRAFT = ".model-"
_DRAFT_SECONDS = 24 * 3600
_PACKAGED = Path(__file__).parent / "default"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_MODEL_ID = re.compile(r"[0-9a-f]{32}")
_HINT = "import or pull the model again, or reinstall memcli; `memcli reindex --model default` moves to another model"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model's texts become token ids, and what its graph says of them one vector.

    `pooling` is one of POOLINGS; `normalise` is "in-graph" or "l2". `special_tokens` says that the tokenizer adds its
    own, as transformers want it; `pad_id` fills up shorter texts, `skipped_id` is a token that is left out (-1: none).
    The prompts are put before queries and before the texts that are searched.
    """

    pooling: str = IN_GRAPH
    normalise: str = IN_GRAPH
    special_tokens: bool = False
    pad_id: int = 0
    skipped_id: int = -1
    lower_case: bool = False
    query_prompt: str = ""
    passage_prompt: str = ""

    @property
    def is_static(self) -> bool:
        """Whether the model is a table of token vectors and no transformer, as far as the card tells."""
        return self.pooling == IN_GRAPH and not self.special_tokens


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """An embedding model on disk and what its card says.

    `near_threshold` is the cosine from which two texts may be near duplicates under this model; `max_tokens` is where
    a text is cut off, special tokens included. `data_files` lie beside the graph and hold weights of it.
    """

    folder: Path
    model_id: str
    name: str
    dim: int
    near_threshold: float
    max_tokens: int
    recipe: Recipe = Recipe()
    data_files: tuple[str, ...] = ()


def default_model() -> ModelFiles:
    """Return the model that ships inside the package."""
    return load_card(_PACKAGED)


def find_model(model_id: str, store_dir: Path) -> ModelFiles | None:
    """Find the model of that id: a copy in `store_dir` that the user calibrated, else the packaged one, else any copy.

    None where there is none. A calibration that came with the model counts only once the package has another one: a
    later release may ship a better calibration. Raises DamagedError when the folder is there but is not that model.
    """
    packaged, folder = default_model(), store_dir / model_id
    if packaged.model_id == model_id and not _is_calibrated_by_user(folder):
        return packaged
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
    written, DamagedError when the files are not the model that their card names.
    """
    target = store_dir / files.model_id
    if target.is_dir():
        return target
    if (found := compute_model_id(files.folder)) != files.model_id:
        raise DamagedError(f"{files.folder}: its content is model {found}, not {files.model_id}", _HINT)
    with drafts(store_dir) as draft:
        for name in (*_FILES, *files.data_files):
            copy_file(files.folder / name, draft / name)
        if (files.folder / CALIBRATION_FILE).is_file():
            _write_json(draft / CALIBRATION_FILE, _read_calibration(files.folder) | {_SHIPPED: True})
        move_folder(draft, target)
    return target


@contextmanager
def drafts(store_dir: Path | None) -> Iterator[Path]:
    """A new folder in `store_dir` (None: elsewhere) to put a model together in; gone at the end, unless it was moved.

    Raises:
        UsageError: the folder cannot be written.
    """
    try:
        if store_dir is not None:
            make_private_folder(store_dir)
            _sweep(store_dir)
        draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=store_dir))
        try:
            yield draft
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise UsageError(
            f"cannot keep the embedding model in {store_dir or tempfile.gettempdir()}: {error}", "make it writable"
        ) from error


def _sweep(store_dir: Path) -> None:
    """Delete what a killed process left of a model; what is younger may still be at work."""
    for path in store_dir.glob(f"{_DRAFT}*"):
        if time.time() - path.stat().st_mtime > _DRAFT_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


def compute_model_id(folder: Path) -> str:
    """Return the content hash of the model in `folder`, 32 hex digits.

    It covers the graph, the tokenizer and the card's settings that change vectors; names, scores and thresholds may
    change without making another model of it.
    """
    card = _read_card(folder)
    parts = [_hash(folder / name) for name in (MODEL_FILE, TOKENIZER_FILE, *_data_files(card))]
    settings = [f"{key}={card[key]}" for key in ("pooling", "normalise", "max_tokens")]
    settings += [f"{key}={card[key]}" for key, usual in _OPTIONAL.items() if card.get(key, usual) != usual]
    return digest(*parts, *settings).hex()


def is_whole(folder: Path) -> bool:
    """Whether a folder of the data folder holds the very model that it is named after."""
    try:
        return folder.name == load_card(folder).model_id == compute_model_id(folder)
    except DamagedError:
        return False


def sealed(document: Mapping[str, object]) -> dict[str, object]:
    """A card or a calibration with the hash of what it says, by which `faults` knows it again."""
    rest = {key: value for key, value in document.items() if key != _SEAL}
    return rest | {_SEAL: digest(json.dumps(rest, sort_keys=True)).hex()}


def faults(files: ModelFiles) -> list[str]:
    """What of the files of a model is not as its id and its hashes say; the graph is read to its end."""
    wrong = []
    try:
        if compute_model_id(files.folder) != files.model_id:
            wrong.append(f"the files are not those of model {files.model_id}")
        for name in (CARD_FILE, CALIBRATION_FILE):
            if name == CARD_FILE or (files.folder / name).is_file():
                document = json.loads(_read(files.folder / name))
                # What an earlier memcli wrote has no hash.
                if not isinstance(document, dict) or document.get(_SEAL, "") not in {"", sealed(document)[_SEAL]}:
                    wrong.append(f"{name} is not what was written")
    except (DamagedError, ValueError) as error:
        wrong.append(str(error))
    return wrong


def load_card(folder: Path) -> ModelFiles:
    """Read the card of the model in `folder`. Raises DamagedError when a file is missing or the card makes no sense."""
    card = _read_card(folder)
    if card["pooling"] not in POOLINGS or card["normalise"] not in {IN_GRAPH, UNIT_LENGTH}:
        raise DamagedError(
            f"{folder / CARD_FILE}: pooling {card['pooling']!r} with normalisation {card['normalise']!r} is not known",
            "upgrade memcli, or " + _HINT,
        )
    if (
        min(int(str(card[key])) for key in ("dim", "max_tokens")) < 1
        or not 0 <= float(str(card["near_threshold"])) <= 1
    ):
        raise DamagedError(f"{folder / CARD_FILE}: a dimension, length or threshold that cannot be", _HINT)
    data_files = _data_files(card)
    for name in (*_FILES, *data_files):
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
        recipe=Recipe(
            str(card["pooling"]),
            str(card["normalise"]),
            **{key: card.get(key, usual) for key, usual in _OPTIONAL.items()},  # type: ignore[arg-type]
        ),
        data_files=data_files,
    )


def write_calibration(folder: Path, document: Mapping[str, object]) -> Path:
    """Put a calibration beside the card in `folder`, at once; its `threshold` then counts instead of the card's.

    `document` names the `model_id` it was made with; a calibration of another model is not heeded. Raises UsageError
    when it cannot be written.
    """
    path = folder / CALIBRATION_FILE
    temporary = path.with_suffix(".tmp")
    try:
        write_private(temporary, json.dumps(sealed(document), indent=2) + "\n")
        temporary.replace(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error}", "make the model's folder writable") from error
    return path


def _calibrated(folder: Path, model_id: str) -> float | None:
    """Return the near threshold of a calibration of that model, None when there is none."""
    if not (folder / CALIBRATION_FILE).is_file():
        return None
    found = _read_calibration(folder)
    threshold = float(str(found["threshold"]))
    return threshold if found["model_id"] == model_id and 0 <= threshold <= 1 else None


def _is_calibrated_by_user(folder: Path) -> bool:
    """Whether the calibration of a copy in the data folder was made there, and not copied with the model."""
    return (folder / CALIBRATION_FILE).is_file() and _SHIPPED not in _read_calibration(folder)


def _read_calibration(folder: Path) -> dict[str, object]:
    path = folder / CALIBRATION_FILE
    try:
        found = json.loads(_read(path))
        return {**found, "threshold": float(found["threshold"]), "model_id": str(found["model_id"])}
    except (ValueError, TypeError, KeyError) as error:
        raise DamagedError(f"{path}: no calibration", "make it again: memcli dedup --calibrate PAIRS.jsonl") from error


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
    for key, usual in _OPTIONAL.items():
        if type(card.get(key, usual)) is not type(usual):
            raise DamagedError(f"{path}: the model card has no valid {key!r}", _HINT)
    names = card.get("data_files", [])
    if not isinstance(names, list) or not all(isinstance(each, str) and _PLAIN_NAME.fullmatch(each) for each in names):
        raise DamagedError(f"{path}: the model card has no valid 'data_files'", _HINT)
    result: dict[str, object] = card
    return result


def _data_files(card: dict[str, object]) -> tuple[str, ...]:
    names = card.get("data_files", ())
    return tuple(names) if isinstance(names, list) else ()


def _hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        raise DamagedError(f"{path}: the model file cannot be read: {error.strerror}", _HINT) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DamagedError(f"{path}: the model file cannot be read: {error.strerror}", _HINT) from error


def copy_file(source: Path, target: Path) -> None:
    """Copy a file of a model into a draft, durably and for its owner only. Raises OSError."""
    with source.open("rb") as content, _durable(target) as out:
        shutil.copyfileobj(content, out, 1 << 20)


def write_card(draft: Path, card: dict[str, object]) -> None:
    """Write the card of the files in `draft`, with the id that they and it have. Raises OSError."""
    _write_json(draft / CARD_FILE, card | {"model_id": ""})
    _write_json(draft / CARD_FILE, card | {"model_id": compute_model_id(draft)})


def _write_json(path: Path, document: dict[str, object]) -> None:
    path.unlink(missing_ok=True)
    with _durable(path) as out:
        out.write((json.dumps(sealed(document), indent=2, ensure_ascii=False) + "\n").encode())


@contextmanager
def _durable(target: Path) -> Iterator[BinaryIO]:
    """A new file for its owner only, on the disk when it is left: a rename must not get there before the bytes do."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        yield out
        out.flush()
        os.fsync(out.fileno())


def move_folder(draft: Path, target: Path) -> None:
    """Give a finished draft its name. Raises OSError."""
    try:
        draft.replace(target)
    except OSError:
        if not target.is_dir():  # another process kept the same model first: equally good
            raise
