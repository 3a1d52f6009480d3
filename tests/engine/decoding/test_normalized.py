"""Scores as one distribution over all spans of all windows, against a table of every span."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastspan.decoding.normalized import decode_normalized
from fastspan.decoding.squad import decode_squad
from fastspan.errors import InferenceError
from fastspan.options import AnswerOptions
from fastspan.text.encoder import Encoder
from support.models.offline_tokenizers import CORPUS, FAMILIES

QUESTION = "Who was the leader?"


def encoded(context, options, family="wordpiece"):
    encoder = Encoder(FAMILIES[family](), segment_ids=True, max_positions=512)
    return encoder.encode([QUESTION], [context], options)


def drawn(pairs, seed, scale=3.0):
    rng = np.random.default_rng(seed)
    return tuple(
        [
            [rng.normal(scale=scale, size=len(w.input_ids)).astype(np.float32) for w in p.windows]
            for p in pairs
        ]
        for _ in range(2)
    )


def every_span(pair, starts, ends, options):
    """Score of each legal span of tokens and its window, by the definition, one by one."""
    owner = {}
    for number, window in enumerate(pair.windows):
        for i in range(window.count):
            context = min(i, window.count - 1 - i) + 0.01 * window.count
            if context > owner.get(window.origin + i, (-1.0, 0))[0]:
                owner[window.origin + i] = (context, number)
    scores = {}
    for number, window in enumerate(pair.windows):
        for i in range(window.count):
            if owner[window.origin + i][1] != number:
                continue
            for j in range(i, min(window.count, i + options.span_tokens)):
                score = float(starts[number][window.first + i]) + float(ends[number][window.first + j])
                scores[window.origin + i, window.origin + j] = score
    return scores


def _text(pair, first, last):
    return pair.context[pair.token_span(first)[0] : pair.token_span(last)[1]]


@settings(max_examples=60, deadline=None)
@given(
    family=st.sampled_from(sorted(FAMILIES)),
    sentences=st.lists(st.sampled_from(CORPUS), min_size=1, max_size=6),
    options=st.builds(
        AnswerOptions,
        decoding=st.just("pipeline"),
        top_k=st.integers(1, 40),
        max_answer_length=st.integers(1, 60),
        max_length=st.integers(48, 90),
        overlap=st.integers(0, 18),
        align_to_words=st.just(False),
        handle_impossible_answer=st.booleans(),
    ),
    scale=st.sampled_from([0.1, 3.0, 60.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_scores_are_shares_of_the_sum_over_every_span(family, sentences, options, scale, seed):
    pairs = encoded(" ".join(sentences), options, family)
    starts, ends = drawn(pairs, seed, scale)
    (answers,) = decode_normalized(pairs, starts, ends, options)
    spans = every_span(pairs[0], starts[0], ends[0], options)
    null = min(float(s[0] + e[0]) for s, e in zip(starts[0], ends[0], strict=True))
    highest = max(null, *spans.values())
    total = math.fsum(math.exp(score - highest) for score in (null, *spans.values()))
    shares = {span: math.exp(score - highest) / total for span, score in spans.items()}
    assert all(0 <= answer.score <= 1 for answer in answers)
    found = [answer for answer in answers if answer.text]
    # Float32 logits of size 200 are added up in steps of 1e-5.
    pair = pairs[0]
    # A token may be a blank alone: it has its share, and is no answer.
    best = max(share for span, share in shares.items() if _text(pair, *span).strip())
    nothing = math.exp(null - highest) / total if options.handle_impossible_answer else 0.0
    assert answers[0].score == pytest.approx(max(best, nothing), rel=1e-4, abs=1e-12)
    if found:
        assert found[0].score == pytest.approx(best, rel=1e-4, abs=1e-12)
    if options.handle_impossible_answer and len(found) < len(answers):
        (none,) = (answer for answer in answers if not answer.text)
        assert none.score == pytest.approx(math.exp(null - highest) / total, rel=1e-4, abs=1e-12)
    by_place = {}
    for (first, last), share in shares.items():
        text = _text(pair, first, last)
        begin, end = pair.token_span(first)[0], pair.token_span(last)[1]
        place = begin + len(text) - len(text.lstrip()), end - len(text) + len(text.rstrip())
        by_place[place] = max(by_place.get(place, 0), share)
    for answer in found:
        if (answer.start, answer.end) in by_place:  # not widened to whole characters
            expected = by_place[answer.start, answer.end]
            assert answer.score == pytest.approx(expected, rel=1e-4, abs=1e-12)


@pytest.mark.parametrize("align", [True, False])
def test_more_answers_leave_the_first_as_they_are(align):
    options = AnswerOptions(
        decoding="pipeline", max_length=64, overlap=16, align_to_words=align, handle_impossible_answer=True
    )
    pairs = encoded(" ".join(CORPUS * 2), options)
    assert len(pairs[0].windows) > 3
    logits = drawn(pairs, 5)
    all_of_them = decode_normalized(pairs, *logits, options.override({"top_k": 10**9}))[0]
    assert len(all_of_them) > 1000
    for k in (1, 2, 7, 100):
        assert decode_normalized(pairs, *logits, options.override({"top_k": k}))[0] == all_of_them[:k]


def test_the_order_of_spans_is_that_of_squad_decoding():
    options = AnswerOptions(max_length=64, overlap=16, top_k=12, n_best=10**6, max_answer_length=15)
    pairs = encoded(" ".join(CORPUS), options)
    logits = drawn(pairs, 11)
    (squad,) = decode_squad(pairs, *logits, options, threshold=0.0)
    found = decode_normalized(pairs, *logits, options.override({"align_to_words": False}))[0]
    assert [(a.start, a.end) for a in found] == [(a.start, a.end) for a in squad.answers]


def test_a_word_that_a_window_cuts_is_widened_to_its_ends():
    options = AnswerOptions(decoding="pipeline", max_length=16, overlap=3)
    context = "Extractively " * 9
    pairs = encoded(context, options)
    words = [pairs[0].token_word(i) for i in range(len(pairs[0].context_encoding))]
    assert any(words[w.origin] == words[w.origin - 1] for w in pairs[0].windows[1:])
    for answer in decode_normalized(pairs, *drawn(pairs, 3), options.override({"top_k": 20}))[0]:
        assert set(answer.text.split()) == {"Extractively"}


def test_an_answer_that_accents_end_is_whole():
    options = AnswerOptions(decoding="pipeline", align_to_words=False, max_answer_length=1, top_k=50)
    context = "the cafe\u0301 of Rollo"
    pairs = encoded(context, options)
    texts = {answer.text for answer in decode_normalized(pairs, *drawn(pairs, 1), options)[0]}
    assert not any(
        text.endswith("e") and context[context.find(text) + len(text)] == "\u0301" for text in texts
    )


@pytest.mark.parametrize("context", ["", " \n"])
def test_a_context_without_tokens_has_no_answer(context):
    options = AnswerOptions(decoding="pipeline", handle_impossible_answer=True)
    pairs = encoded(context, options)
    assert decode_normalized(pairs, *drawn(pairs, 0), options) == [()]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_logits_that_are_no_numbers_are_refused(bad, side):
    options = AnswerOptions(decoding="pipeline")
    pairs = encoded("the Normans", options)
    logits = drawn(pairs, 0)
    logits[side][0][0][1] = bad
    with pytest.raises(InferenceError):
        decode_normalized(pairs, *logits, options)


def test_a_span_far_below_all_others_scores_nothing_and_nothing_breaks():
    options = AnswerOptions(decoding="pipeline", max_answer_length=1)
    pairs = encoded("the Normans were here", options)
    starts, ends = (np.zeros(len(pairs[0].windows[0].input_ids), np.float32) for _ in range(2))
    first = pairs[0].windows[0].first
    # The best start and the best end make no legal span, and what is legal lies 2000 below them.
    starts[:], ends[:] = -1000, -1000
    starts[first + 1], ends[first] = 1000, 1000
    starts[0] = ends[0] = -2000
    (answers,) = decode_normalized(pairs, [[starts]], [[ends]], options)
    assert 0 <= answers[0].score <= 1
