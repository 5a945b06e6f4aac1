"""Makes `integer_product.onnx`, the one-node graph that scan.py runs: `python -m memcli.dedup.integer_product`."""

from __future__ import annotations

from pathlib import Path

from onnx import TensorProto, helper


def graph() -> bytes:
    """The serialised graph: product (m, n) int32 of left (m, k) uint8 and right (k, n) int8."""
    node = helper.make_node("MatMulInteger", ["left", "right"], ["product"])
    inputs = [
        helper.make_tensor_value_info("left", TensorProto.UINT8, ["m", "k"]),
        helper.make_tensor_value_info("right", TensorProto.INT8, ["k", "n"]),
    ]
    outputs = [helper.make_tensor_value_info("product", TensorProto.INT32, ["m", "n"])]
    opset = [helper.make_opsetid("", 13)]
    model = helper.make_model(helper.make_graph([node], "product", inputs, outputs), opset_imports=opset, ir_version=8)
    return bytes(model.SerializeToString())


if __name__ == "__main__":
    Path(__file__).with_suffix(".onnx").write_bytes(graph())
