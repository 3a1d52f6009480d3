"""What an ONNX file says of other files, and its inputs and outputs, read from its bytes without onnx.

A tensor may name a file that holds its data. ONNX Runtime reads whatever file is named there, so a bundle's
graphs are searched before they are loaded. The numbers of fields are those of ``onnx.proto``; a field that
is not listed here holds no tensor, and is skipped by its length.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastspan.bundle.strict_json import named
from fastspan.bundle.variants import OUTPUTS, Graph, Variant
from fastspan.errors import BundleError
from fastspan.options import shown

__all__ = ["OnnxFacts", "check_graph", "check_graphs", "read_onnx"]

_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
_LONGEST_VARINT = 10
_DEEPEST = 64
_LOCATION: Final = b"location"

# Message → number of a field → the message that the field holds.
_FIELDS: Final[dict[str, dict[int, str]]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_GRAPH_OF_MODEL, _INPUT, _OUTPUT, _NAME_OF_VALUE = 7, 11, 12, 1
_INITIALIZER, _NAME_OF_TENSOR = 5, 8
_KEY, _VALUE = 1, 2
_OPERATOR = 4

# An operator that reads a compiled model from a file, and how a format without protobuf marks itself.
_COMPILED: Final = b"EPContext"
_OTHER_FORMAT: Final = b"ORTM"

_Field = tuple[int, int, int, int]
"""Number and wire type of a field, and where its content begins and ends."""


@dataclass(frozen=True, slots=True)
class OnnxFacts:
    """What an ONNX file says.

    Attributes:
        locations: The files that hold data of its tensors, as it names them, each once.
        inputs: Names of the main graph's inputs that have no value in the file.
        outputs: Names of the main graph's outputs.
    """

    locations: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def read_onnx(data: bytes, name: str) -> OnnxFacts:
    """Read what an ONNX file says of other files, in its graph, subgraphs, attributes and functions.

    Args:
        data: The file's bytes.
        name: The file's name, for messages.

    Raises:
        BundleError: The bytes are no ONNX model, or hold an operator that reads a compiled model.
    """
    try:
        if data[4:8] == _OTHER_FORMAT:
            raise _Malformed("it is in ONNX Runtime's own format")
        locations = dict.fromkeys(_locations(data))
        inputs, outputs = _ends_of(data)
    except (_Malformed, UnicodeDecodeError) as error:
        raise BundleError(
            f"{named(name)} is no ONNX file that a bundle may hold ({error}): copy the bundle again or "
            "export it again."
        ) from error
    return OnnxFacts(tuple(locations), inputs, outputs)


def check_graph(data: bytes, graph: Graph) -> dict[str, str]:
    """Refuse a graph that is not what the manifest says, before ONNX Runtime sees it.

    Args:
        data: The bytes of the graph's file.
        graph: What the manifest says of it.

    Returns:
        Each file of data as the graph names it → its path in the bundle.

    Raises:
        BundleError: It is no ONNX model, reads a file that the manifest does not list as its data, has other
            inputs than the manifest says, or does not give the logits.
    """
    facts = read_onnx(data, graph.file)
    file, found = named(graph.file), {}
    for location in facts.locations:
        path = posixpath.join(posixpath.dirname(graph.file), location)
        if path not in graph.data:
            raise BundleError(
                f"{file} reads its weights from {shown(location)}, which the manifest does not list among "
                "its data: copy the bundle again or export it again."
            )
        found[location] = path
    if set(facts.inputs) != set(graph.inputs):
        raise BundleError(
            f"{file} takes the inputs {_list(facts.inputs)}, but its manifest says {_list(graph.inputs)}: "
            "copy the bundle again or export it again."
        )
    if not set(OUTPUTS) <= set(facts.outputs):
        raise BundleError(
            f"{file} gives the outputs {_list(facts.outputs)}, not {_list(OUTPUTS)}: copy the bundle again "
            "or export it again."
        )
    return found


def check_graphs(folder: Path, variants: Mapping[str, Variant]) -> None:
    """Check every graph of a bundle, or of one in the making; see ``check_graph``.

    Args:
        folder: Where the graphs lie.
        variants: Name → variant.

    Raises:
        BundleError: A graph is not what the variants say, or cannot be read.
    """
    for variant in variants.values():
        for graph in variant.graphs:
            try:
                data = (folder / graph.file).read_bytes()
            except OSError as error:
                raise BundleError(
                    f"{folder / graph.file} cannot be read ({error}): export it again."
                ) from error
            check_graph(data, graph)


def _list(names: Sequence[str]) -> str:
    return named(", ".join(names) or "none")


class _Malformed(ValueError):
    """The bytes are not a message of the kind that is expected."""


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Return a number of variable length and where it ends."""
    value = 0
    for count in range(_LONGEST_VARINT):
        if at >= end:
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value, at
    raise _Malformed(f"byte {at} ends within a number")


