"""Weights and activations made fit for 8 bits: outlier channels are split, weights rounded with care.

An integer GEMM has one scale for all of its input. In encoders a few channels are twenty times larger
than the rest (for one or two tokens), so that scale spends most of its 256 steps on them. Splitting
such a channel into r copies of 1/r of its value, each with the same row of weights, leaves the product
unchanged and the range r times smaller (Zhao et al. 2019, outlier channel splitting).

Rounding each weight to the nearest step is not the best rounding of the layer: the error of one row
can be made up for in the rows after it, weighted by how the inputs vary together (Frantar et al. 2022,
GPTQ, after LeCun's optimal brain surgeon).
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastspan.export.architecture import Linear

__all__ = [
    "InputStatistics",
    "QuantizedLinear",
    "noise_share",
    "quantize_columns",
    "quantize_linear",
    "split_outliers",
]

Floats = npt.NDArray[np.float32]
# Correlations between inputs are kept within blocks of this many channels: almost all of the gain,
# and a layer of 3,072 inputs costs a fifth of a second instead of several.
BLOCK = 512
# At most one channel more for this many, so 6 % more multiplications at most.
CHANNELS_PER_SPLIT = 16
_ENOUGH = 1.2  # a channel this many times the median one needs no splitting
_DAMPING = 0.01
# The share of noise that an activation lets through: most units are switched off, and rest in its flat part.
# Set so that estimates of layers before and after it rank as ``fastspan export --int8-report`` measures them.
_THROUGH_ACTIVATION = 0.125


@dataclass(frozen=True, slots=True)
class InputStatistics:
    """What a linear layer's input looked like over the calibration texts.

    Attributes:
        low: Smallest value of each channel, (in,).
        high: Largest value of each channel, (in,).
        second_moments: ``sum of xᵀx`` for each block of ``BLOCK`` neighbouring channels.
        rows: How many rows were seen.
        precision: ``sum of 1/variance``, over the rows, of the sum that the layer's output goes into and
            that is normalized next; 0 where the output is not normalized.
    """

    low: Floats
    high: Floats
    second_moments: tuple[Floats, ...]
    rows: int
    precision: float = 0.0

    @property
    def peak(self) -> Floats:
        """Largest magnitude of each channel, (in,)."""
        return np.maximum(-self.low, self.high)

    def joined(self, other: InputStatistics) -> InputStatistics:
        """The statistics of both samples together."""
        return InputStatistics(
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            tuple(a + b for a, b in zip(self.second_moments, other.second_moments, strict=True)),
            self.rows + other.rows,
            self.precision + other.precision,
        )

    @classmethod
    def of(cls, rows: Floats, normalized: Floats | None = None) -> InputStatistics:
        """Observe rows of activations, (rows, in).

        Args:
            rows: The layer's input.
            normalized: The sum its output goes into, normalized next, (rows, out); None: there is none.
        """
        blocks = (rows[:, at : at + BLOCK] for at in range(0, rows.shape[1], BLOCK))
        precision = 0.0 if normalized is None else float((1 / normalized.var(axis=1)).sum())
        return cls(
            rows.min(axis=0),
            rows.max(axis=0),
            tuple(block.T @ block for block in blocks),
            len(rows),
            precision,
        )


@dataclass(frozen=True, slots=True)
class QuantizedLinear:
    """``(x * divisor⁻¹)`` with split channels appended, times ``weight * scale``, plus bias.

    Attributes:
        weight: (in + splits, out), int8.
        scale: One a column, (out,) float32.
        copies: Into how many parts each channel was split, (in,) int; 1 for most.
        extra: The channels whose further copies are appended after the first ``in``, in order.
        bias: (out,) float32.
        passes: 1, or 2 where what rounding the input leaves over is multiplied too.
        tails: Where ``extra`` begins with slices of the channels up to their end, the channels they begin at.
        divided: Whether the input comes with its channels divided by ``copies`` already.
    """

    weight: npt.NDArray[np.int8]
    scale: Floats
    copies: npt.NDArray[np.int64]
    extra: npt.NDArray[np.int64]
    bias: Floats
    passes: int = 1
    tails: tuple[int, ...] = ()
    divided: bool = False

    @property
    def gathered(self) -> npt.NDArray[np.int64]:
        """What of ``extra`` is no slice."""
        return self.extra[sum(len(self.copies) - start for start in self.tails) :]


def split_outliers(peak: Floats, limit: int) -> npt.NDArray[np.int64]:
    """Choose how many copies of each channel make the largest remaining magnitude smallest.

    Args:
        peak: Largest magnitude of each channel, (in,).
        limit: Most copies to add.

    Returns:
        Copies of each channel, (in,), at least 1.
    """
    copies = np.ones(len(peak), np.int64)
    enough = _ENOUGH * float(np.median(peak))
    heap = [(-float(value), index) for index, value in enumerate(peak)]
    heapq.heapify(heap)
    for _ in range(limit):
        largest, index = heap[0]
        if -largest <= enough:
            break
        copies[index] += 1
        heapq.heapreplace(heap, (-float(peak[index]) / float(copies[index]), index))
    return copies


def quantize_columns(weight: Floats, largest: int = 127) -> tuple[npt.NDArray[np.int8], Floats]:
    """Quantize a matrix symmetrically, to the nearest step, one scale a column.

    Args:
        weight: (in, out), float32.
        largest: Largest magnitude of a quantized value, at most 127.

    Returns:
        The quantized matrix, (in, out) int8, and the scales, (out,) float32:
        ``quantized * scales`` approximates ``weight``.
    """
    scale = _scales(weight, largest)
    return np.clip(np.rint(weight / scale), -largest, largest).astype(np.int8), scale


def quantize_linear(linear: Linear, seen: InputStatistics | None, largest: int = 127) -> QuantizedLinear:
    """Quantize one linear layer.

    Args:
        linear: The layer.
        seen: Statistics of its input; None rounds to nearest and splits nothing.
        largest: Largest magnitude of a quantized weight, at most 127.
    """
    size = linear.weight.shape[0]
    if seen is None:
        weight, scale = quantize_columns(linear.weight, largest)
        none = np.empty(0, np.int64)
        return QuantizedLinear(weight, scale, np.ones(size, np.int64), none, linear.bias)
    copies = split_outliers(seen.peak, size // CHANNELS_PER_SPLIT)
    scale = _scales(linear.weight, largest)
    weight = np.empty((int(copies.sum()), linear.weight.shape[1]), np.int8)
    extra = np.repeat(np.arange(size), copies - 1)
    for number, moments in enumerate(seen.second_moments):
        at = number * BLOCK
        block = np.arange(at, min(at + BLOCK, size))
        appended = np.flatnonzero((extra >= at) & (extra < at + BLOCK))
        channels = np.concatenate([block, extra[appended]])
        places = np.concatenate([block, size + appended])
        parts = copies[channels].astype(np.float64)
        local = channels - at
        together = moments.astype(np.float64)[np.ix_(local, local)] / np.outer(parts, parts)
        # The loudest channels first: their errors weigh most, and all other rows can make up for them.
        order = np.argsort(-np.diag(together), kind="stable")
        weight[places[order]] = _round_with_compensation(
            linear.weight[channels[order]], together[np.ix_(order, order)], scale, largest
        )
    return QuantizedLinear(weight, scale, copies, extra, linear.bias)


def noise_share(
    linear: Linear,
    seen: InputStatistics,
    copies: npt.NDArray[np.int64],
    behind: tuple[Linear, InputStatistics] | None = None,
) -> float:
    """How much noise 8 bits of input bring to the sum that is normalized next, as a share of its variance.

    Rounding to steps of s is noise of s²/12 in every channel; a layer passes it on by its squared weights.

    Args:
        linear: The layer.
        seen: Statistics of its input; without a ``precision`` the share is 0.
        copies: Into how many parts each channel is split, (in,).
        behind: The layer behind this one's activation, whose output is normalized, and its statistics;
            None: this layer's own output is.
    """
    precise = seen if behind is None else behind[1]
    if not precise.precision:
        return 0.0
    step = float(max((seen.high / copies).max(), 0) - min((seen.low / copies).min(), 0)) / 255
    # The parts of a split channel are equal, so they are rounded alike and their errors add up.
    noise = step**2 / 12 * np.square(copies) @ np.square(linear.weight)
    if behind is not None:
        noise = _THROUGH_ACTIVATION * noise @ np.square(behind[0].weight)
    return float(noise.mean()) * precise.precision / precise.rows


def _scales(weight: Floats, largest: int) -> Floats:
    peak = np.abs(weight).max(axis=0)
    return np.where(peak > 0, peak, 1.0).astype(np.float32) / np.float32(largest)


def _round_with_compensation(
    weight: Floats, moments: npt.NDArray[np.float64], scale: Floats, largest: int
) -> npt.NDArray[np.int8]:
    """GPTQ: round row after row, spreading each row's error over the rows that follow."""
    size = len(weight)
    mean = float(np.trace(moments)) / size
    damped = moments + np.eye(size) * (_DAMPING * mean if mean > 0 else 1.0)
    upper = np.linalg.cholesky(np.linalg.inv(damped)).T
    upper = upper.astype(np.float32)
    rest = weight.copy()
    rounded = np.empty(weight.shape, np.int8)
    step = 64  # rows settled one by one before their error reaches the rows beyond, in one product
    for begin in range(0, size, step):
        end = min(begin + step, size)
        errors = np.empty((end - begin, weight.shape[1]), np.float32)
        for row in range(begin, end):
            rounded[row] = np.clip(np.rint(rest[row] / scale), -largest, largest)
            error = (rest[row] - rounded[row] * scale) / upper[row, row]
            rest[row + 1 : end] -= np.outer(upper[row, row + 1 : end], error)
            errors[row - begin] = error
        rest[end:] -= upper[begin:end, end:].T @ errors
    return rounded
