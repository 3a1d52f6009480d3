"""Speed of the engine's parts on their own: skipped by ``make test``, run and kept by ``make bench``."""

from __future__ import annotations

import numpy as np
import pytest

from fastspan.answerer import QuestionAnswerer
from fastspan.decoding.squad import decode_squad
from fastspan.decoding.top_spans import top_spans
from fastspan.options import AnswerOptions
from fastspan.runtime.batching import plan_equal_lengths

pytestmark = pytest.mark.filterwarnings("ignore::pytest_benchmark.logger.PytestBenchmarkWarning")

OPTIONS = AnswerOptions()
QUESTION = "Who was the last keeper of the lighthouse?"
CONTEXT = " ".join(
    f"In the year {year} the lighthouse was painted again, and {year - 1700} ships passed without harm."
    for year in range(1801, 1814)
)
generator = np.random.default_rng(0)


@pytest.fixture(scope="module")
def answerer(bundled_bundle):
    with QuestionAnswerer.load(bundled_bundle, provider="cpu") as qa:
        yield qa


@pytest.fixture(scope="module")
def encoder(answerer):
    return answerer.stages.loaded.encoder


@pytest.fixture(scope="module")
def encoded(encoder):
    """64 pairs of one window each."""
    return encoder.encode([QUESTION] * 64, [CONTEXT] * 64, OPTIONS)


def logits(pairs):
    return [
        [generator.normal(size=len(w.input_ids)).astype(np.float32) for w in pair.windows] for pair in pairs
    ]


def test_encode_one_pair(benchmark, encoder):
    (pair,) = benchmark(encoder.encode, [QUESTION], [CONTEXT], OPTIONS)
    assert len(pair.windows) == 1


def test_encode_64_questions_over_one_context(benchmark, encoder):
    questions = [f"{QUESTION} {number}" for number in range(64)]
    assert len(benchmark(encoder.encode, questions, [CONTEXT] * 64, OPTIONS)) == 64


def test_plan_1000_windows(benchmark):
    lengths = generator.integers(20, 385, 1000).tolist()
    groups = benchmark(plan_equal_lengths, lengths, 256)
    assert sorted(index for group in groups for index in group) == list(range(1000))


def test_search_spans_of_64_windows(benchmark):
    start, end = (generator.normal(size=(64, 384)).astype(np.float32) for _ in range(2))
    mask = np.ones((64, 384), np.bool_)
    starts, _, _ = benchmark(top_spans, start, end, mask, 1, 30)
    assert starts.shape == (64, 1)


def test_decode_one_question(benchmark, encoded):
    pairs = encoded[:1]
    (prediction,) = benchmark(decode_squad, pairs, logits(pairs), logits(pairs), OPTIONS, threshold=0.0)
    assert prediction.answers


def test_decode_64_questions(benchmark, encoded):
    found = benchmark(decode_squad, encoded, logits(encoded), logits(encoded), OPTIONS, threshold=0.0)
    assert len(found) == 64


def test_run_one_window(benchmark, answerer, encoded):
    window = encoded[0].windows[0]
    start, end = benchmark(answerer.stages.loaded.session.run, [window])
    assert start.shape == end.shape == (1, len(window.input_ids))


def test_answer_one_question(benchmark, answerer):
    assert benchmark(answerer.answer, QUESTION, CONTEXT).answers
