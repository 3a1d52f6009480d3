from __future__ import annotations

import json
import random
from types import SimpleNamespace

import numpy as np
import pytest

from fastspan.benchmarks.accuracy.squad_metric import best_thresholds, per_question, score
from fastspan.benchmarks.questions.squad_files import Question, read_squad
from fastspan.errors import DataError
from support.paths import ROOT

DATA = ROOT / ".." / "shared" / "data"


def question(key: str, *answers: str) -> Question:
    return Question(key, "?", " ".join(answers), answers, (), is_impossible=not answers)


def load(name: str):
    return json.loads((DATA / f"squad2-dev-part.{name}").read_text(encoding="utf-8"))


@pytest.mark.skipif(not DATA.exists(), reason="needs the published predictions for SQuAD 2.0's dev set")
def test_every_digit_is_the_official_evaluators():
    questions = read_squad(DATA / "squad2-dev-part.json")
    predictions, expected = load("predictions.json"), load("expected-scores.json")
    # Compared as text: same keys, same order, same digits, whole numbers whole.
    assert json.dumps(score(questions, predictions)) == json.dumps(expected["without_na_probs"])
    assert json.dumps(score(questions, predictions, load("na-probs.json"))) == json.dumps(
        expected["with_na_probs"]
    )


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_an_independent_implementation(golden, seed):
    draw = random.Random(seed)
    words = ["The", "cat", "a", "sat,", "on", "it's", "mat", "-", "1,000", "Über", "cat"]
    text = lambda least: " ".join(draw.choices(words, k=draw.randint(least, 4)))
    keys = [f"{n}" for n in range(300)]
    questions = [question(k, *(text(1) for _ in range(draw.choice([0, 0, 1, 3])))) for k in keys]
    predictions = {k: text(0) for k in draw.sample(keys, len(keys))}
    # Few different probabilities, in another order than the questions: ties decide the official threshold.
    na_probs = {k: draw.randint(0, 30) / 20 for k in draw.sample(keys, len(keys))}
    examples = [SimpleNamespace(qas_id=q.id, answers=[{"text": a} for a in q.answers]) for q in questions]

    def evaluate():
        from transformers.data.metrics.squad_metrics import squad_evaluate

        return squad_evaluate(examples, predictions, na_probs, 1.0)

    expected = golden.value(f"scores of questions drawn with seed {seed}", evaluate, within=1e-9)
    got = score(questions, predictions, na_probs)
    assert list(got) == list(expected)
    for name, value in expected.items():
        # Beyond the twelfth digit the reference depends on how its Python adds up.
        assert got[name] == pytest.approx(value, rel=1e-12), name


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("  The  Cat, sat!\n", "cat sat"),
        ("An apple a day", "apple day"),
        ("the", ""),
        ("A.N. Other", "other"),
        ("theatre Anna", "theatre anna"),
        ("the-cat", "thecat"),
        ("«Élan»", "«élan»"),
        ("a—b", "—b"),
        ("İstanbul", "i̇stanbul"),
    ],
)
def test_normalization(text, normal):
    # Punctuation goes before the articles, so "A.N." is one; and only ASCII's punctuation goes.
    exact, _ = per_question([question("q", f"{normal} end")], {"q": f"{text} end"})
    assert exact.tolist() == [1.0]
    for other in (f"{normal} x end", f"{normal}x end"):
        assert per_question([question("q", other)], {"q": f"{text} end"})[0].tolist() == [0.0]


@pytest.mark.parametrize(
    ("answers", "prediction", "exact", "f1"),
    [
        (["Norman dukes"], "the norman dukes", 1.0, 1.0),
        (["Norman dukes"], "dukes", 0.0, 2 / 3),
        (["Norman dukes", "dukes"], "dukes", 1.0, 1.0),
        (["a b b c"], "b b b", 0.0, 2 * (2 / 3) * (2 / 3) / (2 / 3 + 2 / 3)),
        (["Norman"], "Danish", 0.0, 0.0),
        (["Norman"], "", 0.0, 0.0),
        ([], "", 1.0, 1.0),
        ([], "the", 1.0, 1.0),
        ([], "Norman", 0.0, 0.0),
        (["The"], "", 1.0, 1.0),
        (["The", "Rollo"], "", 0.0, 0.0),
    ],
)
def test_one_question(answers, prediction, exact, f1):
    got_exact, got_f1 = per_question([question("q", *answers)], {"q": prediction})
    assert (got_exact.tolist(), got_f1.tolist()) == ([exact], [pytest.approx(f1)])
    assert got_exact.dtype == got_f1.dtype == np.float64


def test_scores_stand_in_the_order_of_the_questions():
    questions = [question("a", "x"), question("b", "y"), question("c")]
    exact, _ = per_question(questions, {"c": "", "b": "no", "a": "x"})
    assert exact.tolist() == [1.0, 0.0, 1.0]


def test_only_the_kinds_of_question_there_are_get_keys():
    assert list(score([question("a", "x")], {"a": "x"})) == [
        "exact", "f1", "total", "HasAns_exact", "HasAns_f1", "HasAns_total",
    ]  # fmt: skip
    assert score([question("a")], {"a": "x"}) == {
        "exact": 0.0, "f1": 0.0, "total": 1, "NoAns_exact": 0.0, "NoAns_f1": 0.0, "NoAns_total": 1,
    }  # fmt: skip


