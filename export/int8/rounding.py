"""Weights rounded to 8 bits: with care for what a layer puts out, and for what processors can multiply.

Rounding each weight to the nearest step is not the best rounding of the layer: the error of one row
can be made up for in the rows after it, weighted by how the inputs vary together (Frantar et al. 2022,
GPTQ, after LeCun's optimal brain surgeon).

x86 processors without VNNI multiply u8 by s8 with an instruction that adds the products of two neighbouring
rows in 16 bits, and saturates. Weights of 7 bits never reach that; nor do weights of 8 bits of which no two
neighbours of a column add up to more than 128, because 255 · 128 < 2¹⁵. A column keeps to that with steps as
much larger as its largest pair asks for: by a third, say, where 7 bits would double them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = [
    "PAIR_LIMIT",
    "Block",
    "Rounded",
    "column_steps",
    "quantize_columns",
    "round_in_groups",
    "round_with_compensation",
    "word_codes",
]

PAIR_LIMIT = 128
"""Largest magnitude of the sum of weights ``2i`` and ``2i + 1`` of a column."""

# Of the mean second moment: what is added to each channel's own. With the largest, correlations hardly count.
_DAMPINGS = (0.01, 0.1, 1.0, 10.0)
# Copies of a channel make weights that lie half-way between two steps, but for the last digits of a sum. A
# little further on, nothing lies there.
_ASIDE = 2.0**-30
# Cutting a weight off costs far more than slightly larger steps do. A column of which one had to be cut off
# is rounded again with larger ones; the first are so large that the weights themselves fit.
_LARGER = np.float32(1.03)
TRIES = 12

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Block = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]
"""Rows of a layer, and ``xᵀx`` of their inputs, (rows, rows): between blocks, inputs count as unrelated."""


class Rounded(NamedTuple):
    """A matrix rounded to 8 bits: ``weight * scale`` approximates it.

    Attributes:
        weight: (in, out) int8.
        scale: The steps, float32: (out,), or (groups, out) where each group of input channels has its own.
        compensated: Whether errors were made up for; if not, each weight was rounded to the nearest step,
            because nothing usable is known of the inputs.
    """

    weight: npt.NDArray[np.int8]
    scale: Floats
    compensated: bool


def column_steps(weight: Floats, largest: int = 127) -> Floats:
    """The steps of a matrix, (in, out), quantized symmetrically with one scale a column: (out,) float32."""
    peak = np.abs(weight).max(axis=0)
    return np.where(peak > 0, peak, 1.0).astype(np.float32) / np.float32(largest)


def word_codes(words: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """Round an embedding table to codes with a scale a row.

    Args:
        words: (vocabulary, width), float32.

    Returns:
        Codes of the same shape, and scales. *Shape:* ``(vocabulary, 1)``.
    """
    codes, scale = quantize_columns(np.ascontiguousarray(words.T))
    return np.ascontiguousarray(codes.T), scale[:, None]


def quantize_columns(weight: Floats, largest: int = 127) -> tuple[npt.NDArray[np.int8], Floats]:
    """Quantize a matrix symmetrically, to the nearest step, one scale a column.

    Args:
        weight: (in, out), float32.
        largest: Largest magnitude of a quantized value, at most 127.

    Returns:
        The quantized matrix, (in, out) int8, and the scales, (out,) float32:
        ``quantized * scales`` approximates ``weight``.
    """
    scale = column_steps(weight, largest)
    return np.clip(np.rint(weight / scale), -largest, largest).astype(np.int8), scale


def round_with_compensation(
    weight: Floats, blocks: Sequence[Block], largest: int = 127, *, paired: bool = True, tries: int = TRIES
) -> Rounded:
    """GPTQ: round row after row, spreading each row's error over the rows of its block that follow.

    Args:
        weight: (rows, out), float32, its rows in the order in which they are multiplied.
        blocks: What is known of their inputs; each row is in one block.
        largest: Largest magnitude of a rounded weight, at most 127.
        paired: Whether neighbours are to keep to ``PAIR_LIMIT``.
        tries: How often a column is rounded, with larger and larger steps; the last try stands.

    Returns:
        The rounded weights with steps of (out,).
    """
    prepared, compensated = _prepared(blocks)
    scale = column_steps(weight, largest)
    limit = 2 * largest
    if paired:
        limit = PAIR_LIMIT
        even = weight if len(weight) % 2 == 0 else np.concatenate([weight, np.zeros_like(weight[:1])])
        scale = np.maximum(scale, np.abs(even[0::2] + even[1::2]).max(axis=0) / np.float32(limit - 1))
    rounded = np.zeros(weight.shape, np.int8)
    columns = np.arange(weight.shape[1])
    for left in reversed(range(tries)):
        tried = np.zeros((len(weight), len(columns)), np.int8)
        cut = np.zeros(len(columns), np.bool_)
        for rows, upper in prepared:
            given = weight[np.ix_(rows, columns)]
            steps = np.broadcast_to(scale[columns], given.shape)
            cut |= _round_block(given, upper, steps, (largest, limit), tried, rows)
        rounded[:, columns] = tried
        columns = columns[cut]
        if not (columns.size and left):
            break
        scale[columns] *= _LARGER
    return Rounded(rounded, scale, compensated)


def round_in_groups(weight: Floats, blocks: Sequence[Block], group: int) -> Rounded:
    """The same with a step for each column and group of neighbouring rows, and no limit on pairs.

    A weight that compensation carries beyond its group's range is cut off, which its followers make up for.

    Args:
        weight: (rows, out), float32.
        blocks: What is known of their inputs; each row is in one block.
        group: Rows that share a step; divides the rows.

    Returns:
        The rounded weights with steps of (rows / group, out).
    """
    prepared, compensated = _prepared(blocks)
    grouped = weight.reshape(-1, group, weight.shape[1])
    scale = np.stack([column_steps(rows) for rows in grouped])
    steps = np.repeat(scale, group, axis=0)
    rounded = np.zeros(weight.shape, np.int8)
    for rows, upper in prepared:
        _round_block(weight[rows], upper, steps[rows], (127, 254), rounded, rows)
    return Rounded(rounded, scale, compensated)


def _prepared(blocks: Sequence[Block]) -> tuple[list[tuple[npt.NDArray[np.int64], Doubles]], bool]:
    """Each block's rows in the order in which they are rounded, with their ``_compensation``.

    Returns:
        These, and whether every block has one.
    """
    prepared, compensated = [], True
    for rows, moments in blocks:
        # The loudest channels first: their errors weigh most, and all other rows can make up for them.
        loudest = np.argsort(-np.diag(moments), kind="stable")
        upper = _compensation(moments[np.ix_(loudest, loudest)])
        compensated &= upper is not None
        prepared.append((rows[loudest], np.eye(len(rows)) if upper is None else upper))
    return prepared, compensated


def _compensation(moments: Doubles) -> Doubles | None:
    """How the error of each row is made up for in those after it: the upper factor of the damped inverse.

    Returns:
        (rows, rows); None where the moments are so odd, not being finite for one, that there is none.
    """
    if not np.isfinite(moments).all():
        return None
    size = len(moments)
    mean = float(np.trace(moments)) / size
    for damping in _DAMPINGS:
        damped = moments + np.eye(size) * (damping * mean if mean > 0 else 1.0)
        try:
            factor: Doubles = np.linalg.cholesky(np.linalg.inv(damped)).T
        except np.linalg.LinAlgError:
            continue
        if np.isfinite(factor).all():
            return factor
    return None


def _round_block(
    weight: Floats,
    upper: Doubles,
    scale: Floats,
    limits: tuple[int, int],
    rounded: npt.NDArray[np.int8],
    places: npt.NDArray[np.int64],
) -> npt.NDArray[np.bool_]:
    """Round a block's rows.

    Args:
        weight: (rows, out), float32, in the order in which they are rounded.
        upper: Their ``_compensation``.
        scale: The step of each weight, (rows, out).
        limits: Largest magnitude of a rounded weight, and of the sum of a pair.
        rounded: Where the layer's rounded rows go, zero where there is none yet.
        places: Where each of these rows goes.

    Returns:
        The columns of which a weight was cut off, (out,): their steps are too small.
    """
    largest, pair = limits
    size = len(weight)
    rest = weight.astype(np.float64)
    steps = scale.astype(np.float64)
    cut = np.zeros(weight.shape[1], np.bool_)
    step = 64  # rows settled one by one before their error reaches the rows beyond, in one product
    for begin in range(0, size, step):
        end = min(begin + step, size)
        errors = np.empty((end - begin, weight.shape[1]))
        for row in range(begin, end):
            place = places[row]
            partner = rounded[place ^ 1].astype(np.int16) if place ^ 1 < len(rounded) else 0
            nearest = np.rint(rest[row] / steps[row] + _ASIDE)
            lowest, highest = np.maximum(-largest, -pair - partner), np.minimum(largest, pair - partner)
            settled = np.clip(nearest, lowest, highest)
            cut |= settled != nearest
            rounded[place] = settled
            error = (rest[row] - settled * steps[row]) / upper[row, row]
            rest[row + 1 : end] -= np.outer(upper[row, row + 1 : end], error)
            errors[row - begin] = error
        rest[end:] -= upper[begin:end, end:].T @ errors
    return cut
