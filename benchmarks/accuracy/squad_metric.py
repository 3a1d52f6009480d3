"""SQuAD 2.0's metric, digit for digit what the official evaluator (``evaluate-v2.0.py``) prints.

Rajpurkar, Jia and Liang, "Know What You Don't Know: Unanswerable Questions for SQuAD" (2018). An answer is
compared with the reference answers after lower-casing, dropping ASCII punctuation and the articles a, an and
the, and squeezing white space; a question's score is its best over the reference answers. A question is
answerable when it has reference answers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastspan.benchmarks.accuracy.thresholds import sweep_threshold
from fastspan.benchmarks.questions.squad_files import Question
from fastspan.decoding.set_confidence import normalized
from fastspan.errors import DataError

__all__ = ["BestThresholds", "best_thresholds", "per_question", "score"]


@dataclass(frozen=True, slots=True)
class BestThresholds:
    """The best scores over all no-answer thresholds, and thresholds that give them.

    Optimistic when reported on the questions they were searched on. What counts as a score here is said by
    :func:`best_thresholds`.

    Attributes:
        exact: Exact match, in percent.
        exact_threshold: Leaves a question unanswered where its margin exceeds this.
        f1: Token F1, in percent.
        f1_threshold: Leaves a question unanswered where its margin exceeds this.
    """

    exact: float
    exact_threshold: float
    f1: float
    f1_threshold: float


def per_question(
    questions: Sequence[Question], predictions: Mapping[str, str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Score each question by itself.

    Args:
        questions: The questions, at least one.
        predictions: The answer for each question's id; ``""`` for no answer.

    Returns:
        Exact match and token F1, in [0, 1], in the order of ``questions``. *Shape:* ``(questions,)`` each.

    Raises:
        DataError: A question has no prediction, a prediction has no question, or is not a string.
    """
    _check_ids("prediction", predictions, questions)
    exact, f1 = np.zeros(len(questions)), np.zeros(len(questions))
    for n, question in enumerate(questions):
        prediction = predictions[question.id]
        if not isinstance(prediction, str):
            raise DataError(f"The prediction for {question.id!r} must be a string, not {prediction!r}.")
        given = _words(prediction)
        # A reference that normalizes to nothing ("The") counts as no answer, as it does officially.
        references = [words for words in map(_words, question.answers) if words] or [[]]
        exact[n] = float(given in references)
        f1[n] = max(_word_f1(expected, given) for expected in references)
    return exact, f1


def score(
    questions: Sequence[Question],
    predictions: Mapping[str, str],
    na_probs: Mapping[str, float] | None = None,
    *,
    na_prob_threshold: float = 1.0,
) -> dict[str, float | int]:
    """Score predictions, with the official evaluator's keys in its order.

    ``exact``, ``f1`` and ``total``; the same prefixed ``HasAns_`` over the answerable and ``NoAns_`` over the
    unanswerable questions, where there are any; and, given ``na_probs``, ``best_exact``,
    ``best_exact_thresh``, ``best_f1`` and ``best_f1_thresh``. Scores are in percent.

    The official search may end between two questions of equal probability, where no threshold can;
    :func:`best_thresholds` tries thresholds alone.

    Args:
        questions: The questions, at least one.
        predictions: The answer for each question's id; ``""`` for no answer.
        na_probs: The probability for each question's id that it has no answer.
        na_prob_threshold: A question whose probability exceeds this counts as left unanswered.

    Raises:
        DataError: A question has no prediction or probability, one of these has no question, a prediction is
            not a string, or a probability is not a number.
    """
    exact, f1 = per_question(questions, predictions)
    raw = {"exact": exact, "f1": f1}
    final, answerable = raw, _answerable(questions)
    if na_probs is not None:
        abstained = _in_order("no-answer probability", na_probs, questions) > na_prob_threshold
        final = {name: np.where(abstained, ~answerable, values) for name, values in raw.items()}

    scores: dict[str, float | int] = {}
    everything = np.ones(len(questions), dtype=np.bool_)
    for prefix, chosen in (("", everything), ("HasAns_", answerable), ("NoAns_", ~answerable)):
        if chosen.any():
            for name, values in final.items():
                scores[prefix + name] = _percent(values[chosen])
            scores[f"{prefix}total"] = int(chosen.sum())
    if na_probs is not None:
        for name, values in raw.items():
            best = _official_best(questions, predictions, values, na_probs)
            scores[f"best_{name}"], scores[f"best_{name}_thresh"] = best
    return scores


