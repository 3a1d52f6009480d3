"""When a gate is missed: what is judged again, on how many questions, and that the second verdict stands."""

from __future__ import annotations

import json

import pytest
from conftest import SilentProgress

from fastspan.bundle.folder import Bundle
from fastspan.export.verification.checks import Effort, measure, not_run_here
from fastspan.export.verification.comparison import EXPORT_GATES, Comparison, lower_bound
from fastspan.export.verification.questions import questions


class Judge:
    """Stands in for ``compare``: each graph's share of equal answers by how many questions it ran on."""

    def __init__(self, equal):
        self.equal = equal
        self.asked = []

    def __call__(self, pairs, reference, found):
        self.asked.append(len(pairs))
        return Comparison(1e-6, self.equal(len(pairs)), len(reference), len(pairs))


LITTLE = Effort(work=0, in_doubt=34, of_appeal=38)


class Noting(SilentProgress):
    """Notes how many windows each graph runs."""

    def __init__(self):
        self.windows = []

    def bar(self, text, total):
        self.windows.append(total)
        return super().bar(text, total)


@pytest.fixture
def judged(tiny_bundle):
    """Measure the tiny bundle with a made-up outcome, on 30, then 34, then 38 questions."""
    manifest = Bundle.open(tiny_bundle).manifest

    def run(equal, progress=None, **options):
        judge = Judge(equal)
        measured = measure(
            tiny_bundle,
            manifest,
            checkpoint=None,
            threads=1,
            progress=progress or SilentProgress(),
            effort=LITTLE,
            compare=judge,
            **options,
        )
        return judge.asked, measured

    return run


def test_what_passes_is_measured_once(judged):
    asked, checks = judged(lambda count: 1.0)
    assert set(asked) == {30}
    assert all(check.passed for check in checks)


def test_where_the_few_are_too_few_to_be_sure_more_are_asked(judged):
    asked, checks = judged(lambda count: 1.0 if count > 30 else 0.967)
    assert asked == [30, 30, 34]
    assert all(check.passed for check in checks)
    # fp32 is held to its logits alone, so nothing about it is in doubt.
    counts = {check.variant: check.comparison.questions for check in checks if check.comparison is not None}
    assert counts == {"fp32": 30, "int8": 34}


def test_a_gate_that_is_missed_on_more_questions_is_judged_on_the_most(judged):
    asked, checks = judged(lambda count: {30: 0.967, 34: 0.94, 38: 1.0}[count])
    assert asked == [30, 30, 34, 38]
    assert all(check.passed for check in checks)


def test_a_variant_that_passes_is_not_judged_again_for_another_that_misses(judged):
    asked, checks = judged(lambda count: 0.93)
    assert asked == [30, 30, 38]
    counts = {check.variant: check.comparison.questions for check in checks if check.comparison is not None}
    assert counts == {"fp32": 30, "int8": 38}


def test_a_gate_that_is_missed_at_once_is_judged_on_the_most_alone(judged):
    # Or an export could pass on the questions in between that fails on the most.
    asked, checks = judged(lambda count: {30: 0.93, 34: 1.0, 38: 0.93}[count])
    assert set(asked) == {30, 38}
    assert not all(check.passed for check in checks)


def test_the_last_verdict_stands(judged):
    asked, checks = judged(lambda count: 0.949)
    assert set(asked) == {30, 38}
    assert len(asked) == 3, "fp32 once, int8 twice"
    judged_int8 = [c for c in checks if c.variant == "int8" and c.comparison is not None]
    assert judged_int8
    assert not any(check.passed for check in judged_int8)


def test_where_a_loss_is_allowed_nothing_is_judged_again(judged):
    asked, checks = judged(lambda count: 0.94, appeal=False)
    assert set(asked) == {30}
    assert not all(check.passed for check in checks)


