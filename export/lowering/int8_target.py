"""The int8 graph, and which of a model's linear layers it quantizes, and how often."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
from onnx import TensorProto

from fastspan.export.architecture import Encoder, Layer, Linear
from fastspan.export.lowering.arrangement import arranged
from fastspan.export.lowering.builder import MICROSOFT, WeightFile
from fastspan.export.lowering.targets import CpuLowering
from fastspan.export.quantization import (
    InputStatistics,
    QuantizedLinear,
    quantize_linear,
)
from fastspan.export.rounding import quantize_columns
from fastspan.export.rounding_noise import Behind, input_noise, pairing_noise

__all__ = ["SECOND_PASS_SHARE", "Int8Lowering", "quantize_encoder", "quantized_layers"]

# Second passes may add at most this share of the quantized layers' multiplications.
SECOND_PASS_SHARE = 0.35
# A layer runs twice when the rounding of its input brings more noise than this to the sum that is
# normalized after it, as a share of that sum's variance.
_LOUD = 1e-4
# Its pairs of weights need not keep to their limit when that would bring more noise than this.
_LOUD_PAIRS = 8e-5


class Int8Lowering(CpuLowering):
    """int8 for ONNX Runtime's CPU provider: s8 weights per output channel, dynamic u8 activations.

    Token embeddings are s8 with one scale a row. Embedding sums, normalization, softmax, attention
    and the QA head stay fp32, as does every linear layer that ``quantized`` does not name. A layer of two
    passes multiplies its rounded input, and then what the rounding left over, rounded 255 times finer.

    Args:
        encoder: The model.
        quantized: Its quantized linear layers (see ``quantize_encoder``); ``arranged`` for each other here.
        weights: Where large tensors go; None puts them inside the graph.
    """

    def __init__(
        self,
        encoder: Encoder,
        quantized: Mapping[str, QuantizedLinear],
        weights: WeightFile | None = None,
    ) -> None:
        super().__init__(encoder, weights)
        self.quantized = self.arrange(quantized)

    def arrange(self, quantized: Mapping[str, QuantizedLinear]) -> Mapping[str, QuantizedLinear]:
        """The layers, each made ready for the one behind it."""
        return arranged(quantized)

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
            return super().linear(name, self.in_order(name, linear), rows)
        graph, quantized = self.graph, self.quantized[name]
        weight, weight_zero = self.weight_and_zero(name, quantized)
        scale = graph.constant(f"{name}.scale", quantized.scale)
        bias = graph.constant(f"{name}.bias", quantized.bias)
        if quantized.passes == 1 and not quantized.extra.size:
            return graph.add(
                "DynamicQuantizeMatMul", rows, weight, scale, weight_zero, bias, domain=MICROSOFT, name=name
            )
        if quantized.extra.size and not quantized.divided:
            share = graph.constant(f"{name}.share", (1 / quantized.copies).astype(np.float32))
            rows = graph.add("Mul", rows, share, name=f"{name}.input")

        def product(label: str, given: str, *bias: str) -> tuple[str, list[str]]:
            """Rows, rounded to 8 bits, by the weight; and their codes, the codes' step and zero point."""
            rounded = graph.add_many("DynamicQuantizeLinear", given, name=f"{label}.codes", outputs=3)
            codes, step, zero = rounded
            wide = self.with_copies(name, quantized, codes)
            numbers = (wide, weight, step, scale, zero, weight_zero, *bias)
            return graph.add("MatMulIntegerToFloat", *numbers, domain=MICROSOFT, name=label), rounded

        if quantized.passes == 1:
            return product(name, rows, bias)[0]
        coarse, rounded = product(f"{name}.coarse", rows, bias)
        rest = graph.add("Sub", rows, graph.add("DequantizeLinear", *rounded), name=f"{name}.rest")
        fine, _ = product(f"{name}.fine", rest)
        return graph.add("Add", coarse, fine, name=name)

    def with_copies(self, name: str, quantized: QuantizedLinear, codes: str) -> str:
        """Rounded rows, (tokens, in) u8, with the copies of split channels: (tokens, in + splits).

        Copies are made of codes, not of numbers: equal ones are rounded alike, and a code is one byte.
        """
        graph = self.graph
        size = len(quantized.copies)
        copies = [
            graph.add("Slice", codes, graph.integers(start), graph.integers(size), graph.integers(1))
            for start in quantized.tails
        ]
        if quantized.gathered.size:
            split = graph.constant(f"{name}.split", quantized.gathered)
            copies.append(graph.add("Gather", codes, split, axis=1))
        return graph.add("Concat", codes, *copies, axis=1) if copies else codes

    def weight_and_zero(self, name: str, quantized: QuantizedLinear) -> tuple[str, str]:
        """A layer's weights, (in + splits, out), and their zero points.

        s8 without zero points. Where neighbours do not keep to their limit, the same integers as u8 with zero
        points of 128, (out,): x86 processors without VNNI multiply these by another instruction, which is
        slower and never saturates.
        """
        graph = self.graph
        if quantized.paired:
            return graph.constant(f"{name}.weight", quantized.weight), ""
        shifted = (quantized.weight.astype(np.int16) + 128).astype(np.uint8)
        zero_points = np.full(quantized.scale.shape, 128, np.uint8)
        return graph.constant(f"{name}.weight", shifted), graph.constant(f"{name}.zero_points", zero_points)

    def in_order(self, name: str, linear: Linear) -> Linear:
        """A layer that stays fp32, its outputs in the order in which the next one takes them."""
        block, _, part = name.rpartition(".")
        if part != "intermediate" or f"{block}.output" not in self.quantized:
            return linear
        order = self.quantized[f"{block}.output"].order
        return Linear(np.ascontiguousarray(linear.weight[:, order]), linear.bias[order])


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
    encoder: Encoder,
    seen: Mapping[str, InputStatistics],
    keep: Collection[str] = (),
    second_pass_share: float = SECOND_PASS_SHARE,
) -> dict[str, QuantizedLinear]:
    """Quantize every linear layer but those to ``keep`` in fp32.

    Args:
        encoder: The model.
        seen: Input statistics by layer name; a layer without any is rounded as if its inputs were all alike.
        keep: Names of layers (see ``quantized_layers``) that stay fp32.
        second_pass_share: How many more multiplications second passes may cost, as a share of all that
            are quantized. The layers whose input loses most by rounding come first.
    """
    all_layers = quantized_layers(encoder)
    quantized, noise = {}, {}
    for name, linear in all_layers.items():
        if name in keep:
            continue
        statistics = seen.get(name)
        # What a feed-forward block computes in between may stand in any order.
        reorder = name.endswith(".output")
        quantized[name] = quantize_linear(linear, statistics, reorder=reorder)
        if statistics is None:
            continue
        behind = _behind(name, all_layers, seen)
        noise[name] = input_noise(linear, statistics, behind)
        if pairing_noise(linear, statistics, quantized[name], behind) > _LOUD_PAIRS:
            quantized[name] = quantize_linear(linear, statistics, reorder=reorder, paired=False)
    affordable = second_pass_share * sum(each.weight.size for each in quantized.values())
    for name in sorted(noise, key=lambda name: -noise[name]):
        affordable -= quantized[name].weight.size
        if noise[name] < _LOUD or affordable < 0:
            break
        quantized[name] = replace(quantized[name], passes=2)
    return quantized


def _behind(name: str, layers: Mapping[str, Linear], seen: Mapping[str, InputStatistics]) -> Behind | None:
    """The second layer of a feed-forward block, asked of the first."""
    block, _, part = name.rpartition(".")
    after = f"{block}.output"
    return (layers[after], seen[after]) if part == "intermediate" and after in seen else None
