"""Builds one ONNX graph node by node; weights go inside the file or beside it.

Weights beside the file may be shared: two graphs of one precision, made for different
targets, read the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["KERNELS", "MICROSOFT", "GraphBuilder", "WeightFile"]

MICROSOFT = "com.microsoft"
KERNELS = "fastspan"  # operators of our own, see docs/kernels.md
OPSET = 17  # the first with LayerNormalization; every runtime of the last years reads it
IR_VERSION = 8
# Smaller tensors stay inside the graph: shape inference and constant folding want to see them.
_INLINE_BYTES = 1024
_PAGE = 4096  # external tensors start on a page, so that runtimes can map them


class WeightFile:
    """An external-data file that several graphs may refer to, each tensor written once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("wb")
        self._offset = 0
        self._places: dict[str, tuple[int, int]] = {}

    def __enter__(self) -> WeightFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def flush(self) -> None:
        """Let readers of the file see everything written so far."""
        self._file.flush()

    def place(self, name: str, array: npt.NDArray[Any]) -> tuple[int, int]:
        """Write ``array`` unless a tensor of that name is there; return its offset and length in bytes."""
        if name not in self._places:
            self._file.write(b"\0" * (-self._offset % _PAGE))
            self._offset += -self._offset % _PAGE
            length = self._file.write(np.ascontiguousarray(array).data)
            self._places[name] = (self._offset, length)
            self._offset += length
        return self._places[name]


class GraphBuilder:
    """Collects nodes and initializers; every method returns the name of what it made."""

    def __init__(self, weights: WeightFile | None = None) -> None:
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._count = 0

    def input(self, name: str, shape: Sequence[str | int], kind: int = TensorProto.INT64) -> str:
        """Declare a graph input."""
        self._inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        return name

    def output(self, name: str, source: str, shape: Sequence[str | int], kind: int) -> None:
        """Declare a graph output that is the value ``source``."""
        self._nodes.append(helper.make_node("Identity", [source], [name], name=name))
        self._outputs.append(helper.make_tensor_value_info(name, kind, list(shape)))

    def answer(
        self,
        op: str,
        inputs: Sequence[str],
        outputs: Mapping[str, tuple[str, ...]],
        *,
        domain: str,
        **attributes: Any,
    ) -> None:
        """Add a node whose outputs are graph outputs, float32, given with their shapes."""
        self._nodes.append(
            helper.make_node(op, list(inputs), list(outputs), name=op, domain=domain, **attributes)
        )
        self._outputs += [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))
            for name, shape in outputs.items()
        ]

    def constant(self, name: str, array: npt.NDArray[Any]) -> str:
        """Add an initializer of that name; the same name twice means the same tensor."""
        if name not in self._initializers:
            file = self._weights
            if file is not None and array.nbytes > _INLINE_BYTES:
                offset, length = file.place(name, array)
                tensor = TensorProto(
                    name=name,
                    data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
                    dims=array.shape,
                    data_location=TensorProto.EXTERNAL,
                )
                for key, value in (
                    ("location", file.path.name),
                    ("offset", offset),
                    ("length", length),
                ):
                    tensor.external_data.add(key=key, value=str(value))
            else:
                tensor = numpy_helper.from_array(np.ascontiguousarray(array), name)
            self._initializers[name] = tensor
        return name

    def integers(self, *values: int) -> str:
        """A constant vector of int64."""
        return self.constant("shape_" + "_".join(map(str, values)), np.array(values, np.int64))

    def add(
        self,
        op: str,
        *inputs: str,
        domain: str = "",
        name: str | None = None,
        outputs: int = 1,
        **attributes: Any,
    ) -> str:
        """Add a node with one output."""
        return self.add_many(op, *inputs, domain=domain, name=name, outputs=outputs, **attributes)[0]

    def add_many(
        self,
        op: str,
        *inputs: str,
        domain: str = "",
        name: str | None = None,
        outputs: int,
        **attributes: Any,
    ) -> list[str]:
        """Add a node with ``outputs`` outputs; ``""`` among the inputs leaves that one out."""
        self._count += 1
        label = name or f"{op}_{self._count}"
        names = [label if index == 0 else f"{label}_{index}" for index in range(outputs)]
        self._nodes.append(helper.make_node(op, list(inputs), names, name=label, domain=domain, **attributes))
        return names

    def model(self, name: str, metadata: dict[str, str]) -> onnx.ModelProto:
        """Close the graph and return the model."""
        graph = helper.make_graph(
            self._nodes, name, self._inputs, self._outputs, list(self._initializers.values())
        )
        imports = [helper.make_opsetid("", OPSET)]
        used = {node.domain for node in self._nodes}
        imports += [helper.make_opsetid(domain, 1) for domain in (MICROSOFT, KERNELS) if domain in used]
        model = helper.make_model(
            graph, opset_imports=imports, ir_version=IR_VERSION, producer_name="fastspan"
        )
        helper.set_model_props(model, metadata)
        return model
