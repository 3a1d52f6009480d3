"""The CPU graphs with one choice undone: the shipped lowering but for the method that made the choice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from fastspan.export.graphs.builder import MICROSOFT, WeightFile
from fastspan.export.graphs.encoder_graph import Lowering
from fastspan.export.graphs.float_graphs import CpuLowering
from fastspan.export.graphs.model import EncoderModel, Layer, Linear
from fastspan.export.int8.arrangement import ordered
from fastspan.export.int8.graph import DotProductLowering, Int8Lowering
from fastspan.export.int8.linear_layer import QuantizedLinear
from fastspan.export.int8.recipe import joined_projection, quantize_encoder

__all__ = ["GatheredCopies", "UndoneChoice", "fp32_choices", "int8_choices"]

_SHIPPED = "as shipped"


class _MaskedAttention(CpuLowering):
    """Fused attention, told which keys are padding."""

    def attention(self, name: str, layer: Layer, hidden: str) -> str:
        """Attention's context, (tokens, hidden); a mask, (batch, length), says which keys are padding."""
        graph = self.graph
        if not hasattr(self, "_mask"):
            self._mask = graph.input("attention_mask", ("batch", "length"), 6)
        query, key, value = (
            graph.add("Reshape", rows, self.hidden_shape) for rows in self.projections(name, layer, hidden)
        )
        context = graph.add(
            "MultiHeadAttention",
            query,
            key,
            value,
            "",
            self._mask,
            domain=MICROSOFT,
            name=name,
            num_heads=self.heads,
        )
        shape = graph.integers(-1, self.encoder.hidden_size)
        return graph.add("Reshape", context, shape, name=f"{name}.rows")


class _JoinedProjections(CpuLowering):
    """Query, key and value as one product."""

    def projections(self, name: str, layer: Layer, hidden: str) -> list[str]:
        """Query, key and value, (tokens, hidden) each, split from the one product."""
        rows = self.linear(f"{name}.projection", joined_projection(layer), hidden)
        return self.graph.add_many("Split", rows, axis=1, outputs=3)


class _StandardAttention(CpuLowering):
    """Attention from standard operators."""

    def attention(self, name: str, layer: Layer, hidden: str) -> str:
        """Attention's context, (tokens, hidden), as the interchange graph computes it."""
        return Lowering.attention(self, name, layer, hidden)


class _StandardActivation(CpuLowering):
    """The activation from standard operators."""

    def activation(self, name: str, rows: str) -> str:
        """The feed-forward activation, (tokens, inner), as the interchange graph computes it."""
        return Lowering.activation(self, name, rows)


class _ApartInt8(Int8Lowering):
    """Query, key and value apart: their input is quantized three times."""

    def projections(self, name: str, layer: Layer, hidden: str) -> list[str]:
        """Query, key and value, (tokens, hidden) each, by an int8 product of their own."""
        return CpuLowering.projections(self, name, layer, hidden)


class GatheredCopies(Int8Lowering):
    """Split channels copied out of each layer's input as it comes, before it is rounded."""

    def arrange(self, quantized: Mapping[str, QuantizedLinear]) -> Mapping[str, QuantizedLinear]:
        """The layers, each doing nothing for the one behind it but keeping to its order."""
        return ordered(quantized)

    def linear(self, name: str, linear: Linear, rows: str) -> str:
        """Divide, gather and join numbers, then multiply as if no channel were split."""
        graph, layer = self.graph, self.quantized[name]
        share = graph.constant(f"{name}.share", (1 / layer.copies).astype(np.float32))
        rows = graph.add("Mul", rows, share, name=f"{name}.input")
        copied = graph.add("Gather", rows, graph.constant(f"{name}.split", layer.extra), axis=1)
        rows = graph.add("Concat", rows, copied, axis=1)
        whole = replace(layer, copies=np.ones(len(layer.weight), np.int64), extra=layer.extra[:0], tails=())
        self.quantized = {**self.quantized, name: whole}
        return super().linear(name, linear, rows)


@dataclass(frozen=True, slots=True)
class UndoneChoice:
    """A graph that differs from the shipped one in one choice.

    Attributes:
        name: What was done otherwise.
        lower: Makes the graph, given the file for its weights.
        fused_norms: Whether ONNX Runtime may fuse Add and LayerNormalization.
    """

    name: str
    lower: Callable[[WeightFile], Lowering]
    fused_norms: bool = False


def fp32_choices(encoder: EncoderModel) -> list[UndoneChoice]:
    """The shipped fp32 graph first, then what each choice replaced."""
    return [
        UndoneChoice(_SHIPPED, lambda weights: CpuLowering(encoder, weights)),
        UndoneChoice("interchange graph", lambda weights: Lowering(encoder, weights), fused_norms=True),
        UndoneChoice(
            "SkipLayerNormalization", lambda weights: CpuLowering(encoder, weights), fused_norms=True
        ),
        UndoneChoice("attention with a mask", lambda weights: _MaskedAttention(encoder, weights)),
        UndoneChoice("attention not fused", lambda weights: _StandardAttention(encoder, weights)),
        UndoneChoice("activation not fused", lambda weights: _StandardActivation(encoder, weights)),
        UndoneChoice("query, key, value joined", lambda weights: _JoinedProjections(encoder, weights)),
    ]


def int8_choices(
    encoder: EncoderModel, quantized: dict[str, QuantizedLinear], *, dot_product: bool = False
) -> list[UndoneChoice]:
    """The shipped int8 graph first, then what each choice replaced; some of them lose accuracy.

    Args:
        encoder: The model.
        quantized: Its quantized layers.
        dot_product: Whether the CPU sums 8-bit products in one instruction, so that the twin is what runs.
    """
    once = {name: replace(layer, passes=1) for name, layer in quantized.items()}
    unsigned = {name: replace(layer, paired=False) for name, layer in quantized.items()}
    unsplit = {name: replace(layer, passes=1) for name, layer in quantize_encoder(encoder, {}).items()}
    apart = {
        **once,
        **{
            f"layer.{number}.attention.{part}": _columns(once[f"layer.{number}.attention.projection"], place)
            for number in range(len(encoder.layers))
            for place, part in enumerate(("query", "key", "value"))
        },
    }
    shipped = DotProductLowering if dot_product else Int8Lowering
    no_twin = UndoneChoice("no twin", lambda weights: Int8Lowering(encoder, quantized, weights))
    return [
        UndoneChoice(_SHIPPED, lambda weights: shipped(encoder, quantized, weights)),
        *([no_twin] if dot_product else []),
        UndoneChoice("weights as u8", lambda weights: Int8Lowering(encoder, unsigned, weights)),
        UndoneChoice("split channels gathered", lambda weights: GatheredCopies(encoder, quantized, weights)),
        UndoneChoice("no second passes", lambda weights: shipped(encoder, once, weights)),
        UndoneChoice("nor split channels", lambda weights: shipped(encoder, unsplit, weights)),
        UndoneChoice("no second passes; q, k, v apart", lambda weights: _ApartInt8(encoder, apart, weights)),
        UndoneChoice("fp32", lambda weights: CpuLowering(encoder, weights)),
    ]


def _columns(layer: QuantizedLinear, third: int) -> QuantizedLinear:
    """Query, key or value of a joined projection."""
    size = len(layer.bias) // 3
    columns = slice(third * size, (third + 1) * size)
    return replace(
        layer,
        weight=np.ascontiguousarray(layer.weight[:, columns]),
        scale=layer.scale[columns],
        bias=layer.bias[columns],
    )