def best_thresholds(
    questions: Sequence[Question], predictions: Mapping[str, str], margins: Mapping[str, float]
) -> BestThresholds:
    """Find the no-answer thresholds with the best exact match and the best F1.

    A threshold's score is the one :func:`score` gives with ``na_probs=margins`` and it as
    ``na_prob_threshold``: a question left unanswered is right when it has no references, and only then. That
    is the official evaluator's rule for thresholds, and it differs from its rule for the answer ``""`` where
    all of a question's references normalize to nothing (``"The"``): ``""`` matches those, leaving the
    question unanswered by a threshold does not. So with such questions, :func:`score` of the answers that a
    threshold leaves can exceed what is reported here, by the share of those questions it leaves unanswered.

    Args:
        questions: The questions, at least one.
        predictions: Each question's best span, as if it had to be answered; ``""`` where there is none.
        margins: Each question's ``null_score - best_span_score``: any real number, or infinite.

    Raises:
        DataError: A question has no prediction or margin, one of these has no question, a prediction is not a
            string, or a margin is not a number.
    """
    exact, f1 = per_question(questions, predictions)
    values = _in_order("margin", margins, questions)
    unanswerable = ~_answerable(questions)
    best_exact, exact_threshold = sweep_threshold(values, exact, unanswerable)
    best_f1, f1_threshold = sweep_threshold(values, f1, unanswerable)
    return BestThresholds(100.0 * best_exact, exact_threshold, 100.0 * best_f1, f1_threshold)


def _words(text: str) -> list[str]:
    """The words that are compared: in lower case, without ASCII punctuation and articles."""
    return normalized(text).split()


def _word_f1(expected: list[str], given: list[str]) -> float:
    if not expected or not given:
        return float(expected == given)
    shared = (Counter(expected) & Counter(given)).total()
    if shared == 0:
        return 0.0
    precision, recall = shared / len(given), shared / len(expected)
    return (2 * precision * recall) / (precision + recall)


def _official_best(
    questions: Sequence[Question],
    predictions: Mapping[str, str],
    values: NDArray[np.float64],
    na_probs: Mapping[str, float],
) -> tuple[float, float]:
    # Starting from abstaining everywhere, questions are answered one by one, the least probable to be
    # unanswerable first. Equal probabilities keep the order of the file, and 0.0 stands for "abstain".
    gain = {
        q.id: value if q.answers else -float(predictions[q.id] != "")
        for q, value in zip(questions, values, strict=True)
    }
    order = sorted(na_probs, key=na_probs.__getitem__)
    running = np.cumsum([float((~_answerable(questions)).sum()), *(gain[key] for key in order)])
    best = int(np.argmax(running))
    return 100.0 * float(running[best]) / len(questions), float(na_probs[order[best - 1]]) if best else 0.0


def _percent(values: NDArray[np.float64]) -> float:
    # The last digits depend on the order of the sum. cumsum adds one by one, as the evaluator's Python did;
    # numpy's sum adds pairwise, and Python's own compensates rounding from 3.12 on.
    return 100.0 * float(np.cumsum(values)[-1]) / values.size


def _answerable(questions: Sequence[Question]) -> NDArray[np.bool_]:
    return np.array([bool(question.answers) for question in questions])


def _in_order(what: str, values: Mapping[str, float], questions: Sequence[Question]) -> NDArray[np.float64]:
    _check_ids(what, values, questions)
    for key, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float | np.number) or math.isnan(value):
            raise DataError(f"The {what} for {key!r} must be a number, not {value!r}.")
    return np.array([values[question.id] for question in questions], dtype=np.float64)


def _check_ids(what: str, values: Mapping[str, object], questions: Sequence[Question]) -> None:
    if not questions:
        raise DataError("There are no questions to score.")
    missing = [question.id for question in questions if question.id not in values]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(questions)} questions have no {what}, the first of them {missing[0]!r}; "
            "give one for each question."
        )
    asked = {question.id for question in questions}
    surplus = [key for key in values if key not in asked]
    if surplus:
        raise DataError(
            f"{len(surplus)} ids with a {what} are not among the {len(questions)} questions, the first of "
            f"them {surplus[0]!r}; score the file that was predicted, or remove them."
        )
