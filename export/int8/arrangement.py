"""What a layer can do for split channels of the next one, so that splitting costs the run less.

A split channel is divided by its number of copies, and the copies are appended (see ``linear_layer``). Done
to the input as it comes, that reads and writes all of it twice, and gathers the copies number by number. Two
layers have another one before them that does part of it for nothing, and not a bit of the result changes but
by the rounding of a scale:

- The inner channels of a feed-forward block may stand in any order, so they come in the order in which the
  block's second layer takes them: copies are slices.
- Attention adds up values, so values divided in their own layer's scales come out of it divided.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from fastspan.export.int8.linear_layer import Integers, QuantizedLinear

__all__ = ["arranged", "ordered"]


def arranged(quantized: Mapping[str, QuantizedLinear]) -> dict[str, QuantizedLinear]:
    """Arrange the quantized linear layers of an encoder for the ones behind them.

    Args:
        quantized: The layers by name (see ``quantized_layers``). One whose neighbour is not among them stays
            as it is.

    Returns:
        All of them. What each pair computes together is what it did before.
    """
    found = ordered(quantized)
    for name in quantized:
        after = f"{name.removesuffix('.attention.projection')}.attention_output"
        if after in quantized and quantized[after].extra.size:
            found[name] = _divided_values(found[name], quantized[after].copies)
            found[after] = replace(found[after], divided=True)
    return found


def ordered(quantized: Mapping[str, QuantizedLinear]) -> dict[str, QuantizedLinear]:
    """Have the first layer of each feed-forward block give its channels as the second one takes them."""
    found = dict(quantized)
    for name in quantized:
        block, _, part = name.rpartition(".")
        if part == "intermediate" and f"{block}.output" in quantized:
            found[name] = _with_columns(quantized[name], quantized[f"{block}.output"].order)
    return found


def _with_columns(layer: QuantizedLinear, order: Integers) -> QuantizedLinear:
    """The layer with its outputs in another order."""
    return replace(
        layer,
        weight=np.ascontiguousarray(layer.weight[:, order]),
        scale=layer.scale[order],
        bias=layer.bias[order],
    )


def _divided_values(projection: QuantizedLinear, copies: Integers) -> QuantizedLinear:
    """Query, key and value with each channel of the values divided by its copies."""
    share = np.ones(len(projection.bias), np.float32)
    share[-len(copies) :] = (1 / copies).astype(np.float32)
    return replace(projection, scale=projection.scale * share, bias=projection.bias * share)
