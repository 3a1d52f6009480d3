"""Activations moved to the centre of what they were seen to be before they are rounded, at no cost in a run.

One scale serves all channels of a layer's input, so a channel that lies off zero widens it for nothing. Where
the input was normalized, its centre is taken off in the normalization's bias and given back in the biases of
all that reads it: the layer itself, and the layer whose output the input is added to. Attention's weights add
up to one, so what is taken off the values' bias is taken off the context. The model computes the same
(channel-wise shifting: Wei et al. 2023, Outlier Suppression+).

What the centre is depends on whose scale it is. A scale a batch is set by the farthest value of all, so the
middle of the range is best. A scale a row is set by each row itself, and most rows lie around the mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from fastspan.export.graphs.model import EncoderModel, Linear, Norm
from fastspan.export.int8.linear_layer import Floats, InputStatistics

__all__ = ["centred"]


def centred(
    encoder: EncoderModel, seen: Mapping[str, InputStatistics], at: Literal["middle", "mean"] = "middle"
) -> tuple[EncoderModel, dict[str, InputStatistics]]:
    """Centre the inputs of a model's linear layers, but for those that an activation function puts out.

    Args:
        encoder: The model.
        seen: Statistics of the inputs by layer name (see ``quantized_layers``); an input without any stays
            as it is.
        at: What is moved to zero: each channel's middle between its extremes, or its mean.

    Returns:
        The same model with other biases, and what its inputs look like.
    """
    moved = dict(seen)

    def centre(name: str, size: int) -> Floats:
        """The centre of a layer's input, (in,), which is taken off its statistics."""
        if name not in seen or not seen[name].finite:
            return np.zeros(size, np.float32)
        found = _float((seen[name].low + seen[name].high) / 2) if at == "middle" else seen[name].mean
        moved[name] = seen[name].less(found)
        return found

    width = encoder.hidden_size
    nothing = np.zeros(width, np.float32)
    projection, embedding_norm = encoder.projection, encoder.embedding_norm
    # What lies between the embeddings and the first layer, if anything does, is not normalized again.
    states = [
        centre(f"layer.{number}.attention.projection", width) if number or projection is None else nothing
        for number in range(len(encoder.layers))
    ]
    if projection is None:
        embedding_norm = _less(embedding_norm, states[0])
    else:
        offset = centre("embeddings.projection", len(projection.weight))
        embedding_norm, projection = _less(embedding_norm, offset), _reading(projection, offset)
    layers = []
    for number, (layer, state) in enumerate(zip(encoder.layers, states, strict=True)):
        inner = centre(f"layer.{number}.intermediate", width)
        context = centre(f"layer.{number}.attention_output", width)
        value = _reading(layer.value, state)
        following = states[number + 1] if number + 1 < len(states) else nothing
        layers.append(
            replace(
                layer,
                query=_reading(layer.query, state),
                key=_reading(layer.key, state),
                value=Linear(value.weight, _float(value.bias - context)),
                attention_output=_adding(_reading(layer.attention_output, context), state),
                attention_norm=_less(layer.attention_norm, inner),
                intermediate=_reading(layer.intermediate, inner),
                output=_adding(layer.output, inner),
                output_norm=_less(layer.output_norm, following),
            )
        )
    moved_encoder = replace(
        encoder, embedding_norm=embedding_norm, projection=projection, layers=tuple(layers)
    )
    return moved_encoder, moved


def _reading(linear: Linear, offset: Floats) -> Linear:
    """A layer whose input comes without ``offset``."""
    given_back = offset.astype(np.float64) @ linear.weight
    return Linear(linear.weight, _float(linear.bias + given_back))


def _adding(linear: Linear, offset: Floats) -> Linear:
    """A layer whose output is added to a state that comes without ``offset``."""
    return Linear(linear.weight, _float(linear.bias + offset))


def _less(norm: Norm, offset: Floats) -> Norm:
    """A normalization that puts out ``offset`` less."""
    return replace(norm, bias=_float(norm.bias - offset))


def _float(values: npt.NDArray[np.floating]) -> Floats:
    return values.astype(np.float32)
