"""Small models in the layout of sentence-transformers, made by `onnx` from random numbers, and the shared MiniLM."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from memcli.embed.models import compute_model_id, load_card

MINILM = Path(__file__).resolve().parents[2] / "shared" / "models" / "all-MiniLM-L6-v2"
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = (
    "how do i reset my password forgot can change it the soup needs more salt deploy key lives in vault one sentence "
    "that is quite a bit longer than all of its neighbours word query passage we retry five times then stop budget"
).split()
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,?!:"
DIM = 32
LENGTH = 128


def minilm(name="model.onnx"):
    """The shared MiniLM's graph; the test is skipped where it is not there."""
    path = MINILM / "onnx" / name
    if not path.is_file():
        pytest.skip("the shared all-MiniLM-L6-v2 is not here")
    return path


def vocabulary():
    return [*SPECIALS, *WORDS, *LETTERS, *(f"##{letter}" for letter in LETTERS)]


def tokenizer(*, specials=True):
    words = {word: number for number, word in enumerate(dict.fromkeys(vocabulary()))}
    made = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))  # noqa: S106 - a token of text
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens(SPECIALS)
    if specials:
        pairs = [(name, words[name]) for name in ("[CLS]", "[SEP]")]
        made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=pairs)
    return made


def numbers(seed, *shape, scale=1.0):
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def transformer(*, rows=None, inputs=("input_ids", "attention_mask", "token_type_ids"), output="last_hidden_state"):
    """A transformer of one layer and one head over `rows` token vectors, as an ONNX model."""
    rows = rows or tokenizer().get_vocab_size()
    weights = {
        "tokens": numbers(1, rows, DIM),
        "positions": numbers(2, LENGTH, DIM, scale=0.1),
        "types": numbers(3, 2, DIM, scale=0.1),
        **{name: numbers(4 + at, DIM, DIM, scale=DIM**-0.5) for at, name in enumerate("qkvo")},
        "root": np.array(DIM**-0.5, np.float32),
        "far": np.array(-1e9, np.float32),
        "one": np.array(1, np.float32),
        "axes": np.array([1], np.int64),
        "zero": np.array(0, np.int64),
        "step": np.array(1, np.int64),
        "at": np.array(1, np.int64),
    }
    node = helper.make_node
    nodes = [
        node("Gather", ["tokens", "input_ids"], ["t"]),
        node("Shape", ["input_ids"], ["shape"]),
        node("Gather", ["shape", "at"], ["length"]),
        node("Range", ["zero", "length", "step"], ["range"]),
        node("Gather", ["positions", "position_ids" if "position_ids" in inputs else "range"], ["p"]),
        node("Add", ["t", "p"], ["tp"]),
        *([node("Gather", ["types", "token_type_ids"], ["y"])] if "token_type_ids" in inputs else []),
        node("Add", ["tp", "y"], ["x"]) if "token_type_ids" in inputs else node("Identity", ["tp"], ["x"]),
        *(node("MatMul", ["x", name], [f"x{name}"]) for name in "qkv"),
        node("Transpose", ["xk"], ["xkt"], perm=[0, 2, 1]),
        node("MatMul", ["xq", "xkt"], ["raw"]),
        node("Mul", ["raw", "root"], ["scaled"]),
        node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        node("Sub", ["one", "mask"], ["hidden"]),
        node("Mul", ["hidden", "far"], ["penalty"]),
        node("Unsqueeze", ["penalty", "axes"], ["penalties"]),
        node("Add", ["scaled", "penalties"], ["masked"]),
        node("Softmax", ["masked"], ["shares"], axis=-1),
        node("MatMul", ["shares", "xv"], ["mixed"]),
        node("MatMul", ["mixed", "o"], ["out"]),
        node("Add", ["x", "out"], [output]),
    ]
    return model(nodes, inputs, {output: ["batch", "length", DIM]}, weights)


def model(nodes, inputs, outputs, weights, shape=("batch", "length")):
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(name, TensorProto.INT64, list(shape)) for name in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(made)
    return made


def installed(folder, graph, *, specials=True, **card):
    """A model folder with its card, as memcli keeps it; `card` goes over what fits the small transformer."""
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(graph if isinstance(graph, bytes) else graph.SerializeToString())
    tokenizer(specials=specials).save(str(folder / "tokenizer.json"))
    return carded(folder, **card)


