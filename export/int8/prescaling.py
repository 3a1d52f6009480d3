"""Loud channels of a layer's input made quieter before they are rounded, and their weights as much louder.

One scale serves all channels of a row, so the loudest of them sets the steps of all; and one scale serves all
weights of a column. ``x @ w`` is ``(x * p) @ (w / p)``, and p chooses which of both has to bear how much
(Xiao et al. 2023, SmoothQuant). Half of each is best: with p = sqrt(largest weight / largest input), every
channel's largest input and largest weight are equally loud afterwards.

The kernels multiply by p where they round, so that the sum that the input goes into as well stays as it was.
What attention puts out is a mean of values, so there p goes into the values' weights, and costs nothing.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fastspan.export.graphs.model import Layer, Linear
from fastspan.export.int8.linear_layer import Floats, InputStatistics

__all__ = ["channel_factors", "prescaled", "with_prescaled_values"]

# No channel is made louder or quieter than the typical one by more than this: few texts say little of it.
_MOST = 64.0


def channel_factors(linear: Linear, seen: InputStatistics) -> Floats:
    """What to multiply each channel of a layer's input by, (in,); their geometric mean is about 1.

    Args:
        linear: The layer.
        seen: Statistics of its input, centred as it will be.
    """
    loud = seen.peak.astype(np.float64)
    heard = np.abs(linear.weight).max(axis=1).astype(np.float64)
    usable = np.isfinite(loud) & (loud > 0) & (heard > 0)
    if not usable.any():
        return np.ones(len(loud), np.float32)
    logs = np.zeros(len(loud))
    logs[usable] = 0.5 * (np.log(heard[usable]) - np.log(loud[usable]))
    logs[usable] -= logs[usable].mean()
    return np.exp(np.clip(logs, -np.log(_MOST), np.log(_MOST))).astype(np.float32)


def prescaled(
    linear: Linear, seen: InputStatistics | None, factors: Floats
) -> tuple[Linear, InputStatistics | None]:
    """A layer whose input comes multiplied by ``factors``, (in,), and what that input looks like."""
    weight = (linear.weight / factors[:, None].astype(np.float64)).astype(np.float32)
    return Linear(weight, linear.bias), None if seen is None else seen.times(factors)


def with_prescaled_values(layer: Layer, factors: Floats) -> Layer:
    """A transformer layer whose attention puts out ``factors`` times what it did."""
    value = Linear((layer.value.weight * factors).astype(np.float32), layer.value.bias * factors)
    return replace(layer, value=value)
