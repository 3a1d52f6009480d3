"""Graphs that other tools made, written in one form: few operator sets, nodes in order, one file or two."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import helper

from fastspan.export.graphs.builder import MICROSOFT

__all__ = ["OUTPUTS", "checked", "data_file", "head_nodes", "write_graph"]

OUTPUTS = ("start_logits", "end_logits")

# A protocol buffer ends at 2 GiB, and the nodes need room too.
_SINGLE_FILE_BYTES = 2_000_000_000
# What the module ``qa_outputs``, in which every checkpoint read here ends, is called in a trace.
_HEAD = "/qa_outputs/"


def write_graph(model: onnx.ModelProto, path: Path) -> None:
    """Write a graph; weights too large for one file go to ``data_file(path)``. The model is spent.

    Operator sets that no node uses are dropped, and nodes are put behind those that they need.
    """
    used = {"", *(node.domain for node in model.graph.node)}
    versions = {entry.domain: entry.version for entry in model.opset_import if entry.domain in used}
    if MICROSOFT in used:
        # Fusions add nodes without it.
        versions.setdefault(MICROSOFT, 1)
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(domain, number) for domain, number in versions.items())
    _order(model.graph)
    size = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    data_file(path).unlink(missing_ok=True)
    onnx.save_model(
        model,
        path,
        save_as_external_data=size > _SINGLE_FILE_BYTES,
        all_tensors_to_one_file=True,
        location=data_file(path).name,
    )


def data_file(path: Path) -> Path:
    """Where the weights of the graph at ``path`` lie if they are too large for one file."""
    return path.with_name(f"{path.name}_data")


def checked(path: Path) -> onnx.ModelProto:
    """Return the graph at ``path`` without its weights, having had it checked by ``onnx.checker``.

    Raises:
        onnx.checker.ValidationError: It is not valid.
    """
    onnx.checker.check_model(str(path))
    return onnx.load(path, load_external_data=False)


def head_nodes(graph: onnx.GraphProto) -> list[str]:
    """Return the names of the nodes of the QA head and of all that follow it."""
    names: list[str] = []
    reached: set[str] = set()
    for node in graph.node:
        if node.name.startswith(_HEAD) or not reached.isdisjoint(node.input):
            names.append(node.name)
            reached.update(node.output)
    return names


def _order(graph: onnx.GraphProto) -> None:
    """Sort the nodes; each comes as early as it did, or as those that need it demand."""
    nodes = list(graph.node)
    makers = {name: index for index, node in enumerate(nodes) for name in node.output}
    placed: dict[int, None] = {}

    def place(index: int) -> None:
        """Place a node, and before it every node whose output it reads."""
        if index not in placed:
            for name in _needs(nodes[index]):
                if name in makers:
                    place(makers[name])
            placed[index] = None

    for index in range(len(nodes)):
        place(index)
    ordered = [nodes[index] for index in placed]
    del graph.node[:]
    graph.node.extend(ordered)


def _needs(node: onnx.NodeProto) -> Iterator[str]:
    """The tensors a node reads, also from within the branches of a condition."""
    yield from node.input
    for attribute in node.attribute:
        for inner in attribute.g.node:
            yield from _needs(inner)