def test_a_threshold_turns_answers_into_abstentions():
    questions = [question("a", "x"), question("b"), question("c")]
    predictions, na_probs = {"a": "x", "b": "y", "c": "z"}, {"a": 0.6, "b": 0.6, "c": 0.5}
    assert score(questions, predictions, na_probs)["exact"] == pytest.approx(100 / 3)
    scores = score(questions, predictions, na_probs, na_prob_threshold=0.5)
    assert (scores["HasAns_exact"], scores["NoAns_exact"]) == (0.0, 50.0)
    # The search is over the predictions as they are, whatever the threshold.
    assert scores["best_exact"] == pytest.approx(200 / 3)
    assert scores["best_exact_thresh"] == 0.0


def test_an_empty_prediction_costs_nothing_to_keep():
    questions = [question("a"), question("b", "x")]
    scores = score(questions, {"a": "", "b": "x"}, {"a": 0.1, "b": 0.2})
    assert (scores["best_exact"], scores["best_exact_thresh"]) == (100.0, 0.2)


def test_the_official_search_splits_ties_and_ours_does_not():
    questions = [question("a", "x"), question("b"), question("c", "y")]
    predictions, tied = {"a": "x", "b": "z", "c": "y"}, {"a": 0.5, "b": 0.5, "c": 0.7}
    # In the file's order "a" is answered before "b", a split that no threshold makes.
    assert score(questions[:2], {"a": "x", "b": "z"}, {"a": 0.5, "b": 0.5})["best_exact"] == 100.0
    best = best_thresholds(questions, predictions, tied)
    assert best.exact == pytest.approx(200 / 3)
    assert best.exact_threshold > 0.7


def test_best_thresholds_are_the_best_of_all_and_reach_what_they_say():
    draw = random.Random(7)
    keys = [f"{n}" for n in range(60)]
    questions = [question(k, *(["x y"] if draw.random() < 0.5 else [])) for k in keys]
    predictions = {k: draw.choice(["x y", "x", "z", ""]) for k in keys}
    margins = {k: float(draw.randint(-8, 8)) for k in draw.sample(keys, len(keys))}
    margins["0"], predictions["0"] = float("inf"), ""

    def at(threshold: float) -> dict[str, float]:
        final = {k: "" if margins[k] > threshold else predictions[k] for k in keys}
        scores = score(questions, final)
        by_margin = score(questions, predictions, margins, na_prob_threshold=threshold)
        assert (by_margin["exact"], by_margin["f1"]) == (scores["exact"], scores["f1"])
        return scores

    best = best_thresholds(questions, predictions, margins)
    everywhere = [at(step / 2) for step in range(-20, 20)]
    assert best.exact == pytest.approx(max(s["exact"] for s in everywhere))
    assert best.f1 == pytest.approx(max(s["f1"] for s in everywhere))
    assert at(best.exact_threshold)["exact"] == pytest.approx(best.exact)
    assert at(best.f1_threshold)["f1"] == pytest.approx(best.f1)


def test_a_reference_that_normalizes_to_nothing_counts_against_a_threshold():
    # Officially the answer "" matches "the", and leaving the question unanswered by a threshold does not.
    questions = [question("a", "the"), question("b")]
    predictions, margins = {"a": "Rollo", "b": "Rollo"}, {"a": 1.0, "b": 1.0}
    best = best_thresholds(questions, predictions, margins)
    assert (best.exact, best.f1) == (50.0, 50.0)
    at_best = score(questions, predictions, margins, na_prob_threshold=best.exact_threshold)
    assert at_best["exact"] == best.exact == at_best["best_exact"]
    assert score(questions, {"a": "", "b": ""})["exact"] == 100.0


@pytest.mark.parametrize(
    ("predictions", "na_probs", "complaint"),
    [
        ({"a": "x"}, None, "1 of 2 questions have no prediction, the first of them 'b'"),
        ({"a": "x", "b": "", "z": ""}, None, "1 ids with a prediction are not among the 2 questions.*'z'"),
        ({"a": None, "b": ""}, None, "prediction for 'a' must be a string, not None"),
        ({"a": "", "b": ""}, {"a": 0.1}, "no no-answer probability, the first of them 'b'"),
        ({"a": "", "b": ""}, {"a": 0.1, "b": 0.2, "z": 0.3}, "not among the 2 questions.*'z'"),
        ({"a": "", "b": ""}, {"a": 0.1, "b": float("nan")}, "for 'b' must be a number, not nan"),
        ({"a": "", "b": ""}, {"a": "0.1", "b": 0.2}, "for 'a' must be a number, not '0.1'"),
    ],
)
def test_ids_and_values_are_checked(predictions, na_probs, complaint):
    with pytest.raises(DataError, match=complaint):
        score([question("a", "x"), question("b")], predictions, na_probs)


def test_margins_are_checked():
    with pytest.raises(DataError, match="no margin"):
        best_thresholds([question("a", "x")], {"a": "x"}, {})


def test_nothing_to_score_is_an_error():
    with pytest.raises(DataError, match="no questions"):
        score([], {})