def carded(folder, **changes):
    """Write the card of the files in `folder`, and load it."""
    card = {"name": "small", "model_id": "", "dim": DIM, "max_tokens": LENGTH, "near_threshold": 0.9}
    card |= {"pooling": "mean", "normalise": "l2", "special_tokens": True} | changes
    (folder / "card.json").write_text(json.dumps(card))
    card["model_id"] = compute_model_id(folder)
    (folder / "card.json").write_text(json.dumps(card))
    return load_card(folder)


def static_model(*, dim=16, seed=11, normalise=True):
    """A table of token vectors whose mean over a text the graph gives, as the packaged model does."""
    weights = {"tokens": numbers(seed, tokenizer().get_vocab_size(), dim), "axes": np.array([1], np.int64)}
    weights["least"] = np.array(1e-12, np.float32)
    node = helper.make_node
    nodes = [
        node("Gather", ["tokens", "input_ids"], ["rows"]),
        node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["mask", "axes"], ["weights"]),
        node("MatMul", ["weights", "rows"], ["wide"]),
        node("Squeeze", ["wide", "axes"], ["sum" if normalise else "embedding"]),
    ]
    if normalise:
        nodes += [
            node("ReduceL2", ["sum", "axes"], ["length"], keepdims=1),
            node("Max", ["length", "least"], ["divisor"]),
            node("Div", ["sum", "divisor"], ["embedding"]),
        ]
    return model(nodes, ("input_ids", "attention_mask"), {"embedding": ["batch", dim]}, weights)


def bag_model(*, dim=16, seed=12):
    """As model2vec exports it: the ids of all texts one after another, and where each begins; the mean of its rows."""
    weights = {
        "tokens": numbers(seed, tokenizer().get_vocab_size(), dim),
        "one": np.array([1], np.int64),
        "zero": np.array(0, np.int64),
        "empty": np.zeros((0, dim), np.float32),
        "axes": np.array([0], np.int64),
    }
    node = helper.make_node
    body = helper.make_graph(
        [
            node("Unsqueeze", ["i", "axes"], ["from"]),
            node("Add", ["from", "one"], ["to"]),
            node("Slice", ["borders", "from", "to"], ["begin"]),
            node("Add", ["to", "one"], ["behind"]),
            node("Slice", ["borders", "to", "behind"], ["end"]),
            node("Slice", ["input_ids", "begin", "end"], ["ids"]),
            node("Gather", ["tokens", "ids"], ["rows"]),
            node("ReduceMean", ["rows", "axes"], ["mean"], keepdims=0),
            node("Identity", ["go"], ["going"]),
        ],
        "text",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        ],
        [
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("mean", TensorProto.FLOAT, [dim]),
        ],
    )
    nodes = [
        node("Shape", ["input_ids"], ["total"]),
        node("Concat", ["offsets", "total"], ["borders"], axis=0),
        node("Size", ["offsets"], ["texts"]),
        node("Loop", ["texts", ""], ["embeddings"], body=body),
    ]
    return model(nodes, ("input_ids", "offsets"), {"embeddings": ["batch", dim]}, weights, shape=("some",))


TRANSFORMER, POOLING, NORMALIZE = (
    f"sentence_transformers.models.{each}" for each in ("Transformer", "Pooling", "Normalize")
)


def layout(folder, graph, *, file="onnx/model.onnx", pooling="mean_tokens", modules=(), **settings):
    """A folder as sentence-transformers saves one; `settings` are further JSON files, as {"config": {...}}."""
    kinds = [(TRANSFORMER, ""), (POOLING, "1_Pooling"), (NORMALIZE, "2_Normalize"), *modules]
    listed = [{"idx": at, "name": str(at), "path": path, "type": kind} for at, (kind, path) in enumerate(kinds)]
    files = {"modules": listed, "sentence_bert_config": {"max_seq_length": LENGTH, "do_lower_case": False}}
    files["config"] = {"max_position_embeddings": LENGTH, "hidden_size": DIM, "model_type": "bert"}
    files |= {"1_Pooling/config": {"word_embedding_dimension": DIM, f"pooling_mode_{pooling}": True}} | settings
    for name, content in files.items():
        path = folder / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is not None:
            path.write_text(json.dumps(content))
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_bytes(graph if isinstance(graph, bytes) else graph.SerializeToString())
    tokenizer().save(str(folder / "tokenizer.json"))
    return folder
