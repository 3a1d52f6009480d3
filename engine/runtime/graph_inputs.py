"""Windows as the inputs of graphs: padded in rows, or joined end to end. Pure numpy.

A packed graph has no padding and no mask: attention reads from ``cumulative_sequence_length`` where each
window begins. That also lets a single window run at a fixed size, as CUDA graphs need it: what fills the size
up is packed behind it as a window of its own, which the first never sees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastspan.text.encoder import Window

__all__ = ["BUCKET_STEP", "Packed", "bucket_for", "bucket_lengths", "in_rows", "join", "pack", "pad"]

BUCKET_STEP = 32
"""Lengths of single windows are rounded up to a multiple of this many tokens."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Windows as the inputs of a packed graph.

    Attributes:
        feeds: Input name → int32 array: ``input_ids``, ``token_type_ids`` and ``position_ids`` of (tokens,),
            ``token_offset`` of (windows, longest), ``cumulative_sequence_length`` of (windows + 1,).
        lengths: Tokens in each of the windows that were asked for.
    """

    feeds: Mapping[str, NDArray[np.int32]]
    lengths: tuple[int, ...]

    def unpack(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Lay packed logits out in rows.

        Args:
            logits: *Shape:* ``(tokens,)``.

        Returns:
            *Shape:* ``(windows, longest)``, zero beyond a window's own length.
        """
        return in_rows(logits, self.lengths)


def in_rows(logits: NDArray[np.float32], lengths: Sequence[int]) -> NDArray[np.float32]:
    """Lay the logits of windows joined end to end out in rows.

    Args:
        logits: *Shape:* ``(tokens,)``, those of the windows first.
        lengths: Tokens in each window.

    Returns:
        *Shape:* ``(windows, longest)``, zero beyond a window's own length.
    """
    rows = np.zeros((len(lengths), max(lengths)), logits.dtype)
    begin = 0
    for row, length in zip(rows, lengths, strict=True):
        row[:length] = logits[begin : begin + length]
        begin += length
    return rows


def pad(
    windows: Sequence[Window], inputs: Sequence[str], padding_id: int = 0
) -> dict[str, NDArray[np.int64]]:
    """Lay windows out in rows, the shorter ones padded to the longest.

    Args:
        windows: At least one.
        inputs: Names of the graph's inputs, some of ``input_ids``, ``attention_mask`` and ``token_type_ids``.
        padding_id: Token id that fills up.

    Returns:
        Input name → *Shape:* ``(windows, longest)``.
    """
    if len(windows) == 1:
        ids, types = windows[0].input_ids[None], windows[0].type_ids[None]
        mask = np.ones_like(ids) if "attention_mask" in inputs else ids
    else:
        shape = (len(windows), max(len(window.input_ids) for window in windows))
        ids = np.full(shape, padding_id, np.int64)
        types = np.zeros(shape, np.int64)
        mask = np.zeros(shape, np.int64)
        for row, window in enumerate(windows):
            length = len(window.input_ids)
            ids[row, :length] = window.input_ids
            types[row, :length] = window.type_ids
            mask[row, :length] = 1
    made = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    return {name: made[name] for name in inputs}


def pack(windows: Sequence[Window], *, bucket: int | None = None, padding_id: int = 0) -> Packed:
    """Join windows end to end.

    Args:
        windows: At least one.
        bucket: Fill up to exactly so many tokens, with a window of padding of its own, which may be empty.
            None: not at all.
        padding_id: Token id that fills up.

    Raises:
        ValueError: The windows have more tokens than the bucket.
    """
    asked = tuple(len(window.input_ids) for window in windows)
    lengths = list(asked)
    if bucket is not None:
        if sum(asked) > bucket:
            raise ValueError(f"{sum(asked)} tokens do not fit into a bucket of {bucket}")
        lengths.append(bucket - sum(asked))
    total = sum(lengths)
    ids = np.full(total, padding_id, np.int32)
    types = np.zeros(total, np.int32)
    ends = np.cumsum(lengths)
    for window, end in zip(windows, ends, strict=False):
        begin = end - len(window.input_ids)
        ids[begin:end] = window.input_ids
        types[begin:end] = window.type_ids
    starts = np.repeat(ends - lengths, lengths)
    positions = np.arange(total) - starts
    longest = bucket if bucket is not None else max(lengths)
    feeds = {
        "input_ids": ids,
        "token_type_ids": types,
        "position_ids": positions.astype(np.int32),
        "token_offset": _token_offset(np.asarray(lengths), longest),
        "cumulative_sequence_length": np.concatenate(([0], ends)).astype(np.int32),
    }
    return Packed(feeds, asked)


def join(windows: Sequence[Window], inputs: Sequence[str]) -> dict[str, NDArray[np.int32]]:
    """Join windows end to end for FastSpan's own kernels, which count positions themselves.

    Args:
        windows: At least one.
        inputs: Names of the graph's inputs, some of ``input_ids``, ``token_type_ids`` and
            ``cumulative_sequence_length``.

    Returns:
        Input name → *Shape:* ``(tokens,)``; ``cumulative_sequence_length`` of ``(windows + 1,)``: 0, then
        where each window ends.
    """
    ends = np.zeros(len(windows) + 1, np.int32)
    np.cumsum([len(window.input_ids) for window in windows], out=ends[1:])
    made = {"cumulative_sequence_length": ends}
    for name, part in (("input_ids", "input_ids"), ("token_type_ids", "type_ids")):
        if name in inputs:
            rows = [getattr(window, part) for window in windows]
            made[name] = (rows[0] if len(rows) == 1 else np.concatenate(rows)).astype(np.int32)
    return {name: made[name] for name in inputs}


def bucket_lengths(longest: int) -> tuple[int, ...]:
    """The sizes that single windows of up to ``longest`` tokens are filled up to, ascending."""
    return tuple(range(BUCKET_STEP, longest + BUCKET_STEP, BUCKET_STEP)) if longest > 0 else ()


def bucket_for(length: int, buckets: Sequence[int]) -> int | None:
    """The smallest of ``buckets`` (ascending) that holds ``length`` tokens; None where none does."""
    return next((size for size in buckets if size >= length), None)


def _token_offset(lengths: NDArray[np.int_], longest: int) -> NDArray[np.int32]:
    """Places of a padded batch, those of real tokens first and in packed order, then those of padding."""
    is_real = np.arange(longest) < lengths[:, None]
    places = np.concatenate((np.flatnonzero(is_real), np.flatnonzero(~is_real)))
    return places.astype(np.int32).reshape(len(lengths), longest)