def test_windows_that_were_run_are_not_run_again(judged):
    progress = Noting()
    _, measured = judged(lambda count: 0.93, progress)
    windows = progress.windows
    fp32, int8 = (check.comparison for check in measured if check.comparison is not None)
    assert int8.windows > fp32.windows
    # The reference and int8 run on the most, the other fp32 graph on the few alone.
    assert len(windows) == 5
    assert sum(windows) == 2 * int8.windows + fp32.windows


@pytest.mark.parametrize(
    ("equal", "of", "bound"),
    [
        (0, 10, 0.0),
        (36, 36, 0.92016),
        (35, 36, 0.87471),
        (30, 30, 0.90503),
        (114, 120, 0.90370),
        (1, 1, 0.05),
    ],
)
def test_the_lower_bound_is_that_of_clopper_and_pearson(equal, of, bound):
    assert lower_bound(equal, of) == pytest.approx(bound, abs=2e-4)


@pytest.mark.parametrize(
    ("equal", "of", "met", "passed"),
    [
        (36, 36, True, True),
        (35, 36, True, False),  # one question of so few is 2.8 points
        (34, 36, False, False),
        (30, 30, True, True),
        (29, 29, True, True),
        (28, 28, True, False),
        (114, 120, True, True),
        (113, 120, False, False),
    ],
)
def test_few_questions_pass_only_where_they_are_enough_to_be_sure(equal, of, met, passed):
    found = Comparison(1.0, equal / of, of, of)
    gate = EXPORT_GATES["int8"]
    assert (gate.met(found), gate.passed(found)) == (met, passed)


@pytest.mark.parametrize("gate", [gate for gate in EXPORT_GATES.values() if gate.equal_answers is not None])
def test_no_gate_is_looser_than_its_share_alone(gate):
    for of in (1, 24, 30, 36, 120, 367):
        for equal in range(of + 1):
            if equal / of < gate.equal_answers:
                assert not gate.passed(Comparison(0.0, equal / of, of, of))


def test_a_check_becomes_json(judged):
    _, measured = judged(lambda count: 1.0)
    found = json.loads(json.dumps([check.to_dict() for check in measured], allow_nan=False))
    assert [check["graph"] for check in found] == [check.graph.file for check in measured]
    reference, *compared = found
    assert (reference["passed"], reference["questions"]) == (None, 0)
    assert all(check["passed"] and check["questions"] == 30 for check in compared)


def test_a_small_model_is_judged_on_every_question(tiny_bundle):
    class Ended(Exception):
        """Once it is said how many questions are asked, they need not be."""

    class Telling(SilentProgress):
        def stage(self, text):
            raise Ended(text)

    manifest = Bundle.open(tiny_bundle).manifest
    with pytest.raises(Ended, match=rf"^int8 missed the gate: judging on {len(questions())} questions$"):
        measure(
            tiny_bundle,
            manifest,
            checkpoint=None,
            threads=1,
            progress=Telling(),
            compare=Judge(lambda count: 0.0),
        )


def test_fp32_is_held_to_its_logits_alone():
    tie = Comparison(9e-5, 0.97, 40, 36)
    assert EXPORT_GATES["fp32"].passed(tie)
    assert not EXPORT_GATES["fp32"].passed(Comparison(2e-4, 1.0, 40, 36))
    assert not EXPORT_GATES["fp32"].passed(Comparison(float("nan"), 0.0, 40, 36))
    assert str(EXPORT_GATES["fp32"]) == "logits within 0.0001"
    assert str(EXPORT_GATES["int8"]) == "at least 95.0% equal answers, 90% surely"


def test_graphs_for_other_processors_are_named(tiny_bundle, tiny_half_bundle):
    assert not_run_here(Bundle.open(tiny_bundle).manifest) == []
    assert not_run_here(Bundle.open(tiny_half_bundle).manifest) == [
        "onnx/model_fp16_packed.onnx",
        "onnx/model_fp16_cuda.onnx",
    ]
