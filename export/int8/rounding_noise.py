"""How much noise the rounding of a layer's input and of its weights brings to a model, by estimate.

The measure is the sum that a layer's output goes into and that is normalized next: noise as a share of that
sum's variance. It ranks layers as ``fastspan export --int8-report`` measures them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastspan.export.graphs.model import Linear
from fastspan.export.int8.linear_layer import InputStatistics, QuantizedLinear, channel_copies
from fastspan.export.int8.rounding import column_steps

__all__ = ["Behind", "input_noise", "pairing_noise"]

# The share of noise that an activation lets through: most units are switched off, and rest in its flat part.
_THROUGH_ACTIVATION = 0.125

Behind = tuple[Linear, InputStatistics]
"""The layer behind a layer's activation, whose output is normalized, with its statistics."""


def input_noise(linear: Linear, seen: InputStatistics, behind: Behind | None = None) -> float:
    """The noise that 8 bits of input bring.

    Rounding to steps of s is noise of s²/12 in every channel; a layer passes it on by its squared weights.

    Args:
        linear: The layer.
        seen: Statistics of its input; without a ``precision`` the share is 0.
        behind: The layer behind it; None: this layer's own output is normalized.
    """
    copies = channel_copies(seen)
    step = float(max((seen.high / copies).max(), 0) - min((seen.low / copies).min(), 0)) / 255
    # The parts of a split channel are equal, so they are rounded alike and their errors add up.
    return _share(step**2 / 12 * np.square(copies) @ np.square(linear.weight), seen, behind)


def pairing_noise(
    linear: Linear, seen: InputStatistics, quantized: QuantizedLinear, behind: Behind | None = None
) -> float:
    """The noise that pairs of weights bring by keeping to their limit: that of the larger steps they need.

    Args:
        linear: The layer.
        seen: Statistics of its input; without a ``precision`` the share is 0.
        quantized: The layer with its pairs kept to their limit.
        behind: The layer behind it; None: this layer's own output is normalized.
    """
    power = np.concatenate([np.diag(moments) for moments in seen.second_moments]) / seen.rows
    larger = np.square(quantized.scale) - np.square(column_steps(linear.weight))
    return _share(larger / 12 * float((power / channel_copies(seen)).sum()), seen, behind)


def _share(noise: npt.NDArray[np.floating], seen: InputStatistics, behind: Behind | None) -> float:
    """Noise of a layer's output, (out,), as a share of the variance of what is normalized next."""
    precise = seen if behind is None else behind[1]
    if not precise.precision:
        return 0.0
    if behind is not None:
        noise = _THROUGH_ACTIVATION * noise @ np.square(behind[0].weight)
    return float(noise.mean()) * precise.precision / precise.rows
