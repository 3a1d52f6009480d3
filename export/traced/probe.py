"""Batches of random tokens on which graphs of one model are compared with each other and looked into."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from fastspan.export.traced.graph_files import OUTPUTS, write_graph
from fastspan.runtime.providers import import_onnxruntime

__all__ = ["Probe", "Seen"]

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

# Lengths below, at and above what exporters trace with, alone and together with shorter ones.
_SHAPES = ((1, 7), (3, 24), (2, 51))


@dataclass(frozen=True, slots=True)
class Seen:
    """A tensor as it was on the probe.

    Attributes:
        element_type: ``TensorProto.DataType``.
        peak: Largest magnitude; 0 for whole numbers.
    """

    element_type: int
    peak: float


@dataclass(frozen=True, slots=True)
class Probe:
    """Batches of several shapes, some with padding.

    Attributes:
        batches: By input name, int64 of (batch, length).
    """

    batches: tuple[Mapping[str, Integers], ...]

    @classmethod
    def of(cls, inputs: Sequence[str], *, vocabulary: int, padding_id: int, longest: int) -> Probe:
        """Make the batches.

        Args:
            inputs: Names of the graph's inputs.
            vocabulary: Tokens there are.
            padding_id: The one that fills batches.
            longest: Most tokens in a row.
        """
        rng = np.random.default_rng(0)
        batches = []
        for size, length in _SHAPES:
            length = min(length, longest)
            ids = rng.integers(0, vocabulary, (size, length))
            ids[ids == padding_id] = (padding_id + 1) % vocabulary
            columns = np.arange(length)
            real = columns < np.linspace(length, length // 2, size)[:, None]
            values = {
                "input_ids": np.where(real, ids, padding_id),
                "attention_mask": real,
                "token_type_ids": real & (columns > length // 3),
            }
            batches.append({name: values[name].astype(np.int64) for name in inputs})
        return cls(tuple(batches))

    def logits(self, path: Path) -> list[Floats]:
        """Run a graph with ONNX Runtime on the CPU.

        Returns:
            For each batch, start and end logits, (2, batch, length).
        """
        session = _session(path)
        return [np.stack(session.run(OUTPUTS, dict(batch))) for batch in self.batches]

    def difference(self, one: Iterable[Floats], other: Iterable[Floats]) -> float:
        """Compare logits of real tokens; those of padding mean nothing.

        Returns:
            The largest difference, divided by the largest logit if that is above 1; NaN if any logit is.
        """
        pairs = [(a[:, real], b[:, real]) for a, b, real in zip(one, other, self._real_tokens(), strict=True)]
        largest = np.max([np.abs(a).max() for a, _ in pairs])
        return float(np.max([np.abs(a - b).max() for a, b in pairs]) / max(1.0, largest))

    def observe(self, path: Path, temporary: Path) -> dict[str, Seen]:
        """Look at what each node of a graph gives. Type inference does not know fused operators, this does.

        Args:
            path: The graph.
            temporary: Where a graph may be written that shows all its tensors.
        """
        model = onnx.load(path)
        names = [name for node in model.graph.node for name in node.output if name and name not in OUTPUTS]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        write_graph(model, temporary)
        # Optimized, it would no longer compute all of them.
        session = _session(temporary, optimized=False)
        seen: dict[str, Seen] = {}
        for batch in self.batches:
            for name, array in zip(names, session.run(names, dict(batch)), strict=True):
                peak = float(np.abs(array).max()) if array.dtype.kind == "f" and array.size else 0.0
                element_type = helper.np_dtype_to_tensor_dtype(array.dtype)
                seen[name] = Seen(element_type, max(peak, seen[name].peak if name in seen else 0.0))
        return seen

    def _real_tokens(self) -> list[npt.NDArray[np.bool_]]:
        return [batch["attention_mask"] == 1 for batch in self.batches]


def _session(path: Path, *, optimized: bool = True) -> Any:
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
