"""The banded search against an enumeration of all spans."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastspan.decoding.top_spans import best_positions, top_products, top_spans

# Few distinct values, so that ties are the rule; -inf, and values whose sum overflows float32.
TIED = st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0])
WILD = st.one_of(
    TIED, st.sampled_from([-np.inf, -3e38, 3e38, 1e-45, -1e30, 1e30]), st.floats(-50, 50, width=32)
)


def draw_rows(data, values, windows, length):
    row = st.lists(values, min_size=length, max_size=length)
    return np.array(data.draw(st.lists(row, min_size=windows, max_size=windows)), np.float32)


def brute_force(start, end, may_start, may_end, k, max_answer_length, combine, nothing):
    """All spans of one window in their order, cut and filled to ``k``."""
    length = len(start)
    spans = []
    with np.errstate(over="ignore"):
        for s in range(length):
            for e in range(s, min(s + max_answer_length, length)):
                score = combine(start[s], end[e])
                if may_start[s] and may_end[e] and score > nothing:
                    spans.append((-score, s, e))
    spans = [(s, e, -score) for score, s, e in sorted(spans)][:k]
    return spans + [(-1, -1, nothing)] * (k - len(spans))


def as_spans(found):
    starts, ends, scores = found
    assert starts.shape == ends.shape == scores.shape
    return [
        list(zip(*(row.tolist() for row in rows), strict=True))
        for rows in zip(starts, ends, scores, strict=True)
    ]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_top_spans_equal_an_enumeration(data):
    windows, length = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 12))
    values = data.draw(st.sampled_from([TIED, WILD]))
    start, end = (draw_rows(data, values, windows, length) for _ in range(2))
    flags = st.sampled_from([True, True, True, False])
    allowed = draw_rows(data, flags, windows, length).astype(bool)
    k, longest = data.draw(st.integers(1, 100)), data.draw(st.integers(1, 15))
    found = top_spans(start, end, allowed, k, longest)
    expected = [
        brute_force(*rows, k, longest, np.add, np.float32(-np.inf))
        for rows in zip(start, end, allowed, allowed, strict=True)
    ]
    assert as_spans(found) == expected
    assert found[2].dtype == np.float32


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_top_products_equal_an_enumeration(data):
    windows, length = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 12))
    values = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0, 1e-30]), st.floats(0, 1, width=32))
    start, end = (draw_rows(data, values, windows, length) for _ in range(2))
    everywhere = np.ones_like(start, bool)
    k, longest = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 15))
    expected = [
        brute_force(*rows, k, longest, np.multiply, np.float32(0))
        for rows in zip(start, end, everywhere, everywhere, strict=True)
    ]
    assert as_spans(top_products(start, end, k, longest)) == expected


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_best_positions_equal_a_stable_sort(data):
    windows, length, n = (data.draw(st.integers(1, most)) for most in (3, 12, 15))
    logits = draw_rows(data, data.draw(st.sampled_from([TIED, WILD])), windows, length)
    expected = np.zeros_like(logits, bool)
    for row, chosen in zip(logits, expected, strict=True):
        chosen[sorted(range(length), key=lambda i: -row[i])[:n]] = True
    assert best_positions(logits, n).tolist() == expected.tolist()


@pytest.mark.parametrize("k", [1, 2, 5])
def test_no_window_gives_no_row(k):
    empty = np.zeros((0, 7), np.float32)
    starts, ends, scores = top_spans(empty, empty, empty.astype(bool), k, 3)
    assert starts.shape == ends.shape == scores.shape == (0, k)


def test_a_window_without_allowed_positions_has_no_span():
    logits = np.ones((2, 5), np.float32)
    mask = np.array([[False] * 5, [False, False, True, False, False]])
    starts, ends, scores = top_spans(logits, logits, mask, 2, 3)
    assert starts.tolist() == ends.tolist() == [[-1, -1], [2, -1]]
    assert scores.tolist() == [[-np.inf, -np.inf], [2, -np.inf]]


def test_the_arguments_are_left_as_they_were():
    rng = np.random.default_rng(0)
    start, end = rng.normal(size=(2, 3, 20)).astype(np.float32)
    mask = rng.random((3, 20)) < 0.5
    copies = start.copy(), end.copy(), mask.copy()
    top_spans(start, end, mask, 4, 5)
    top_products(np.abs(start), np.abs(end), 4, 5)
    best_positions(start, 4)
    for array, copy in zip((start, end, mask), copies, strict=True):
        assert np.array_equal(array, copy)


@pytest.mark.parametrize("search", [top_spans, top_products])
@pytest.mark.parametrize("k", [1, 7, 300])
def test_many_windows_are_searched_a_few_at_a_time(search, k):
    rng = np.random.default_rng(k)
    start, end = (rng.random((23, 12)).astype(np.float32).round(1) for _ in range(2))
    mask = () if search is top_products else (None,)
    expected = search(start, end, *mask, k, 5)
    for found, together in zip(search(start, end, *mask, k, 5, at_once=100), expected, strict=True):
        np.testing.assert_array_equal(found, together)
