"""The floating-point graphs a bundle holds, each made for where it runs.

``Lowering`` itself emits the interchange graph. The targets below change only what their
runtime does better another way; the reasons, measured, are in ``docs/performance.md``.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from fastspan.export.graphs.builder import MICROSOFT
from fastspan.export.graphs.encoder_graph import Lowering
from fastspan.export.graphs.model import Layer

__all__ = ["CpuLowering", "HalfLowering"]


class HalfLowering(Lowering):
    """fp16 weights and arithmetic from standard operators: padded batches, a mask, any runtime.

    Softmax runs in fp32, normalization accumulates in fp32, and so does the QA head: these sums
    over many terms are where half precision loses answers.
    """

    dtype = np.float16

    def softmax(self, name: str, scores: str) -> str:
        """Probabilities over keys, computed in fp32."""
        wide = self.graph.add("Cast", scores, to=TensorProto.FLOAT)
        return self.graph.add("Cast", super().softmax(name, wide), to=TensorProto.FLOAT16)


class CpuLowering(Lowering):
    """fp32 for ONNX Runtime's CPU provider: windows of equal length, no padding and no mask.

    Without a mask, attention runs in the provider's flash kernel; the activation is one operator.
    """

    masked = False

    def attention(self, name: str, layer: Layer, hidden: str) -> str:
        """Fused attention over (batch, length, hidden)."""
        graph = self.graph
        query, key, value = (
            graph.add("Reshape", rows, self.hidden_shape) for rows in self.projections(name, layer, hidden)
        )
        context = graph.add(
            "MultiHeadAttention", query, key, value, domain=MICROSOFT, name=name, num_heads=self.heads
        )
        return graph.add(
            "Reshape", context, graph.integers(-1, self.encoder.hidden_size), name=f"{name}.rows"
        )

    def projections(self, name: str, layer: Layer, hidden: str) -> list[str]:
        """Query, key and value rows."""
        return [
            self.linear(f"{name}.query", layer.query, hidden),
            self.linear(f"{name}.key", layer.key, hidden),
            self.linear(f"{name}.value", layer.value, hidden),
        ]

    def activation(self, name: str, rows: str) -> str:
        """The feed-forward activation as one operator where the provider has it."""
        if self.encoder.activation == "gelu":
            return self.graph.add("Gelu", rows, domain=MICROSOFT, name=name)
        if self.encoder.activation == "gelu_tanh":
            return self.graph.add("FastGelu", rows, domain=MICROSOFT, name=name)
        return super().activation(name, rows)
