"""The embedder on onnxruntime and tokenizers: texts to unit vectors, in fixed-size batches within length buckets."""

from __future__ import annotations

import os
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from memcli.embed.graph import check_graph, read_graph
from memcli.embed.models import IN_GRAPH, MODEL_FILE, TOKENIZER_FILE, UNIT_LENGTH, ModelFiles, compute_model_id
from memcli.embed.pooling import pooled, unit_rows
from memcli.embed.queue import SIZES, fastest_size, fill, size_within
from memcli.embed.room import BATCH_ROOM, check_room
from memcli.errors import DamagedError, MemcliError
from memcli.text import clean
from memcli.workers import workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

# Threads of ours share the texts out, which brings more than those of the tokenizers: what they do in Python is shared
# out, too. Saying it aloud also silences their warning when a child process is started later.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

BUCKETS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
LONG_BUCKETS = (768, 1024, 1536, 2048, 3072, 4096, 6144, 8192)

_USUAL_SIZE = 64
_WORTH_MEASURING = 512
# Texts that a thread tokenises together. It waits for the interpreter as long as another one collects their ids.
_PIECE = 256
# What a run of a transformer works on should stay in the processor's caches: with 4,096 tokens all-MiniLM-L6-v2 takes a
# fifth longer per text than with 512 to 1,024.
_TRANSFORMER_TOKENS = 1 << 10
_PADDED = frozenset({"input_ids", "attention_mask"})
_OPTIONAL_INPUTS = frozenset({"token_type_ids", "position_ids"})
_BAG = frozenset({"input_ids", "offsets"})
_SENTENCES = ("embedding", "sentence_embedding", "embeddings")
_TOKENS = ("last_hidden_state", "token_embeddings")
_INTEGERS = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
_HINT = "import or pull the model again; reinstall memcli if it is the packaged one"
_NO_LOG = 4  # an error is raised as well: the user need not see it twice
_MESSAGE = 400
_PARSED = 40  # bytes that a tokenizer takes while it is loaded, per byte of its file


