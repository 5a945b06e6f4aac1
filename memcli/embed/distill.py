"""Make a static embedding model from a sentence transformer, without training data.

A token's vector is what the teacher says of that token alone; a text is the weighted mean of its tokens' vectors. See
`distill` for the steps. Needs the packages of `memcli[train]`.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from memcli.embed.models import CARD_FILE, MODEL_FILE, TOKENIZER_FILE, compute_model_id
from memcli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

NAME = "memcli-static-1"
DIM = 256
MAX_TOKENS = 512
SIF_A = 3e-4
# From pairs of minimal differences, judged with this model and the gates of memcli.dedup.gates: on the half that it was
# chosen on, the highest round value that loses no duplicate; no pair was merged falsely, there or on the other half.
NEAR_THRESHOLD = 0.9

_TEACHER_BATCH = 512
_PLACEHOLDER = re.compile(r"\[unused\d+\]")
# The vocabulary lists single characters by code, before the words by frequency, so their place says nothing of how
# common they are: letters and digits count as common words, punctuation as the most common one.
_CHARACTER_RANK = 100


def distill(teacher: Path, out: Path) -> None:
    """Write model.onnx, tokenizer.json and card.json to `out`, from the transformer and tokenizer.json in `teacher`.

    1. Each token of the vocabulary goes through the teacher as [CLS] token [SEP], mean pooled.
    2. Principal components, mean removed, most energy first (model2vec does it so), `DIM` of them.
    3. Smooth inverse frequency weights a / (a + p) (Arora, Liang, Ma, ICLR 2017), p by Zipf's law from the token's
       place in the vocabulary, which is sorted by frequency. Special tokens weigh nothing.
    4. An int8 table with a float scale per row, the weight folded into the scale.

    Raises UsageError when the `onnx` package or a file of the teacher is missing.
    """
    build = _graph_builder()
    source = teacher / TOKENIZER_FILE
    graph = next((path for path in (teacher / "onnx" / MODEL_FILE, teacher / MODEL_FILE) if path.is_file()), None)
    if graph is None or not source.is_file():
        raise UsageError(f"{teacher}: no {MODEL_FILE} or no {TOKENIZER_FILE} there", "name the teacher model's folder")
    tokenizer = Tokenizer.from_file(str(source))
    tokens = [str(tokenizer.id_to_token(number)) for number in range(tokenizer.get_vocab_size())]
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}
    meaningful = np.array([token not in special and not _PLACEHOLDER.fullmatch(token) for token in tokens])

    hidden = _token_vectors(graph, tokenizer, len(tokens))
    vectors = _principal(hidden, meaningful) * (_weights(tokens) * meaningful)[:, None]
    largest = np.abs(vectors).max(axis=1)
    codes = np.rint(vectors * (127 / np.where(largest > 0, largest, 1))[:, None]).astype(np.int8)

    out.mkdir(parents=True, exist_ok=True)
    (out / MODEL_FILE).write_bytes(build(codes, (largest / 127).astype(np.float32)))
    shutil.copyfile(source, out / TOKENIZER_FILE)
    _write_card(out, dim=vectors.shape[1])


def _token_vectors(graph: Path, tokenizer: Tokenizer, count: int) -> NDArray[np.float64]:
    """Return the teacher's output for each token alone, mean pooled, shape (count, hidden)."""
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]
    first, last = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    pooled = []
    for start in range(0, count, _TEACHER_BATCH):
        middle = np.arange(start, min(start + _TEACHER_BATCH, count))
        ids = np.stack([np.full_like(middle, first), middle, np.full_like(middle, last)], axis=1).astype(np.int64)
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        hidden = session.run(None, {name: feeds[name] for name in names})[0]
        pooled.append(hidden.mean(axis=1, dtype=np.float64))
    return np.concatenate(pooled)


