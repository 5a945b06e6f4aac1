"""What an ONNX file says of itself, read from its bytes before anything in it is run.

ONNX files are Protocol Buffers; the field numbers are those of onnx.proto (https://github.com/onnx/onnx), the encoding
that of https://protobuf.dev/programming-guides/encoding. Only what decides whether a file may be loaded is looked at;
weights are skipped over, not read.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from memcli.errors import DamagedError

# What onnxruntime brings along; anything else would need a library of the file's own.
KNOWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
DYNAMIC_OPERATORS = frozenset(
    {"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "MatMulInteger", "MatMulIntegerToFloat"}
)

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MOST_NESTED = 32
_HINT = "get the file again, or take another model"

# Field numbers of the messages.
_MODEL = {7: "graph", 25: "function"}
_GRAPH = {1: "node", 5: "tensor", 15: "sparse"}
_SPARSE = {1: "tensor", 2: "tensor"}
_FUNCTION = {7: "node"}
_NODE = {5: "attribute"}
_ATTRIBUTE = {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"}
_NESTED = {
    "model": _MODEL,
    "graph": _GRAPH,
    "function": _FUNCTION,
    "node": _NODE,
    "attribute": _ATTRIBUTE,
    "sparse": _SPARSE,
    "tensor": {},
}
_NODE_OPERATOR, _NODE_DOMAIN = 4, 7
_FUNCTION_NAME, _FUNCTION_DOMAIN = 1, 10
_TENSOR_EXTERNAL, _ENTRY_KEY, _ENTRY_VALUE = 13, 1, 2


@dataclass(slots=True)
class GraphFacts:
    """Operators as (domain, name), functions that the file defines itself, and the files that hold weights of it."""

    operators: set[tuple[str, str]] = field(default_factory=set)
    functions: set[tuple[str, str]] = field(default_factory=set)
    data_files: set[str] = field(default_factory=set)

    @property
    def is_dynamically_quantised(self) -> bool:
        """Whether activations are quantised by the values of the batch at hand."""
        return any(name in DYNAMIC_OPERATORS for _, name in self.operators)

    def foreign_operators(self) -> list[str]:
        """Operators that neither onnxruntime nor the file itself defines, as "domain.name"."""
        unknown = {each for each in self.operators if each[0] not in KNOWN_DOMAINS} - self.functions
        return sorted(f"{domain}.{name}" for domain, name in unknown)


def read_graph(path: Path) -> GraphFacts:
    """Read what the ONNX file at `path` is made of.

    Raises:
        DamagedError: the file cannot be read, or is no ONNX file, or ends too early.
    """
    facts = GraphFacts()
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
            _walk(raw, 0, len(raw), "model", facts, 0)
    except (OSError, ValueError) as error:  # an empty file cannot be mapped: a ValueError too
        raise DamagedError(f"{path}: not an ONNX file, or one that ends too early: {error}", _HINT) from error
    if not facts.operators:
        raise DamagedError(f"{path}: not an ONNX file: there is no graph in it", _HINT)
    return facts


def check_graph(path: Path, facts: GraphFacts, data_files: tuple[str, ...]) -> None:
    """Refuse a graph that would load what does not belong to it.

    Args:
        path: the file, for the message.
        facts: what it is made of.
        data_files: the names of the files beside it that may hold weights.

    Raises:
        DamagedError: it names another file, or has operators that onnxruntime does not know.
    """
    if foreign := facts.foreign_operators():
        raise DamagedError(
            f"{path}: the graph needs custom operators, which memcli does not load: {', '.join(foreign)[:200]}",
            "take a model that is made of standard operators",
        )
    if strange := sorted(facts.data_files - set(data_files)):
        raise DamagedError(
            f"{path}: the graph keeps weights in a file that does not lie beside it: {', '.join(strange)[:200]}",
            "take a model with all its files in one folder",
        )


def _walk(raw: mmap.mmap, start: int, end: int, kind: str, facts: GraphFacts, depth: int) -> None:
    if depth > _MOST_NESTED:
        raise ValueError("graphs are nested too deeply")
    nested = _NESTED[kind]
    names: dict[int, str] = {}
    for number, first, last in _fields(raw, start, end):
        if number in nested:
            _walk(raw, first, last, nested[number], facts, depth + 1)
        elif kind == "tensor" and number == _TENSOR_EXTERNAL:
            entry = {key: _text(raw, begin, stop) for key, begin, stop in _fields(raw, first, last)}
            if entry.get(_ENTRY_KEY) == "location":
                facts.data_files.add(entry.get(_ENTRY_VALUE, ""))
        elif number in {_NODE_OPERATOR, _NODE_DOMAIN, _FUNCTION_NAME, _FUNCTION_DOMAIN} and kind in {
            "node",
            "function",
        }:
            names[number] = _text(raw, first, last)
    if kind == "node":
        facts.operators.add((names.get(_NODE_DOMAIN, ""), names.get(_NODE_OPERATOR, "")))
    elif kind == "function":
        facts.functions.add((names.get(_FUNCTION_DOMAIN, ""), names.get(_FUNCTION_NAME, "")))


def _fields(raw: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield (field number, begin, end of the content) of the length-delimited fields between `start` and `end`."""
    place = start
    while place < end:
        tag, place = _varint(raw, place, end)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            _, place = _varint(raw, place, end)
        elif wire in {_FIXED64, _FIXED32}:
            place += 8 if wire == _FIXED64 else 4
        elif wire == _BYTES:
            length, place = _varint(raw, place, end)
            if length > end - place:
                raise ValueError(f"{length - (end - place):,} bytes are missing")
            yield number, place, place + length
            place += length
        else:
            raise ValueError(f"wire type {wire} at byte {place:,}")
    if place != end:
        raise ValueError(f"a field passes byte {end:,}")


def _varint(raw: mmap.mmap, place: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while place < end and shift < 70:  # noqa: PLR2004 - ten groups of seven bits
        byte = raw[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the bit that says there is more
            return value, place
        shift += 7
    raise ValueError(f"a number that does not end at byte {place:,}")


def _text(raw: mmap.mmap, first: int, last: int) -> str:
    return raw[first:last].decode("utf-8", errors="replace")
