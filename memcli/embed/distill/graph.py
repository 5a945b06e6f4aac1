"""The finished table as an ONNX graph: int8 rows with a float scale each, summed and scaled to unit length."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, numpy_helper

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LARGEST = 127


def quantise(table: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return int8 codes and one scale per row, whose product is the table to half a step."""
    largest = np.abs(table).max(axis=1)
    codes = np.rint(table * (_LARGEST / np.where(largest > 0, largest, 1))[:, None]).astype(np.int8)
    return codes, (largest / _LARGEST).astype(np.float32)


def build_graph(codes: NDArray[np.int8], scales: NDArray[np.float32]) -> bytes:
    """Return the graph: inputs input_ids and attention_mask (batch, length), output embedding (batch, columns)."""
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