def _principal(hidden: NDArray[np.float64], used: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Project onto the principal components of the used rows, shape (rows, at most DIM), most energy first."""
    centred = hidden - hidden[used].mean(axis=0)
    _, axes = np.linalg.eigh(centred[used].T @ centred[used])
    axes = axes[:, ::-1][:, :DIM]
    # An eigenvector's sign is arbitrary: fix it, so that the same teacher always gives the same model.
    strongest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    projected: NDArray[np.float64] = centred @ (axes * np.sign(strongest))
    return projected


def _weights(tokens: list[str]) -> NDArray[np.float64]:
    """Return one smooth inverse frequency weight per token, from its Zipf rank."""
    first_word = next((at for at, token in enumerate(tokens) if len(token) > 1 and token.isalpha()), 0)
    ranks = np.arange(len(tokens), dtype=np.float64) - first_word + 1
    for at, token in enumerate(tokens[:first_word]):
        ranks[at] = 1 if unicodedata.category(token[0])[0] in "PS" else _CHARACTER_RANK
    frequency = 1 / ranks / np.sum(1 / np.arange(1, len(tokens) + 1))
    weights: NDArray[np.float64] = SIF_A / (SIF_A + frequency)
    return weights


def _write_card(out: Path, dim: int) -> None:
    """Write the card; its scores are for those to fill in who measure the result, and change no model_id."""
    card = {
        "name": NAME,
        "model_id": "",
        "dim": dim,
        "max_tokens": MAX_TOKENS,
        "pooling": "in-graph",
        "normalise": "in-graph",
        "near_threshold": NEAR_THRESHOLD,
        "teacher": "sentence-transformers/all-MiniLM-L6-v2",
        "source": "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
        "licence": "Apache-2.0",
        "attribution": "Derived from all-MiniLM-L6-v2 by the sentence-transformers authors (Apache-2.0), "
        "with the vocabulary of BERT base uncased by Google (Apache-2.0). Changed: reduced to a static token table.",
        "settings": {"components": dim, "sif_a": SIF_A, "frequency": "Zipf rank in the vocabulary", "table": "int8"},
        "scores": {},
    }
    path = out / CARD_FILE
    path.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    card["model_id"] = compute_model_id(out)
    path.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def _graph_builder() -> Callable[[NDArray[np.int8], NDArray[np.float32]], bytes]:
    """Return a function from the table to the bytes of the ONNX graph; it exists only where `onnx` is installed."""
    try:
        import onnx  # noqa: PLC0415 - an extra that only this command needs
        from onnx import helper, numpy_helper  # noqa: PLC0415 - as above
    except ImportError as error:
        raise UsageError("distilling needs the onnx package", 'pip install "memcli[train]"') from error

    def build(codes: NDArray[np.int8], scales: NDArray[np.float32]) -> bytes:
        # The weighted sum is one MatMul of the weights (1 x length) with the rows (length x dim): half the time of
        # Mul and ReduceSum over int8 rows on 2 cores.
        nodes = [
            helper.make_node("Gather", ["codes", "input_ids"], ["picked"]),
            helper.make_node("Cast", ["picked"], ["rows"], to=onnx.TensorProto.FLOAT),
            helper.make_node("Gather", ["scales", "input_ids"], ["scale"]),
            helper.make_node("Cast", ["attention_mask"], ["mask"], to=onnx.TensorProto.FLOAT),
            helper.make_node("Mul", ["scale", "mask"], ["weight"]),
            helper.make_node("Unsqueeze", ["weight", "axis"], ["weights"]),
            helper.make_node("MatMul", ["weights", "rows"], ["summed"]),
            helper.make_node("Squeeze", ["summed", "axis"], ["total"]),
            helper.make_node("ReduceL2", ["total", "axis"], ["length"], keepdims=1),
            helper.make_node("Max", ["length", "smallest"], ["divisor"]),
            helper.make_node("Div", ["total", "divisor"], ["embedding"]),
        ]
        constants: dict[str, NDArray[np.generic]] = {
            "codes": codes,
            "scales": scales,
            "axis": np.array([1], dtype=np.int64),
            "smallest": np.array(1e-12, dtype=np.float32),  # a text without tokens gives the zero row, not NaN
        }
        whole, fraction = onnx.TensorProto.INT64, onnx.TensorProto.FLOAT
        names = ("input_ids", "attention_mask")
        graph = helper.make_graph(
            nodes,
            "static",
            [helper.make_tensor_value_info(name, whole, ["batch", "length"]) for name in names],
            [helper.make_tensor_value_info("embedding", fraction, ["batch", codes.shape[1]])],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        )
        # Versions that the oldest supported onnxruntime reads.
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        onnx.checker.check_model(model)
        serialised: bytes = model.SerializeToString()
        return serialised

    return build


if __name__ == "__main__":
    try:
        distill(Path(sys.argv[1]), Path(sys.argv[2]))
    except IndexError:
        sys.exit("usage: python -m memcli.embed.distill TEACHER_DIR OUT_DIR")
    except UsageError as fault:
        sys.exit(f"{fault.message}: {fault.hint}")
