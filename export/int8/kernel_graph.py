"""The graph for the int8 kernels: the whole encoder as one operator over packed rows.

Which inputs the operator takes, in which order, is laid down in ``docs/kernels.md``.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import TensorProto

from fastspan.export.graphs.builder import KERNELS, GraphBuilder, WeightFile
from fastspan.export.graphs.model import Array, EncoderModel, Norm
from fastspan.export.int8.kernel_layers import KernelLinear

__all__ = ["kernel_graph"]

# Kinds of linear layers as the operator counts them, bit by bit: query, key and value; attention's output; a
# feed-forward block's first and second layer; the projection of embeddings.
_EVERY_KIND = 1 | 2 | 4 | 8 | 16
_ATTENTION_OUTPUT = 2


def kernel_graph(
    encoder: EncoderModel,
    layers: Mapping[str, KernelLinear],
    weights: WeightFile | None = None,
) -> onnx.ModelProto:
    """Lower an encoder to one operator.

    Inputs ``input_ids`` of (rows,), ``cumulative_sequence_length`` of (windows + 1,) and, where the model
    takes segment ids, ``token_type_ids`` of (rows,), all int32; outputs ``start_logits`` and
    ``end_logits``, float32 of (rows,).

    Args:
        encoder: The model, as ``quantize_for_kernels`` returned it.
        layers: Its linear layers, from there too.
        weights: Where large tensors go; None puts them inside the graph. The embeddings go there, too: a
            variant that read the fp32 variant's file would take it along wherever it goes.
    """
    parts = _Parts(GraphBuilder(weights), layers)
    graph, positions, segments = parts.graph, encoder.positions, encoder.segments
    given = [
        graph.input("input_ids", ("rows",), TensorProto.INT32),
        graph.input("cumulative_sequence_length", ("windows_and_1",), TensorProto.INT32),
    ]
    parts.constant("embeddings.words", encoder.words)
    if segments is not None and not encoder.takes_segment_ids:
        positions = positions + segments[0]
    parts.constant("embeddings.positions", positions)
    if segments is not None and encoder.takes_segment_ids:
        given.append(graph.input("token_type_ids", ("rows",), TensorProto.INT32))
        parts.constant("embeddings.segments", segments)
    parts.norm("embeddings.norm", encoder.embedding_norm)
    if encoder.projection is not None:
        parts.linear("embeddings.projection")
    for number, layer in enumerate(encoder.layers):
        name = f"layer.{number}"
        parts.linear(f"{name}.attention.projection")
        parts.linear(f"{name}.attention_output")
        parts.norm(f"{name}.attention_norm", layer.attention_norm)
        parts.linear(f"{name}.intermediate")
        parts.linear(f"{name}.output")
        parts.norm(f"{name}.output_norm", layer.output_norm)
    parts.constant("head.weight", encoder.head.weight)
    parts.constant("head.bias", encoder.head.bias)
    graph.answer(
        "Int8Encoder",
        [*given, *parts.names],
        dict.fromkeys(("start_logits", "end_logits"), ("rows",)),
        domain=KERNELS,
        heads=encoder.heads,
        layers=len(encoder.layers),
        epsilon=encoder.embedding_norm.epsilon,
        padding_id=-1 if encoder.padding_id is None else encoder.padding_id,
        segments=int("token_type_ids" in given),
        activation=encoder.activation,
        asymmetric=_EVERY_KIND,
        prescaled=_EVERY_KIND - _ATTENTION_OUTPUT,
    )
    return graph.model(
        "question_answering", {"architecture": encoder.model_type, "target": "fastspan.Int8Encoder"}
    )


class _Parts:
    """Collects the operator's weights in their order."""

    def __init__(self, graph: GraphBuilder, layers: Mapping[str, KernelLinear]) -> None:
        self.graph = graph
        self.names: list[str] = []
        self._layers = layers

    def constant(self, name: str, array: Array) -> None:
        """One tensor."""
        self.names.append(self.graph.constant(name, array))

    def norm(self, name: str, norm: Norm) -> None:
        """A normalization's weight and bias."""
        self.constant(f"{name}.weight", norm.weight)
        self.constant(f"{name}.bias", norm.bias)

    def linear(self, name: str) -> None:
        """A linear layer's weight, scale and bias, and what its input is multiplied by, if it is."""
        layer = self._layers[name]
        self.names.append(self.graph.constant(f"{name}.weight", layer.weight))
        self.constant(f"{name}.scale", layer.scale)
        self.constant(f"{name}.bias", layer.bias)
        if layer.prescale is not None:
            self.constant(f"{name}.prescale", layer.prescale)