def _fields(data: bytes, at: int, end: int) -> Iterator[_Field]:
    """Yield the fields of the message that lies from ``at`` to ``end``."""
    while at < end:
        tag, at = _varint(data, at, end)
        number, kind = tag >> 3, tag & 7
        begin = at
        if kind == _VARINT:
            _, at = _varint(data, at, end)
        elif kind == _LENGTH:
            length, begin = _varint(data, at, end)
            at = begin + length
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            at += 8 if kind == _EIGHT_BYTES else 4
        else:
            raise _Malformed(f"byte {at} begins a field of an unknown kind")
        # A parser keeps 32 bits of a tag: what lies above them would make it see another field than this one.
        if at > end or number == 0 or tag >> 32:
            raise _Malformed(f"byte {begin} begins a field that does not fit")
        yield number, kind, begin, at


def _locations(data: bytes) -> Iterator[str]:
    """Yield every ``location`` of external data, wherever a tensor may stand."""
    pending = [("model", 0, len(data), 0)]
    while pending:
        message, at, end, depth = pending.pop()
        if depth > _DEEPEST:
            raise _Malformed("its graphs nest too deeply")
        if message == "entry":
            key, value = _entry(data, at, end)
            if key == _LOCATION:
                yield value.decode("utf-8")
            continue
        inner = _FIELDS[message]
        for number, kind, begin, after in _fields(data, at, end):
            if message == "node" and number == _OPERATOR and data[begin:after] == _COMPILED:
                raise _Malformed("it holds a compiled model")
            if number not in inner:
                continue
            if kind != _LENGTH:
                raise _Malformed(f"byte {begin} begins a field of the wrong kind")
            pending.append((inner[number], begin, after, depth + 1))


def _entry(data: bytes, at: int, end: int) -> tuple[bytes, bytes]:
    """Return a pair of strings; of a string that stands twice, protobuf takes the last."""
    parts = {_KEY: b"", _VALUE: b""}
    for number, kind, begin, after in _fields(data, at, end):
        if number in parts:
            if kind != _LENGTH:
                raise _Malformed(f"byte {begin} begins a field of the wrong kind")
            parts[number] = data[begin:after]
    return parts[_KEY], parts[_VALUE]


def _ends_of(data: bytes) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the main graph's inputs and outputs."""
    names: dict[int, list[str]] = {_INPUT: [], _OUTPUT: [], _INITIALIZER: []}
    for field, _, at, end in _fields(data, 0, len(data)):
        if field != _GRAPH_OF_MODEL:
            continue
        for number, kind, begin, after in _fields(data, at, end):
            if number in names and kind == _LENGTH:
                wanted = _NAME_OF_TENSOR if number == _INITIALIZER else _NAME_OF_VALUE
                found = [part for part in _fields(data, begin, after) if part[0] == wanted]
                names[number].extend(data[part[2] : part[3]].decode("utf-8") for part in found[-1:])
    given = set(names[_INITIALIZER])
    return tuple(name for name in names[_INPUT] if name not in given), tuple(names[_OUTPUT])
