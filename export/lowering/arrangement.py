"""What a layer can do for split channels of the next one, so that splitting costs the run less.

A split channel is divided by its number of copies, and the copies are appended (see
``fastspan.export.quantization``). Done to the input as it comes, that reads and writes all of it twice, and
gathers the copies number by number. Two layers have another one before them that does part of it for nothing,
and not a bit of the result changes but by the rounding of a scale:

- The inner channels of a feed-forward block may stand in any order. Ordered by their copies, those that are
  split are the last ones, and copies are slices: rows of neighbours, moved as blocks.
- Attention adds up values, so values divided in their own layer's scales come out of it divided.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from fastspan.export.quantization import QuantizedLinear

__all__ = ["arranged"]

# A slice is an operator more; beyond so many, the few channels with still more copies are gathered.
_MOST_SLICES = 8


def arranged(quantized: Mapping[str, QuantizedLinear]) -> dict[str, QuantizedLinear]:
    """Arrange the quantized linear layers of an encoder for the ones behind them.

    Args:
        quantized: The layers by name (see ``quantized_layers``). One whose neighbour is not among them stays
            as it is.

    Returns:
        All of them. What each pair computes together is what it did before.
    """
    found = dict(quantized)
    for name in quantized:
        block, _, part = name.rpartition(".")
        if part == "intermediate" and f"{block}.output" in quantized:
            inner, outer = found[name], found[f"{block}.output"]
            order = np.argsort(outer.copies, kind="stable")
            found[name] = _with_columns(inner, order)
            found[f"{block}.output"] = _with_channels(outer, order)
        elif name.endswith(".attention.projection"):
            after = f"{name.removesuffix('.attention.projection')}.attention_output"
            if after in quantized and quantized[after].extra.size:
                found[name] = _divided_values(found[name], quantized[after].copies)
                found[after] = replace(found[after], divided=True)
    return found


def _with_columns(layer: QuantizedLinear, order: npt.NDArray[np.int64]) -> QuantizedLinear:
    """The layer with its outputs in another order."""
    return replace(
        layer,
        weight=np.ascontiguousarray(layer.weight[:, order]),
        scale=layer.scale[order],
        bias=layer.bias[order],
    )


def _with_channels(layer: QuantizedLinear, order: npt.NDArray[np.int64]) -> QuantizedLinear:
    """The layer with its inputs in an order of ascending copies, the copies as slices."""
    size = len(order)
    copies = layer.copies[order]
    starts = np.searchsorted(copies, np.arange(2, copies.max() + 1))
    tails = tuple(int(start) for start in starts[:_MOST_SLICES])
    levels = [np.arange(start, size) for start in starts]
    extra = np.concatenate(levels) if levels else layer.extra
    # Each copy has a row of its own, rounded apart: the first of a channel stays its first.
    place = np.argsort(order)
    of_channel: dict[int, list[int]] = {}
    for row, channel in enumerate(place[layer.extra], size):
        of_channel.setdefault(int(channel), []).append(row)
    rows = [of_channel[int(channel)].pop(0) for channel in extra]
    weight = np.concatenate([layer.weight[order], layer.weight[rows]])
    return replace(layer, weight=weight, copies=copies, extra=extra, tails=tails)


def _divided_values(projection: QuantizedLinear, copies: npt.NDArray[np.int64]) -> QuantizedLinear:
    """Query, key and value with each channel of the values divided by its copies."""
    share = np.ones(len(projection.bias), np.float32)
    share[-len(copies) :] = (1 / copies).astype(np.float32)
    return replace(projection, scale=projection.scale * share, bias=projection.bias * share)
