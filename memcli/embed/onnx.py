"""The embedder on onnxruntime and tokenizers: texts to unit vectors, in fixed-size batches within length buckets."""

from __future__ import annotations

import os
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from memcli.embed.models import MODEL_FILE, TOKENIZER_FILE, ModelFiles, compute_model_id
from memcli.errors import DamagedError
from memcli.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

# Saying it aloud keeps the tokenizers' threads on and silences their warning when a child process is started later.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

BUCKETS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)

_TOKENIZE_AT_ONCE = 2048  # bounds the tokenizer's working memory, whatever the number of texts
_INPUTS = {"input_ids", "attention_mask"}
_OUTPUT = "embedding"
_HINT = "reinstall memcli, or restore the model's folder from a backup"
_ERRORS_ONLY = 3


class OnnxEmbedder:
    """Embeds with an ONNX graph of inputs input_ids and attention_mask and output `embedding`, pooled in the graph.

    `batch_size` is the number of texts per graph run, `threads` those of onnxruntime (None: one, since a static model
    waits for the tokenizer and not for the graph). Raises DamagedError when the files are not the model that their
    card names or cannot be loaded.
    """

    def __init__(self, files: ModelFiles, batch_size: int = 64, threads: int | None = None) -> None:
        found = compute_model_id(files.folder)
        if found != files.model_id:
            raise DamagedError(f"{files.folder}: its content is model {found}, not {files.model_id}", _HINT)
        self.model_id = files.model_id
        self.dim = files.dim
        self._batch_size = batch_size
        self._max_tokens = files.max_tokens
        self._buckets = np.array([*(size for size in BUCKETS if size < files.max_tokens), files.max_tokens])
        self._tokenizer = _load_tokenizer(files.folder / TOKENIZER_FILE)
        self._session = _load_session(files.folder / MODEL_FILE, threads or 1)
        _check_signature(self._session, files)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one unit-length row per text, in order, shape (len(texts), dim), float32.

        A text's row depends on nothing but the text: it is padded to the bucket of its own length. A text without any
        token has the zero row. Texts are cut off at the model's `max_tokens`.
        """
        result = np.zeros((len(texts), self.dim), dtype=np.float32)
        for start in range(0, len(texts), _TOKENIZE_AT_ONCE):
            rows = self._tokenize(texts[start : start + _TOKENIZE_AT_ONCE])
            for members, ids, mask in self._batches(rows):
                feeds = {"input_ids": ids, "attention_mask": mask}
                result[start + members] = self._session.run([_OUTPUT], feeds)[0]
        return result

    def _tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        encodings = self._tokenizer.encode_batch_fast([clean(text) for text in texts], add_special_tokens=False)
        return [encoding.ids[: self._max_tokens] for encoding in encodings]

    def _batches(
        self, rows: list[list[int]]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
        """Yield (positions, padded ids, mask) per batch; the positions are the texts' places among `rows`."""
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        order = np.argsort(lengths, kind="stable")
        order = order[np.count_nonzero(lengths == 0) :]
        edges = np.searchsorted(lengths[order], self._buckets, side="right")
        begin = 0
        for bucket, end in zip(self._buckets, edges, strict=True):
            for first in range(begin, end, self._batch_size):
                members = order[first : min(first + self._batch_size, end)]
                mask = np.arange(bucket) < lengths[members, None]
                ids = np.zeros(mask.shape, dtype=np.int64)
                ids[mask] = np.fromiter(chain.from_iterable(rows[member] for member in members), dtype=np.int64)
                yield members, ids, mask.astype(np.int64)
            begin = end


def _load_tokenizer(path: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the tokenizers package raises nothing narrower
        raise DamagedError(f"{path}: not a tokenizer: {error}", _HINT) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _load_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Waiting threads would spin and take the processor from the tokenizer's.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes have no public name and no common base
        raise DamagedError(f"{path}: not a graph that onnxruntime can load: {error}", _HINT) from error


def _check_signature(session: onnxruntime.InferenceSession, files: ModelFiles) -> None:
    inputs = {node.name for node in session.get_inputs()}
    shapes = {node.name: node.shape for node in session.get_outputs()}
    if inputs != _INPUTS or _OUTPUT not in shapes or shapes[_OUTPUT][1:] != [files.dim]:
        raise DamagedError(
            f"{files.folder / MODEL_FILE}: inputs {sorted(inputs)} and outputs {shapes}, where input_ids, "
            f"attention_mask and {_OUTPUT} of {files.dim} columns are needed",
            _HINT,
        )
