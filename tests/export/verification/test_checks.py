"""When a gate is missed: what is judged again, on how many questions, and that the second verdict stands."""

from __future__ import annotations

import pytest
from conftest import SilentProgress

from fastspan.bundle.folder import Bundle
from fastspan.export.verification import checks
from fastspan.export.verification.checks import measure, not_run_here
from fastspan.export.verification.comparison import GATES, Comparison
from fastspan.export.verification.questions import questions


class Judge:
    """Stands in for ``compare``: each graph's share of equal answers by how many questions it ran on."""

    def __init__(self, equal):
        self.equal = equal
        self.asked = []

    def __call__(self, pairs, reference, found):
        self.asked.append(len(pairs))
        return Comparison(1e-6, self.equal(len(pairs)), len(reference), len(pairs))


@pytest.fixture
def judged(tiny_bundle, monkeypatch):
    """Measure the tiny bundle with a made-up outcome; the first look is at 24 questions, the second at 30."""
    monkeypatch.setattr(checks, "_WORK", 0)
    monkeypatch.setattr(checks, "_QUESTIONS_OF_APPEAL", 30)
    manifest = Bundle.open(tiny_bundle).manifest

    def run(equal, **options):
        judge = Judge(equal)
        monkeypatch.setattr(checks, "compare", judge)
        measured = measure(
            tiny_bundle, manifest, checkpoint=None, threads=1, progress=SilentProgress(), **options
        )
        return judge.asked, measured

    return run


def test_what_passes_is_measured_once(judged):
    asked, checks = judged(lambda count: 0.96)
    assert set(asked) == {24}
    assert all(check.passed for check in checks)


def test_a_missed_gate_is_judged_once_more_on_a_larger_set_for_every_graph(judged):
    asked, checks = judged(lambda count: 0.96 if count > 24 else 0.94)
    assert asked == [24] * (len(asked) // 2) + [30] * (len(asked) // 2)
    assert all(check.passed for check in checks)
    assert {check.comparison.questions for check in checks if check.comparison is not None} == {30}


def test_the_second_verdict_stands(judged):
    asked, checks = judged(lambda count: 0.949)
    assert set(asked) == {24, 30}
    assert len(asked) == 2 * sum(check.comparison is not None for check in checks)
    judged_int8 = [c for c in checks if c.variant == "int8" and c.comparison is not None]
    assert judged_int8
    assert not any(check.passed for check in judged_int8)


def test_where_a_loss_is_allowed_nothing_is_judged_again(judged):
    asked, checks = judged(lambda count: 0.94, appeal=False)
    assert set(asked) == {24}
    assert not all(check.passed for check in checks)


def test_a_small_model_is_judged_on_every_question(tiny_bundle, monkeypatch):
    taken = []

    def few_of(encoder, tokens, max_length, overlap, **options):
        found = encode(encoder, tokens, max_length, overlap, **options)
        taken.append(len(found))
        return found[:2]

    encode = checks.encode
    monkeypatch.setattr(checks, "encode", few_of)
    monkeypatch.setattr(checks, "compare", Judge(lambda count: 0.0))
    manifest = Bundle.open(tiny_bundle).manifest
    measure(tiny_bundle, manifest, checkpoint=None, threads=1, progress=SilentProgress())
    assert taken[0] < taken[1] == len(questions())


def test_fp32_is_held_to_its_logits_alone():
    tie = Comparison(9e-5, 0.97, 40, 36)
    assert GATES["fp32"].passed(tie)
    assert not GATES["fp32"].passed(Comparison(2e-4, 1.0, 40, 36))
    assert not GATES["fp32"].passed(Comparison(float("nan"), 0.0, 40, 36))
    assert str(GATES["fp32"]) == "logits within 0.0001"


def test_graphs_for_other_processors_are_named(tiny_bundle, tiny_half_bundle):
    assert not_run_here(Bundle.open(tiny_bundle).manifest) == []
    assert not_run_here(Bundle.open(tiny_half_bundle).manifest) == [
        "onnx/model_fp16_packed.onnx",
        "onnx/model_fp16_cuda.onnx",
    ]
