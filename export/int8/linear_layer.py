"""Linear layers made fit for 8 bits: outlier channels of their inputs are split, their weights rounded.

An integer GEMM has one scale for all of its input. In encoders a few channels are twenty times larger
than the rest (for one or two tokens), so that scale spends most of its 256 steps on them. Splitting
such a channel into r copies of 1/r of its value, each with the same row of weights, leaves the product
unchanged and the range r times smaller (Zhao et al. 2019, outlier channel splitting).
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fastspan.export.graphs.model import Linear
from fastspan.export.int8.rounding import Block, round_with_compensation

__all__ = [
    "InputStatistics",
    "Integers",
    "QuantizedLinear",
    "channel_copies",
    "quantize_linear",
    "split_outliers",
]

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
# Correlations between inputs are kept within blocks of this many channels: almost all of the gain,
# and a layer of 3,072 inputs costs a fifth of a second instead of several.
BLOCK = 512
# At most one channel more for this many, so 6 % more multiplications at most.
CHANNELS_PER_SPLIT = 16
_ENOUGH = 1.2  # a channel this many times the median one needs no splitting
# A slice is an operator more; beyond so many, the few channels with still more copies are gathered.
_MOST_SLICES = 8


@dataclass(frozen=True, slots=True)
class InputStatistics:
    """What a linear layer's input looked like over the calibration texts.

    Attributes:
        low: Smallest value of each channel, (in,).
        high: Largest value of each channel, (in,).
        total: ``sum of x``, (in,) float64.
        second_moments: ``sum of xᵀx`` for each block of ``BLOCK`` neighbouring channels, float64: weights are
            rounded by them, and must be rounded alike whatever the order of the sum.
        rows: How many rows were seen.
        precision: ``sum of 1/variance``, over the rows, of the sum that the layer's output goes into and
            that is normalized next; 0 where the output is not normalized.
    """

    low: Floats
    high: Floats
    total: Doubles
    second_moments: tuple[Doubles, ...]
    rows: int
    precision: float = 0.0

    @property
    def peak(self) -> Floats:
        """Largest magnitude of each channel, (in,)."""
        return np.maximum(-self.low, self.high)

    @property
    def finite(self) -> bool:
        """Whether all that was seen are numbers."""
        return bool(np.isfinite(self.low).all() and np.isfinite(self.high).all())

    @property
    def mean(self) -> Floats:
        """Mean of each channel, (in,)."""
        return (self.total / self.rows).astype(np.float32)

    def blocks(self) -> list[Block]:
        """The second moments with the channels they are of, as rounding takes them."""
        starts = range(0, len(self.low), BLOCK)
        return [
            (np.arange(start, start + len(block)), block)
            for start, block in zip(starts, self.second_moments, strict=True)
        ]

    def joined(self, other: InputStatistics) -> InputStatistics:
        """The statistics of both samples together."""
        return InputStatistics(
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            self.total + other.total,
            tuple(a + b for a, b in zip(self.second_moments, other.second_moments, strict=True)),
            self.rows + other.rows,
            self.precision + other.precision,
        )

    def less(self, offset: Floats) -> InputStatistics:
        """The statistics had ``offset``, (in,), been taken off every row."""
        moments = []
        for number, block in enumerate(self.second_moments):
            own = slice(number * BLOCK, number * BLOCK + len(block))
            taken = offset[own].astype(np.float64)
            cross = np.outer(self.total[own], taken)
            moments.append(block - cross - cross.T + self.rows * np.outer(taken, taken))
        return replace(
            self,
            low=self.low - offset,
            high=self.high - offset,
            total=self.total - self.rows * offset.astype(np.float64),
            second_moments=tuple(moments),
        )

    def times(self, factors: Floats) -> InputStatistics:
        """The statistics had every row been multiplied by ``factors``, (in,), all above 0."""
        exact = factors.astype(np.float64)
        parts = (exact[start : start + BLOCK] for start in range(0, len(exact), BLOCK))
        return replace(
            self,
            low=self.low * factors,
            high=self.high * factors,
            total=self.total * exact,
            second_moments=tuple(
                block * np.outer(part, part) for block, part in zip(self.second_moments, parts, strict=True)
            ),
        )

    @classmethod
    def of(cls, rows: Floats, normalized: Floats | None = None) -> InputStatistics:
        """Observe rows of activations, (rows, in).

        Args:
            rows: The layer's input.
            normalized: The sum its output goes into, normalized next, (rows, out); None: there is none.
        """
        exact = rows.astype(np.float64)
        blocks = (exact[:, at : at + BLOCK] for at in range(0, rows.shape[1], BLOCK))
        precision = 0.0 if normalized is None else float((1 / normalized.var(axis=1)).sum())
        return cls(
            rows.min(axis=0),
            rows.max(axis=0),
            exact.sum(axis=0),
            tuple(block.T @ block for block in blocks),
            len(rows),
            precision,
        )


@dataclass(frozen=True, slots=True)
class QuantizedLinear:
    """``x[:, order] / copies`` with copies of split channels appended, times ``weight * scale``, plus bias.

    Attributes:
        weight: (in + splits, out), int8.
        scale: One a column, (out,) float32.
        order: The order in which the layer takes its input's channels, (in,) int; all that follows counts
            channels in this order.
        copies: Into how many parts each channel was split, (in,) int; 1 for most.
        extra: The channels whose further copies are appended after the first ``in``, in order.
        bias: (out,) float32.
        paired: Whether neighbouring rows keep to ``PAIR_LIMIT``, which holds only while they are neighbours.
        passes: 1, or 2 where what rounding the input leaves over is multiplied too.
        tails: Where ``extra`` begins with slices of the channels up to their end, the channels they begin at.
        divided: Whether the input comes with its channels divided by ``copies`` already.
        compensated: Whether the errors of rounding were made up for (see ``Rounded``).
    """

    weight: npt.NDArray[np.int8]
    scale: Floats
    order: Integers
    copies: Integers
    extra: Integers
    bias: Floats
    paired: bool = True
    passes: int = 1
    tails: tuple[int, ...] = ()
    divided: bool = False
    compensated: bool = True

    @property
    def gathered(self) -> Integers:
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


def channel_copies(seen: InputStatistics) -> Integers:
    """Into how many parts a layer splits each channel of its input, (in,) int."""
    return split_outliers(seen.peak, len(seen.low) // CHANNELS_PER_SPLIT)


def quantize_linear(
    linear: Linear,
    seen: InputStatistics | None,
    largest: int = 127,
    *,
    reorder: bool = False,
    paired: bool = True,
) -> QuantizedLinear:
    """Quantize one linear layer.

    Args:
        linear: The layer.
        seen: Statistics of its input; None splits nothing, and rounds as if all channels were alike.
        largest: Largest magnitude of a quantized weight, at most 127.
        reorder: Whether the layer before can give its channels in another order. Ordered by their copies,
            those that are split come last, and copies are slices: rows of neighbours, moved as blocks.
        paired: Whether neighbours are to keep to ``PAIR_LIMIT``.
    """
    size = linear.weight.shape[0]
    copies = np.ones(size, np.int64) if seen is None else channel_copies(seen)
    order = np.argsort(copies, kind="stable") if reorder else np.arange(size)
    copies = copies[order]
    tails: tuple[int, ...] = ()
    if reorder:
        starts = np.searchsorted(copies, np.arange(2, copies.max() + 1))
        tails = tuple(int(start) for start in starts[:_MOST_SLICES])
        extra = np.concatenate([np.arange(0), *(np.arange(start, size) for start in starts)])
    else:
        extra = np.repeat(np.arange(size), copies - 1)
    place = np.concatenate([np.arange(size), extra])
    channel = order[place]
    blocks = []
    for number, begin in enumerate(range(0, size, BLOCK)):
        rows = np.flatnonzero(channel // BLOCK == number)
        within = channel[rows] - begin
        parts = copies[place[rows]].astype(np.float64)
        moments = np.eye(min(BLOCK, size - begin)) if seen is None else seen.second_moments[number]
        together = moments[np.ix_(within, within)] / np.outer(parts, parts)
        blocks.append((rows, together))
    rounded = round_with_compensation(linear.weight[channel], blocks, largest, paired=paired)
    return QuantizedLinear(
        rounded.weight,
        rounded.scale,
        order,
        copies,
        extra,
        linear.bias,
        paired=paired,
        tails=tails,
        compensated=rounded.compensated,
    )
