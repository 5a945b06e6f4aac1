"""The teacher: a sentence transformer as ONNX, and its vectors of many texts, kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from memcli.embed.models import MODEL_FILE, TOKENIZER_FILE
from memcli.errors import DamagedError, UsageError
from memcli.text import digest
from memcli.workers import workers

if TYPE_CHECKING:
    from numpy.typing import NDArray

_EXACT = (f"onnx/{MODEL_FILE}", MODEL_FILE)
# The int8 file comes first: it is several times as fast, and its rounding is noise, much of which learning averages
# out.
_GRAPHS = ("onnx/model_qint8.onnx", *_EXACT)
_MAX_TOKENS = 128
_BATCH = 64
_SHARD = 8192


class Teacher:
    """A BERT-like model folder in the sentence-transformers layout, pooled by mean or by its first token.

    Of an int8 and a float32 graph it takes the int8 one; `exact` gives the other. Raises UsageError when a file is
    missing, DamagedError when one cannot be loaded or is of another kind.
    """

    def __init__(self, folder: Path, graphs: Sequence[str] = _GRAPHS) -> None:
        source = folder / TOKENIZER_FILE
        graph = next((folder / name for name in graphs if (folder / name).is_file()), None)
        if graph is None or not source.is_file():
            raise UsageError(f"{folder}: no {MODEL_FILE} or no {TOKENIZER_FILE} there", "name the teacher's folder")
        self.folder = folder
        self.graph = graph
        self.vocabulary = _word_pieces(source)
        try:
            self._tokenizer = Tokenizer.from_file(str(source))
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = workers()
            self._session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # neither package has a class of its own for it
            raise DamagedError(f"{folder}: not a model that can be loaded: {error}", "name another teacher") from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(_MAX_TOKENS)
        self._inputs = [node.name for node in self._session.get_inputs()]
        self._first_token = _pools_first_token(folder)
        self.hash = digest(
            hashlib.blake2b(graph.read_bytes()).hexdigest(),
            hashlib.blake2b(source.read_bytes()).hexdigest(),
            f"{self._first_token}/{_MAX_TOKENS}/{_BATCH}",
        ).hex()

    def exact(self) -> Teacher:
        """The same teacher without int8 rounding; itself when its folder has no other graph. Raises as loading does."""
        others = {self.folder / name for name in _EXACT} - {self.graph}
        return Teacher(self.folder, _EXACT) if any(other.is_file() for other in others) else self

    def embed(self, texts: Sequence[str], cache: Path, report: Callable[[int], None]) -> NDArray[np.float16]:
        """Return one unit-length row per text, in order, from files in `cache` as far as they are there.

        `report` hears how many are done. Texts of like length are computed together and kept by what they are, so
        that an interrupted run goes on where it stopped. Raises UsageError when the folder cannot be written.
        """
        lengths = [len(ids) for ids in self._encode(texts)]
        order = np.argsort(lengths, kind="stable")
        try:
            cache.mkdir(parents=True, exist_ok=True)
            shards = []
            for start in range(0, len(order), _SHARD):
                members = [texts[at] for at in order[start : start + _SHARD]]
                shards.append(self._shard(members, cache))
                report(start + len(members))
        except OSError as error:
            raise UsageError(f"cannot write {cache}: {error.strerror}", "name another folder with --cache") from error
        sorted_rows = np.concatenate(shards)
        result = np.empty_like(sorted_rows)
        result[order] = sorted_rows
        return result

    def _shard(self, texts: list[str], cache: Path) -> NDArray[np.float16]:
        path = cache / f"{digest(self.hash, *texts).hex()}.npy"
        if path.is_file():
            kept: NDArray[np.float16] = np.load(path)
            return kept
        encoded = self._encode(texts)
        starts = range(0, len(texts), _BATCH)
        rows = np.concatenate([self._run(encoded[start : start + _BATCH]) for start in starts])
        draft = path.with_suffix(".tmp")
        with draft.open("wb") as out:
            np.save(out, rows)
        draft.replace(path)
        return rows

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        encoded: list[list[int]] = []
        for start in range(0, len(texts), _SHARD):
            encoded += [each.ids for each in self._tokenizer.encode_batch_fast(list(texts[start : start + _SHARD]))]
        return encoded

    def _run(self, rows: list[list[int]]) -> NDArray[np.float16]:
        ids = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
        mask = np.zeros_like(ids)
        for at, row in enumerate(rows):
            ids[at, : len(row)] = row
            mask[at, : len(row)] = 1
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = self._session.run(None, {name: feeds[name] for name in self._inputs})[0]
        if self._first_token:
            pooled = hidden[:, 0]
        else:
            pooled = (hidden * mask[..., None]).sum(axis=1) / np.maximum(mask.sum(axis=1), 1)[:, None]
        lengths = np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-9)
        unit: NDArray[np.float16] = (pooled / lengths).astype(np.float16)
        return unit


def _word_pieces(path: Path) -> list[str]:
    """The teacher's vocabulary by id."""
    try:
        model = json.loads(path.read_bytes())["model"]
        if model["type"] != "WordPiece":
            raise UsageError(
                f"{path}: its tokenizer is {model['type']}, not WordPiece", "take a teacher of the BERT family"
            )
        vocabulary: dict[str, int] = model["vocab"]
        return sorted(vocabulary, key=lambda token: vocabulary[token])
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{path}: not a tokenizer", "name another teacher") from error


def _pools_first_token(folder: Path) -> bool:
    path = folder / "1_Pooling" / "config.json"
    try:
        return bool(json.loads(path.read_bytes()).get("pooling_mode_cls_token")) if path.is_file() else False
    except (ValueError, AttributeError) as error:
        raise DamagedError(f"{path}: not a pooling configuration", "name another teacher") from error
