"""The graphs a bundle holds, each made for where it runs.

``Lowering`` itself emits the interchange graph. The targets below change only what their
runtime does better another way; the reasons, measured, are in ``docs/performance.md``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from onnx import TensorProto

from fastspan.export.architecture import Encoder, Layer, Linear
from fastspan.export.lowering.builder import MICROSOFT, WeightFile
from fastspan.export.lowering.encoder_graph import Lowering
from fastspan.export.quantization import InputStatistics, QuantizedLinear, quantize_columns, quantize_linear

__all__ = ["CpuLowering", "HalfLowering", "Int8Lowering", "quantize_encoder", "quantized_layers"]


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


class Int8Lowering(CpuLowering):
    """int8 for ONNX Runtime's CPU provider: s8 weights per output channel, dynamic u8 activations.

    Token embeddings are s8 with one scale a row. Embedding sums, normalization, softmax, attention
    and the QA head stay fp32, as does every linear layer that ``quantized`` does not name.

    Args:
        encoder: The model.
        quantized: Its quantized linear layers (see ``quantize_encoder``).
        weights: Where large tensors go; None puts them inside the graph.
        unsigned: Where weights go that are stored as u8 with a zero point of 128: the same integers,
            for x86 processors without VNNI, whose u8 × s8 instruction saturates at 16 bits. None
            stores them as s8.
    """

    def __init__(
        self,
        encoder: Encoder,
        quantized: Mapping[str, QuantizedLinear],
        weights: WeightFile | None = None,
        unsigned: WeightFile | None = None,
    ) -> None:
        super().__init__(encoder, weights)
        self.quantized = quantized
        self.unsigned = unsigned

    def words(self) -> str:
        """Token embeddings: gathered as s8, scaled row by row."""
        graph = self.graph
        quantized, scale = quantize_columns(np.ascontiguousarray(self.encoder.words.T))
        table = graph.constant("embeddings.words", np.ascontiguousarray(quantized.T))
        scales = graph.constant("embeddings.words.scale", scale[:, None])
        rows = graph.add("Cast", graph.add("Gather", table, self.ids), to=TensorProto.FLOAT)
        return graph.add("Mul", rows, graph.add("Gather", scales, self.ids), name="embeddings.word")

    def projections(self, name: str, layer: Layer, hidden: str) -> list[str]:
        """Query, key and value as one GEMM: the input is quantized once."""
        rows = self.linear(f"{name}.projection", joined_projection(layer), hidden)
        return self.graph.add_many("Split", rows, axis=1, outputs=3)

    def linear(self, name: str, linear: Linear, rows: str) -> str:
        """One integer GEMM with quantization before and scales and bias inside."""
        if name not in self.quantized:
            return super().linear(name, linear, rows)
        graph, quantized = self.graph, self.quantized[name]
        if quantized.extra.size:
            share = graph.constant(f"{name}.share", (1 / quantized.copies).astype(np.float32))
            rows = graph.add("Mul", rows, share)
            copied = graph.add("Gather", rows, graph.constant(f"{name}.split", quantized.extra), axis=1)
            rows = graph.add("Concat", rows, copied, axis=1, name=f"{name}.input")
        if self.unsigned is None:
            weight = graph.constant(f"{name}.weight", quantized.weight)
            zero_points = ""
        else:
            shifted = (quantized.weight.astype(np.int16) + 128).astype(np.uint8)
            weight = graph.constant(f"{name}.unsigned", shifted, self.unsigned)
            zero_points = graph.constant(
                f"{name}.zero_points", np.full(quantized.scale.shape, 128, np.uint8), self.unsigned
            )
        return graph.add(
            "DynamicQuantizeMatMul",
            rows,
            weight,
            graph.constant(f"{name}.scale", quantized.scale),
            zero_points,
            graph.constant(f"{name}.bias", quantized.bias),
            domain=MICROSOFT,
            name=name,
        )


def joined_projection(layer: Layer) -> Linear:
    """Query, key and value as one linear layer, in that order along its output."""
    parts = (layer.query, layer.key, layer.value)
    return Linear(
        np.concatenate([part.weight for part in parts], axis=1), np.concatenate([part.bias for part in parts])
    )


def quantized_layers(encoder: Encoder) -> dict[str, Linear]:
    """The linear layers that the int8 target quantizes, by name, in the order of the computation."""
    layers = {}
    if encoder.projection is not None:
        layers["embeddings.projection"] = encoder.projection
    for number, layer in enumerate(encoder.layers):
        layers[f"layer.{number}.attention.projection"] = joined_projection(layer)
        layers[f"layer.{number}.attention_output"] = layer.attention_output
        layers[f"layer.{number}.intermediate"] = layer.intermediate
        layers[f"layer.{number}.output"] = layer.output
    return layers


def quantize_encoder(
    encoder: Encoder, seen: Mapping[str, InputStatistics], keep: Collection[str] = ()
) -> dict[str, QuantizedLinear]:
    """Quantize every linear layer but those to ``keep`` in fp32.

    Args:
        encoder: The model.
        seen: Input statistics by layer name; a layer without any is rounded to nearest.
        keep: Names of layers (see ``quantized_layers``) that stay fp32.
    """
    return {
        name: quantize_linear(linear, seen.get(name))
        for name, linear in quantized_layers(encoder).items()
        if name not in keep
    }
