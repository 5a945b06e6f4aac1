"""Makes `integer_product.onnx`, the one-node graph that scan.py runs: `python -m memcli.dedup.integer_product`."""

from __future__ import annotations

from pathlib import Path

from onnx import TensorProto, helper

from memcli.dedup.codes import SHIFT


def graph() -> bytes:
    """The serialised graph: product (m, n) int32 of left (m, k) uint8, less SHIFT each, and right (k, n) int8."""
    node = helper.make_node("MatMulInteger", ["left", "right", "shift"], ["product"])
    inputs = [
        helper.make_tensor_value_info("left", TensorProto.UINT8, ["m", "k"]),
        helper.make_tensor_value_info("right", TensorProto.INT8, ["k", "n"]),
    ]
    outputs = [helper.make_tensor_value_info("product", TensorProto.INT32, ["m", "n"])]
    shift = helper.make_tensor("shift", TensorProto.UINT8, [], [SHIFT])
    opset = [helper.make_opsetid("", 13)]
    made = helper.make_graph([node], "product", inputs, outputs, [shift])
    return bytes(helper.make_model(made, opset_imports=opset, ir_version=8).SerializeToString())


if __name__ == "__main__":
    Path(__file__).with_suffix(".onnx").write_bytes(graph())
