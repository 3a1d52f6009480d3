"""Windows joined and taken apart again: nothing is lost, nothing moves, and a bucket is filled exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastspan.runtime.graph_inputs import BUCKET_STEP, bucket_for, bucket_lengths, pack
from fastspan.text.encoder import Window

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=12)


def windows(lengths: list[int]) -> list[Window]:
    """Windows whose token ids say which window and which place they are."""
    found = []
    for number, length in enumerate(lengths):
        ids = 1000 * (number + 1) + np.arange(length)
        found.append(Window(ids, np.full(length, number % 2), 0, 0, 0))
    return found


@given(LENGTHS)
def test_tokens_lie_end_to_end_with_their_places(lengths: list[int]) -> None:
    packed = pack(windows(lengths))
    assert packed.lengths == tuple(lengths)
    assert all(array.dtype == np.int32 for array in packed.feeds.values())
    begins = packed.feeds["cumulative_sequence_length"]
    assert begins.tolist() == [0, *np.cumsum(lengths)]
    for number, window in enumerate(windows(lengths)):
        here = slice(begins[number], begins[number + 1])
        assert np.array_equal(packed.feeds["input_ids"][here], window.input_ids)
        assert np.array_equal(packed.feeds["token_type_ids"][here], window.type_ids)
        assert packed.feeds["position_ids"][here].tolist() == list(range(len(window.input_ids)))


@given(LENGTHS)
def test_offsets_are_the_places_in_a_padded_batch_real_tokens_first(lengths: list[int]) -> None:
    offsets = pack(windows(lengths)).feeds["token_offset"]
    assert offsets.shape == (len(lengths), max(lengths))
    real = [row * max(lengths) + place for row, length in enumerate(lengths) for place in range(length)]
    assert offsets.ravel()[: sum(lengths)].tolist() == real
    assert sorted(offsets.ravel().tolist()) == list(range(offsets.size))


@given(LENGTHS)
def test_logits_come_back_to_their_windows(lengths: list[int]) -> None:
    packed = pack(windows(lengths))
    rows = packed.unpack(packed.feeds["input_ids"].astype(np.float32))
    assert rows.shape == (len(lengths), max(lengths))
    for row, window in zip(rows, windows(lengths), strict=True):
        assert np.array_equal(row[: len(window.input_ids)], window.input_ids)
        assert not row[len(window.input_ids) :].any()


@given(st.integers(1, 64))
def test_a_bucket_has_one_shape_whatever_lies_in_it(length: int) -> None:
    packed = pack(windows([length]), bucket=64, padding_id=7)
    assert {name: array.shape for name, array in packed.feeds.items()} == {
        "input_ids": (64,),
        "token_type_ids": (64,),
        "position_ids": (64,),
        "token_offset": (2, 64),
        "cumulative_sequence_length": (3,),
    }
    assert packed.feeds["cumulative_sequence_length"].tolist() == [0, length, 64]
    assert packed.feeds["input_ids"][length:].tolist() == [7] * (64 - length)
    assert packed.feeds["position_ids"][length:].tolist() == list(range(64 - length))
    assert sorted(packed.feeds["token_offset"].ravel().tolist()) == list(range(128))
    assert packed.unpack(np.zeros(64, np.float32)).shape == (1, length)


def test_what_does_not_fit_into_a_bucket_is_refused() -> None:
    with pytest.raises(ValueError, match="65 tokens do not fit into a bucket of 64"):
        pack(windows([65]), bucket=64)


@given(st.integers(1, 600))
def test_every_length_has_the_smallest_bucket_that_holds_it(longest: int) -> None:
    buckets = bucket_lengths(longest)
    assert buckets == tuple(sorted(set(buckets)))
    for length in range(1, longest + 1):
        found = bucket_for(length, buckets)
        assert found is not None
        assert length <= found < length + BUCKET_STEP
    assert bucket_for(buckets[-1] + 1, buckets) is None


def test_no_length_no_bucket() -> None:
    assert bucket_lengths(0) == ()
    assert bucket_for(1, ()) is None
