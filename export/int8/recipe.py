"""How the plain int8 graph is made: which layers are observed, split, rounded, and multiplied twice.

Our own kernels round otherwise: see ``kernel_layers``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fastspan.export.graphs.model import EncoderModel, Layer, Linear
from fastspan.export.int8.centering import centred
from fastspan.export.int8.linear_layer import (
    InputStatistics,
    QuantizedLinear,
    quantize_linear,
)
from fastspan.export.int8.observation import calibration_windows, observe_inputs
from fastspan.export.int8.rounding_noise import Behind, input_noise, pairing_noise
from fastspan.text.encoder import Encoder as TextEncoder

__all__ = ["SECOND_PASS_SHARE", "Int8Recipe", "joined_projection", "quantize_encoder", "quantized_layers"]


# Second passes may add at most this share of the quantized layers' multiplications.
SECOND_PASS_SHARE = 0.35


# A layer runs twice when the rounding of its input brings more noise than this to the sum that is
# normalized after it, as a share of that sum's variance.
_LOUD = 1e-4


# Its pairs of weights need not keep to their limit when that would bring more noise than this.
_LOUD_PAIRS = 8e-5


def joined_projection(layer: Layer) -> Linear:
    """Query, key and value as one linear layer, in that order along its output."""
    parts = (layer.query, layer.key, layer.value)
    return Linear(
        np.concatenate([part.weight for part in parts], axis=1), np.concatenate([part.bias for part in parts])
    )


def quantized_layers(encoder: EncoderModel) -> dict[str, Linear]:
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
    encoder: EncoderModel,
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


# Texts × parameters that may be observed: all 64 texts for small models, 16 for large ones.
_OBSERVED_WORK = 700_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Recipe:
    """How int8 is made.

    Attributes:
        texts: JSONL file of ``question`` and ``context`` to observe activations on; None: the
            project's own texts.
        windows: Most texts to observe; None: as many as a model of this size affords, from 16 to 64.
        keep: Names of linear layers that stay fp32.
        second_pass_share: How many more multiplications second passes may cost (see ``quantize_encoder``);
            0 makes the fastest graph.
    """

    texts: Path | None = None
    windows: int | None = None
    keep: Collection[str] = ()
    second_pass_share: float = SECOND_PASS_SHARE

    def observe(self, encoder: EncoderModel, texts: TextEncoder, threads: int) -> dict[str, InputStatistics]:
        """Run the encoder over the texts, and gather what the inputs of its layers look like."""
        parameters = sum(linear.weight.size for linear in quantized_layers(encoder).values())
        affordable = min(64, max(16, _OBSERVED_WORK // parameters))
        longest = min(384, encoder.max_positions)
        windows = calibration_windows(texts, self.windows or affordable, self.texts, longest)
        return observe_inputs(encoder, windows, threads)

    def quantize(
        self, encoder: EncoderModel, seen: Mapping[str, InputStatistics]
    ) -> tuple[EncoderModel, dict[str, QuantizedLinear]]:
        """Centre the encoder's activations and quantize its layers, for ONNX Runtime's own operators."""
        encoder, seen = centred(encoder, seen)
        return encoder, quantize_encoder(encoder, seen, self.keep, self.second_pass_share)
