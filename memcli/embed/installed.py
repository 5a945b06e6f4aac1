"""The models in the data folder: which there are, what a name means, which one new databases take. Nothing heavy."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from pathlib import Path

from memcli.embed.models import CARD_FILE, ModelFiles, default_model, find_model, load_card
from memcli.errors import DamagedError, UsageError

DEFAULT = "default"
_CHOICE = "chosen"
_MODEL_ID = re.compile(r"[0-9a-f]{32}")
_ID_PREFIX = re.compile(r"[0-9a-f]{4,32}")
_HINT = "memcli model list shows the models that are here; memcli model pull and import bring others"


def installed(store_dir: Path) -> tuple[list[ModelFiles], list[str]]:
    """The models of the data folder by name, the packaged one first, and what is wrong with folders that hold none."""
    packaged = default_model()
    found, problems = [], []
    for folder in sorted(store_dir.iterdir()) if store_dir.is_dir() else []:
        if not _MODEL_ID.fullmatch(folder.name) or folder.name == packaged.model_id:
            continue
        try:
            files = find_model(folder.name, store_dir)
        except DamagedError as error:
            problems.append(error.message)
            continue
        if files is not None:
            found.append(files)
    return [packaged, *sorted(found, key=lambda each: (each.name, each.model_id))], problems


def packaged_model(store_dir: Path) -> ModelFiles:
    """The packaged model, or the copy of it that the user has calibrated."""
    packaged = default_model()
    return find_model(packaged.model_id, store_dir) or packaged


def resolve(name: str, store_dir: Path) -> ModelFiles:
    """The model that a user means: "default", the name of an installed model, the start of an id, or a model folder.

    Raises:
        UsageError: there is no such model, or more than one.
        DamagedError: its folder is damaged.
    """
    if name == DEFAULT:
        return packaged_model(store_dir)
    if not name.strip():
        raise UsageError("the model's name is empty", _HINT)
    models, _ = installed(store_dir)
    named = [each for each in models if each.name == name]
    matching = named or [each for each in models if _ID_PREFIX.fullmatch(name) and each.model_id.startswith(name)]
    if len(matching) > 1:
        listed = ", ".join(each.model_id for each in matching)
        raise UsageError(f"{name} can be each of the models {listed}", "name one by the start of its id")
    if matching:
        return find_model(matching[0].model_id, store_dir) or matching[0]
    folder = Path(name).expanduser()
    if (folder / CARD_FILE).is_file():
        return load_card(folder)
    if folder.is_dir() and not any(found for pattern in ("*.onnx", "*/*.onnx") for found in folder.glob(pattern)):
        raise UsageError(
            f"{name} is no model folder: there is neither {CARD_FILE} nor an ONNX file",
            "a model has model.onnx or onnx/model.onnx, and tokenizer.json; memcli model list shows what is here",
        )
    if folder.is_dir():
        raise UsageError(f"{name} is no model folder of memcli: there is no {CARD_FILE}", f"memcli model import {name}")
    raise UsageError(f"there is no model {name}", _HINT)


def chosen_model(store_dir: Path) -> ModelFiles:
    """The model that new databases take: the one of `memcli model use`, else the packaged one.

    Raises:
        DamagedError: the chosen one is not there any more.
    """
    try:
        model_id = (store_dir / _CHOICE).read_text(encoding="ascii").strip()
    except (FileNotFoundError, NotADirectoryError):
        return packaged_model(store_dir)
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedError(f"{store_dir / _CHOICE}: cannot be read: {error}", "memcli model use default") from error
    files = find_model(model_id, store_dir)
    if files is None:
        raise DamagedError(f"the model {model_id[:64]} that new databases take is not in {store_dir}", _HINT)
    return files


def choose_model(files: ModelFiles, store_dir: Path) -> None:
    """Make `files`, which is kept in `store_dir`, the model that new databases take.

    Raises:
        UsageError: the folder cannot be written.
    """
    try:
        if files.model_id == default_model().model_id:
            (store_dir / _CHOICE).unlink(missing_ok=True)
            return
        descriptor, draft = tempfile.mkstemp(prefix=f".{_CHOICE}-", dir=store_dir)
        with os.fdopen(descriptor, "w", encoding="ascii") as out:
            out.write(f"{files.model_id}\n")
        Path(draft).replace(store_dir / _CHOICE)
    except OSError as error:
        raise UsageError(f"cannot write {store_dir / _CHOICE}: {error.strerror}", "make it writable") from error


def remove_model(files: ModelFiles, store_dir: Path) -> None:
    """Delete an installed model: at once out of the way, then for good.

    Raises:
        UsageError: the folder cannot be written.
    """
    try:
        aside = Path(tempfile.mkdtemp(prefix=".model-", dir=store_dir))
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, aside, ignore_errors=True)
            files.folder.rename(aside / files.model_id)
    except OSError as error:
        raise UsageError(f"cannot remove {files.folder}: {error.strerror}", "make the folder writable") from error


def size_of(files: ModelFiles) -> int:
    """Bytes of a model's folder."""
    return sum(path.stat().st_size for path in files.folder.iterdir() if path.is_file())
