"""The int8 graph, and which of a model's linear layers it quantizes, and how often."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import TensorProto

from fastspan.export.graphs.builder import MICROSOFT, WeightFile
from fastspan.export.graphs.float_graphs import CpuLowering
from fastspan.export.graphs.model import EncoderModel, Layer, Linear
from fastspan.export.int8.arrangement import arranged
from fastspan.export.int8.linear_layer import (
    QuantizedLinear,
)
from fastspan.export.int8.recipe import joined_projection
from fastspan.export.int8.rounding import word_codes

__all__ = ["DotProductLowering", "Int8Lowering"]


_ZERO = 128  # the zero point of weights that are stored as u8


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
        encoder: EncoderModel,
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
        codes, scale = word_codes(self.encoder.words)
        table = graph.constant("embeddings.words", codes)
        scales = graph.constant("embeddings.words.scale", scale)
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
        zero_points = np.full(quantized.scale.shape, _ZERO, np.uint8)
        return self.shifted(name, quantized), graph.constant(f"{name}.zero_points", zero_points)

    def shifted(self, name: str, quantized: QuantizedLinear) -> str:
        """A layer's weights as u8, (in + splits, out), above zero points of 128."""
        return self.graph.constant(
            f"{name}.weight", (quantized.weight.astype(np.int16) + _ZERO).astype(np.uint8)
        )

    def in_order(self, name: str, linear: Linear) -> Linear:
        """A layer that stays fp32, its outputs in the order in which the next one takes them."""
        block, _, part = name.rpartition(".")
        if part != "intermediate" or f"{block}.output" not in self.quantized:
            return linear
        order = self.quantized[f"{block}.output"].order
        return Linear(np.ascontiguousarray(linear.weight[:, order]), linear.bias[order])


class DotProductLowering(Int8Lowering):
    """The same for CPUs that sum 8-bit products in one instruction (VNNI, the dot product of arm64).

    Their sums of products do not saturate, so all weights may be s8, which ONNX Runtime multiplies faster
    than u8. The graph makes them out of the other graph's, while ONNX Runtime loads it: both read the same
    file, and give the same bits, because the integers that are summed up are the same.
    """

    def weight_and_zero(self, name: str, quantized: QuantizedLinear) -> tuple[str, str]:
        """A layer's weights, (in + splits, out) s8, without zero points."""
        if quantized.paired:
            return super().weight_and_zero(name, quantized)
        graph = self.graph
        wide = graph.add("Cast", self.shifted(name, quantized), to=TensorProto.INT32)
        moved = graph.add("Sub", wide, graph.constant("zero_of_u8", np.array(_ZERO, np.int32)))
        return graph.add("Cast", moved, to=TensorProto.INT8, name=f"{name}.signed"), ""
