"""Linear layers for the int8 kernels: what is multiplied where, and weights rounded for it.

The kernels round every row of a layer's input by itself, between its smallest and its largest value. What
that leaves of the error is decided here, before anything runs: activations are centred on their mean, loud
channels are made quieter, errors of weights are made up for in other weights, and what they still do to the
mean output goes into the bias.

One scale for all channels of a row is the fastest; groups of channels with a scale each are closer. The
input of a feed-forward block's second layer always has groups: it is the widest, what the activation lets
through is loud in few channels, and the kernels round it group by group anyway, where they compute it.
Elsewhere groups cost time, so they are where they do most: an error of an early layer passes through all that
follow, and what attention puts out is a mean, of which no channel is loud. ``docs/performance.md`` has what
other choices give.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fastspan.export.graphs.model import EncoderModel, Linear
from fastspan.export.int8.centering import centred
from fastspan.export.int8.linear_layer import BLOCK, Floats, InputStatistics
from fastspan.export.int8.prescaling import channel_factors, prescaled, with_prescaled_values
from fastspan.export.int8.recipe import quantized_layers
from fastspan.export.int8.rounding import Block, round_in_groups

__all__ = [
    "GroupOf",
    "KernelLinear",
    "group_of",
    "quantize_for_kernels",
    "round_for_kernels",
    "unfit_for_kernels",
]

GroupOf = Callable[[str, int, int], int]
"""A layer's name, the size of its input and the number of transformer layers, to the channels of a group."""

# Sizes and groups are multiples of this many channels, heads' sizes of fewer.
_STEP = 64
_HEAD_STEP = 16
# So many of the layers, from the first, are early: errors of the others hardly reach the answers.
_EARLY = 2 / 3
# The widest groups of a feed-forward block's inner channels, in early layers and in the others.
_INNER_GROUP_EARLY, _INNER_GROUP = 128, 256


@dataclass(frozen=True, slots=True)
class KernelLinear:
    """``x * prescale`` by ``weight * scale``, each scale for a column and a group of channels, plus ``bias``.

    Attributes:
        weight: (in, out) int8, from -127 to 127.
        scale: (groups, out) float32, of groups of neighbouring input channels.
        bias: (out,) float32.
        prescale: (in,) float32; None where the layer before has multiplied by it.
        compensated: Whether the errors of rounding were made up for (see ``Rounded``).
    """

    weight: npt.NDArray[np.int8]
    scale: Floats
    bias: Floats
    prescale: Floats | None = None
    compensated: bool = True


def unfit_for_kernels(encoder: EncoderModel) -> str | None:
    """Say why the kernels cannot run a model, as a clause; None where they can."""
    inner = encoder.layers[0].intermediate.weight.shape[1]
    sizes = {"embedding": encoder.words.shape[1], "hidden": encoder.hidden_size, "feed-forward": inner}
    for what, size in sizes.items():
        if size % _STEP:
            return f"its {what} size, {size}, is no multiple of {_STEP}"
    if (size := encoder.hidden_size // encoder.heads) % _HEAD_STEP:
        return f"the size of its attention heads, {size}, is no multiple of {_HEAD_STEP}"
    if encoder.words.shape[1] == encoder.hidden_size and encoder.projection is not None:
        return "its embeddings are projected to the size that they have"
    norms = [each for layer in encoder.layers for each in (layer.attention_norm, layer.output_norm)]
    if len({norm.epsilon for norm in (encoder.embedding_norm, *norms)}) > 1:
        return "its normalizations differ in their epsilon"
    return None


def quantize_for_kernels(
    encoder: EncoderModel, seen: Mapping[str, InputStatistics], groups: GroupOf | None = None
) -> tuple[EncoderModel, dict[str, KernelLinear]]:
    """Centre a model's activations and round its linear layers.

    Args:
        encoder: The model; ``unfit_for_kernels`` has nothing against it.
        seen: Input statistics by layer name; a layer without any is rounded as if its inputs were all alike.
        groups: Which channels of a layer's input share a scale; None: as ``group_of`` says.

    Returns:
        The same model with other biases and other weights of its values, and its layers by the names of
        ``quantized_layers``.
    """
    encoder, seen = centred(encoder, seen, "mean")
    layers = quantized_layers(encoder)
    factors = {
        name: channel_factors(linear, seen[name]) if name in seen else np.ones(len(linear.weight), np.float32)
        for name, linear in layers.items()
    }
    moved = replace(
        encoder,
        layers=tuple(
            with_prescaled_values(layer, factors[f"layer.{number}.attention_output"])
            for number, layer in enumerate(encoder.layers)
        ),
    )
    rounded = {}
    groups = groups or group_of
    for name, linear in quantized_layers(moved).items():
        linear, statistics = prescaled(linear, seen.get(name), factors[name])
        found = round_for_kernels(linear, statistics, groups(name, len(linear.weight), len(encoder.layers)))
        from_values = name.endswith(".attention_output")
        rounded[name] = found if from_values else replace(found, prescale=factors[name])
    return moved, rounded


def round_for_kernels(linear: Linear, seen: InputStatistics | None, group: int) -> KernelLinear:
    """Round one linear layer.

    Args:
        linear: The layer.
        seen: Statistics of its input; None rounds as if all channels were alike and had a mean of zero.
        group: Input channels that share a scale; divides them.
    """
    if seen is None or not seen.finite:
        rounded = round_in_groups(linear.weight, _alike(len(linear.weight)), group)
        compensated = seen is None and rounded.compensated
        return KernelLinear(rounded.weight, rounded.scale, linear.bias, compensated=compensated)
    # What an error does to the mean output goes into the bias, so only what varies needs to be made up for.
    mean = seen.mean
    rounded = round_in_groups(linear.weight, seen.less(mean).blocks(), group)
    error = linear.weight - rounded.weight * np.repeat(rounded.scale.astype(np.float64), group, axis=0)
    bias = (linear.bias + mean.astype(np.float64) @ error).astype(np.float32)
    return KernelLinear(rounded.weight, rounded.scale, bias, compensated=rounded.compensated)


def _alike(size: int) -> list[Block]:
    rows = (np.arange(start, min(start + BLOCK, size)) for start in range(0, size, BLOCK))
    return [(each, np.eye(len(each))) for each in rows]


def group_of(name: str, size: int, layers: int) -> int:
    """How many channels of a layer's input share a scale.

    Args:
        name: The layer's name, as in ``quantized_layers``.
        size: Channels of its input.
        layers: Transformer layers of the model.
    """
    block, _, part = name.removeprefix("layer.").partition(".")
    early = block.isdigit() and int(block) < math.ceil(_EARLY * layers)
    if part == "output":
        return _divisor(size, _INNER_GROUP_EARLY if early else _INNER_GROUP)
    halved = early and part != "attention_output" and size % (2 * _STEP) == 0
    return size // 2 if halved else size


def _divisor(size: int, most: int) -> int:
    """The largest multiple of ``_STEP``, at most ``most``, that divides ``size``."""
    return next(group for group in range(most, 0, -_STEP) if size % group == 0)