class OnnxEmbedder:
    """Embeds with an ONNX graph: a table of token vectors, or a transformer whose token vectors are pooled here.

    The graph's inputs are input_ids and attention_mask, and token_type_ids and position_ids where it has them; or
    input_ids and offsets, the ids of all texts one after another. Its output is one vector per text (embedding,
    sentence_embedding, embeddings) or per token (last_hidden_state, token_embeddings), as the card's pooling says.

    `batch_size` is the number of texts per graph run, of long texts fewer in a transformer; None measures which is
    fastest, once there are enough texts. `tokenizer`, `session` and `output` are for measuring; `threads` are those of
    onnxruntime (None: all workers for a transformer, one for a static model, since that waits for the tokenizer and not
    for the graph). Raises DamagedError when the files are not the model that their card names or cannot be loaded.
    """

    at_once = 2048  # texts whose batches are filled together: bounds the working memory, whatever the number of texts

    def __init__(self, files: ModelFiles, batch_size: int | None = 64, threads: int | None = None) -> None:
        self.model_id = files.model_id
        self.dim = files.dim
        self._files = files
        self.recipe = files.recipe
        self._batch_size = batch_size
        self._most_tokens = None if files.recipe.is_static else _TRANSFORMER_TOKENS
        sizes = (size for size in (*BUCKETS, *LONG_BUCKETS) if size < files.max_tokens)
        self._buckets = np.array([*sizes, files.max_tokens])
        usual = 1 if files.recipe.is_static else workers()
        check_room(BATCH_ROOM + sum(_PARSED * each.stat().st_size for each in files.folder.glob(TOKENIZER_FILE)))
        threads = usual if threads is None else threads
        self.session, self.tokenizer = _in_turn(files, threads) if workers() == 1 else _at_once(files, threads)
        self._inputs = {node.name: _INTEGERS.get(node.type) for node in self.session.get_inputs()}
        self.output = _check_signature(self.session, files)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one unit-length row per text that will be searched, in order, shape (len(texts), dim), float32.

        A text's row depends on nothing but the text: it is padded to the bucket of its own length (bitwise so for a
        static model, within 1e-5 for a float32 transformer; a dynamically quantised one does not keep it). A text
        without any token of its own has the zero row. Texts are cut off at the model's `max_tokens`.
        """
        return self._embed(texts, self.recipe.passage_prompt)

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return rows as `embed` does, but for questions: some models want another prompt before those."""
        return self._embed(texts, self.recipe.query_prompt)

    def check_vocabulary(self) -> None:
        """Embed the tokenizer's last token. Raises DamagedError when the graph has no vector for it."""
        last = max(self.tokenizer.get_vocab(with_added_tokens=True).values())
        ids = np.zeros((1, int(self._buckets[0])), dtype=np.int64)
        mask = np.ones(ids.shape, dtype=np.bool_)
        self._run(ids, mask)  # a graph that cannot do this has another fault
        try:
            self._run(ids + last, mask)
        except DamagedError as error:
            tokenizer = self._files.folder / TOKENIZER_FILE
            raise DamagedError(f"{tokenizer}: its tokens go up to {last:,}, the graph's do not", _HINT) from error

    def stream(self, texts: Sequence[str], prompt: str = "") -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Yield (positions, unit rows) batch by batch, in the order in which they are done: short texts first.

        Positions of texts without any token of their own do not come up.
        """
        start = 0
        for rows in self._tokenized(texts, prompt):
            for places, ids, mask in self.batches(rows, prompt):
                yield start + places, self._run(ids, mask)
            start += len(rows)

    def _tokenized(self, texts: Sequence[str], prompt: str) -> Iterator[list[list[int]]]:
        """Yield the token ids of `at_once` texts after another; the next ones are made while these are used."""
        pieces = [texts[start : start + _PIECE] for start in range(0, len(texts), _PIECE)]
        together = self.at_once // _PIECE
        made = _in_threads(lambda piece: self.tokenize(piece, prompt), pieces, together)
        while rows := list(chain.from_iterable(islice(made, together))):
            yield rows

    def _embed(self, texts: Sequence[str], prompt: str) -> NDArray[np.float32]:
        result = np.zeros((len(texts), self.dim), dtype=np.float32)
        for places, rows in self.stream(texts, prompt):
            result[places] = rows
        return result

    def tokenize(self, texts: Sequence[str], prompt: str = "") -> list[list[int]]:
        """The token ids of each text, as the graph will see them."""
        check_room(BATCH_ROOM)
        recipe = self.recipe
        prepared = [prompt + clean(text) for text in texts] if prompt else list(map(clean, texts))
        if recipe.lower_case:
            prepared = [text.lower() for text in prepared]
        encodings = self.tokenizer.encode_batch_fast(prepared, add_special_tokens=recipe.special_tokens)
        rows = [encoding.ids for encoding in encodings]
        if recipe.skipped_id >= 0:
            rows = [[token for token in row if token != recipe.skipped_id] for row in rows]
        most = self._files.max_tokens
        return rows if max(map(len, rows), default=0) <= most else [row[:most] for row in rows]

    def batches(
        self, rows: list[list[int]], prompt: str = ""
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]]:
        """Yield (positions, padded ids, mask) per run of the graph; the positions are the texts' places in `rows`."""
        nothing = self.tokenize([""], prompt)[0]
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        short = np.flatnonzero(lengths == len(nothing))
        waiting = np.delete(np.arange(len(rows)), [place for place in short.tolist() if rows[place] == nothing])
        lengths = lengths[waiting]
        size = self._batch_size or self._measured_size(rows, waiting, lengths)
        for bucket, members in fill(lengths, self._buckets, size, self._most_tokens):
            places = waiting[members]
            yield places, *self._padded([rows[place] for place in places.tolist()], lengths[members], bucket)

    def _padded(
        self, rows: list[list[int]], lengths: NDArray[np.int64], bucket: int
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        mask = np.arange(bucket) < lengths[:, None]
        ids = np.full(mask.shape, self.recipe.pad_id, dtype=np.int64)
        ids[mask] = np.fromiter(chain.from_iterable(rows), dtype=np.int64)
        return ids, mask

    def _measured_size(self, rows: list[list[int]], waiting: NDArray[np.int64], lengths: NDArray[np.int64]) -> int:
        """The fastest batch size with the commonest length at hand; measured once, when there are enough texts."""
        if len(waiting) < _WORTH_MEASURING:
            return _USUAL_SIZE
        places = np.searchsorted(self._buckets, lengths)
        bucket = int(self._buckets[np.bincount(places).argmax()])
        common = np.flatnonzero(self._buckets[places] == bucket)

        def seconds(size: int) -> float:
            members = np.resize(common, size)
            ids, mask = self._padded([rows[place] for place in waiting[members].tolist()], lengths[members], bucket)
            began = time.perf_counter()
            self._run(ids, mask)
            return time.perf_counter() - began

        sizes = sorted({size_within(size, bucket, self._most_tokens) for size in SIZES})
        self._batch_size = fastest_size(seconds, sizes)
        return self._batch_size

    def _run(self, ids: NDArray[np.int64], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        """The vectors of padded token ids (n, length), shape (n, dim)."""
        try:
            output = self.session.run([self.output], self.feeds(ids, mask))[0]
        except MemcliError:
            raise
        except Exception as error:  # onnxruntime's own classes have no public name and no common base
            raise DamagedError(f"{self._files.folder / MODEL_FILE}: the graph fails: {_brief(error)}", _HINT) from error
        vectors: NDArray[np.float32] = output
        if self.recipe.pooling != IN_GRAPH:
            vectors = pooled(output, mask, self.recipe.pooling)
        if self.recipe.normalise == UNIT_LENGTH:
            vectors = unit_rows(vectors)
        if vectors.shape != (len(ids), self.dim) or not np.isfinite(vectors).all():
            given = f"rows of shape {vectors.shape} or numbers that are not finite"
            raise DamagedError(f"{self._files.folder / MODEL_FILE}: the graph gives {given}", _HINT)
        return vectors

    def feeds(self, ids: NDArray[np.int64], mask: NDArray[np.bool_]) -> dict[str, NDArray[np.int64]]:
        """What the graph takes, by the names of its inputs."""
        if "offsets" in self._inputs:
            ends = mask.sum(axis=1).cumsum()
            feeds = {"input_ids": ids[mask], "offsets": ends - mask.sum(axis=1)}
        else:
            feeds = {"input_ids": ids, "attention_mask": mask}
            if "token_type_ids" in self._inputs:
                feeds["token_type_ids"] = np.zeros_like(ids)
            if "position_ids" in self._inputs:
                feeds["position_ids"] = np.tile(np.arange(ids.shape[1]), (len(ids), 1))
        return {name: value.astype(self._inputs[name], copy=False) for name, value in feeds.items()}


def _in_threads(
    work: Callable[[Sequence[str]], list[list[int]]], items: Sequence[Sequence[str]], ahead: int
) -> Iterator[list[list[int]]]:
    """Yield the work of all items in their order; up to `ahead` more are done meanwhile."""
    if len(items) <= 1 or workers() == 1:
        yield from map(work, items)
        return
    coming: deque[Future[list[list[int]]]] = deque()
    with ThreadPoolExecutor(workers()) as pool:
        for item in items:
            coming.append(pool.submit(work, item))
            if len(coming) > ahead:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def _in_turn(files: ModelFiles, threads: int) -> tuple[onnxruntime.InferenceSession, Tokenizer]:
    _check_id(files, compute_model_id(files.folder))
    return _load_graph(files, threads), _load_tokenizer(files)


def _at_once(files: ModelFiles, threads: int) -> tuple[onnxruntime.InferenceSession, Tokenizer]:
    # Hashing and loading the graph leave the interpreter to the tokenizer, which takes as long as both.
    with ThreadPoolExecutor(min(workers(), 2)) as pool:
        found = pool.submit(compute_model_id, files.folder)
        session = pool.submit(_load_graph, files, threads)
        try:
            tokenizer = _load_tokenizer(files)
        finally:
            _check_id(files, found.result())  # that it is not the model at all explains every other fault
    return session.result(), tokenizer


def _check_id(files: ModelFiles, found: str) -> None:
    if found != files.model_id:
        raise DamagedError(f"{files.folder}: its content is model {found}, not {files.model_id}", _HINT)


def _load_graph(files: ModelFiles, threads: int) -> onnxruntime.InferenceSession:
    path = files.folder / MODEL_FILE
    check_graph(path, read_graph(path), files.data_files)
    return load_session(path, threads)


def _load_tokenizer(files: ModelFiles) -> Tokenizer:
    path = files.folder / TOKENIZER_FILE
    try:
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        if files.recipe.special_tokens:
            # Cutting must spare the special token at the end.
            tokenizer.enable_truncation(files.max_tokens)
    except Exception as error:  # the tokenizers package raises nothing narrower
        raise DamagedError(f"{path}: not a tokenizer: {error}", _HINT) from error
    return tokenizer


def load_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """Load a graph; `threads` 0: as many as there are cores. Raises DamagedError where onnxruntime refuses it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _NO_LOG
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Waiting threads would spin and take the processor from the tokenizer's.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes have no public name and no common base
        raise DamagedError(f"{path}: not a graph that onnxruntime can load: {_brief(error)}", _HINT) from error


def _check_signature(session: onnxruntime.InferenceSession, files: ModelFiles) -> str:
    """Return the name of the output that holds the vectors."""
    inputs = {node.name: node.type for node in session.get_inputs()}
    shapes = {node.name: node.shape for node in session.get_outputs()}
    rank = 2 if files.recipe.pooling == IN_GRAPH else 3
    output = vector_output(shapes, files.recipe.pooling)
    fits = inputs.keys() == _BAG or _PADDED <= inputs.keys() <= _PADDED | _OPTIONAL_INPUTS
    if output is not None and fits and set(inputs.values()) <= _INTEGERS.keys():
        columns = shapes[output][-1]
        # Exporters may leave the length of a vector open: then the first run tells.
        if len(shapes[output]) == rank and (columns == files.dim or not isinstance(columns, int)):
            return output
    expected = (_SENTENCES if files.recipe.pooling == IN_GRAPH else _TOKENS)[0]
    raise DamagedError(
        f"{files.folder / MODEL_FILE}: inputs {sorted(inputs)} and outputs {shapes}, where input_ids, "
        f"attention_mask and {expected} of {files.dim} columns are needed",
        _HINT,
    )


def vector_output(names: Iterable[str], pooling: str) -> str | None:
    """Which of a graph's outputs holds the vectors that `pooling` starts from."""
    given = set(names)
    return next((name for name in (_SENTENCES if pooling == IN_GRAPH else _TOKENS) if name in given), None)


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:_MESSAGE]
