"""Each window's best spans, against a table of every span; and overlapping ones dropped."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastspan.decoding.window_spans import best_apart, decode_windows
from fastspan.errors import InferenceError
from fastspan.options import AnswerOptions
from fastspan.results import Answer
from fastspan.text.encoder import Encoder
from support.models.offline_tokenizers import CORPUS, wordpiece


def encoded(*contexts, max_length=40, overlap=8):
    encoder = Encoder(wordpiece(), segment_ids=True, max_positions=512)
    options = AnswerOptions(max_length=max_length, overlap=overlap)
    return encoder.encode(["Who was it?"] * len(contexts), list(contexts), options)


def drawn(pairs, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(
        [[rng.normal(scale=3, size=len(w.input_ids)).astype(np.float32) for w in p.windows] for p in pairs]
        for _ in range(2)
    )


@pytest.mark.parametrize("per_window", [1, 7, 10**6])
def test_each_window_gives_its_best_spans_of_any_length(per_window):
    pairs = encoded(" ".join(CORPUS[:3]), "Rollo", CORPUS[0])
    assert len(pairs[0].windows) > 2
    starts, ends = drawn(pairs)
    for pair, start, end, found in zip(
        pairs, starts, ends, decode_windows(pairs, starts, ends, per_window), strict=True
    ):
        expected = []
        for window, s, e in zip(pair.windows, start, end, strict=True):
            spans = [
                (float(s[window.first + i] + e[window.first + j]), window.origin + i, window.origin + j)
                for i in range(window.count)
                for j in range(i, window.count)
            ]
            expected += sorted(spans, key=lambda span: -span[0])[:per_window]
        assert [a.score for a in found] == [score for score, *_ in expected]
        assert [a.start for a in found] == [pair.token_span(first)[0] for _, first, _ in expected]
        assert [a.end for a in found] == [pair.token_span(last)[1] for *_, last in expected]
        assert all(pair.context[a.start : a.end] == a.text for a in found)


def test_no_pair_and_no_text_give_nothing():
    assert decode_windows([], [], [], 3) == []
    pairs = encoded("  ", "Rollo")
    empty, found = decode_windows(pairs, *drawn(pairs), 3)
    assert empty == ()
    assert found


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_refused(bad):
    pairs = encoded("Rollo")
    for side in (0, 1):
        logits = drawn(pairs)
        logits[side][0][0][0] = bad
        with pytest.raises(InferenceError):
            decode_windows(pairs, *logits, 3)


def span(start, end, score):
    return Answer("x" * (end - start), start, end, score)


def places(found):
    return [(text, answer.start, answer.end) for text, answer in found]


SPANS = [
    ("a", span(0, 10, 1.0)),
    ("a", span(8, 12, 3.0)),
    ("a", span(12, 20, 2.0)),
    ("b", span(0, 10, 1.0)),
    ("a", span(9, 10, 0.5)),
]


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        # 8–12 and 0–10 share 2 of 4 characters; 9–10 lies within both; touching shares nothing.
        (0.01, [("a", 8, 12), ("a", 12, 20), ("b", 0, 10)]),
        (0.5, [("a", 8, 12), ("a", 12, 20), ("a", 0, 10), ("b", 0, 10)]),
        (1.0, [("a", 8, 12), ("a", 12, 20), ("a", 0, 10), ("b", 0, 10), ("a", 9, 10)]),
        (None, [("a", 8, 12), ("a", 12, 20), ("a", 0, 10), ("b", 0, 10), ("a", 9, 10)]),
    ],
)
def test_of_two_spans_that_overlap_the_better_stays(threshold, expected):
    assert places(best_apart(SPANS, str, threshold, 10)) == expected
    assert places(best_apart(SPANS, str, threshold, 2)) == expected[:2]


def test_texts_of_one_name_are_one_text():
    assert len(best_apart([("a", span(0, 4, 2.0)), ("A", span(1, 4, 1.0))], str.lower, 0.1, 10)) == 1
