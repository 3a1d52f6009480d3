from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_questions import answered, each_question, question, squad_document, write_squad

from fastspan.benchmarks.eval_data import open_data
from fastspan.benchmarks.evaluation import Outcomes, evaluate
from fastspan.benchmarks.parity_figures import GATES, compare_runs, held_against
from fastspan.benchmarks.parity_runs import VariantRun, encode_questions, run_variant
from fastspan.bundle import Bundle
from fastspan.cli import main
from fastspan.config import LoadOptions
from fastspan.errors import DataError
from fastspan.export.parity import has_pytorch, logits_of
from fastspan.session import Session, SessionSettings

needs_pytorch = pytest.mark.skipif(not has_pytorch(), reason="needs torch and transformers")

QUESTIONS = tuple(question(f"q{i}", *(["red"] if i % 2 else [])) for i in range(200))


def a_run(shift: float = 0.0, changed: tuple[int, ...] = (), text: str = "green") -> VariantRun:
    """Answers "red" to every second question; logits moved by ``shift``; some answers changed."""
    predictions = answered(QUESTIONS, lambda i, _: (text if i in changed else "red", -3.0 if i % 2 else 3.0))
    predictions = tuple(replace(p, null_score=p.null_score + 2 * shift) for p in predictions)
    logits = [(np.full(50, 1.0 + shift, np.float32), np.full(50, 2.0 + shift, np.float32))] * 200
    return VariantRun("model.onnx", ("CPUExecutionProvider",), Outcomes(QUESTIONS, predictions, 4.0), logits)


def figures(run: VariantRun, thresholds=(0.0,)):
    return compare_runs("fp32", 1000, a_run(), run, thresholds)


def passed(variant: str, run: VariantRun, fp32_f1: float = 100.0) -> list[bool]:
    return [demand.passed for demand in held_against(GATES[variant], figures(run), fp32_f1)]


def test_a_run_equals_itself():
    found = figures(a_run())
    assert found.largest_difference == found.difference_999 == found.null_score_difference == 0
    assert found.equal_spans == 1
    agreement = found.agreements[0]
    assert (agreement.exact, agreement.f1, agreement.equal_answers) == (100, 100, 1)
    assert (agreement.f1_difference.low, agreement.f1_difference.high) == (0, 0)
    assert (found.differing, found.disagreements) == (0, ())
    assert found.questions_per_second == 50


def test_differences_of_logits_and_null_scores():
    moved = a_run()
    moved.logits[7] = (moved.logits[7][0].copy(), moved.logits[7][1])
    moved.logits[7][0][3] = 1.5
    found = figures(moved)
    assert found.largest_difference == 0.5
    assert found.difference_999 == 0  # one of 20,000
    assert figures(a_run(shift=0.25)).null_score_difference == pytest.approx(0.5)


def test_answers_that_differ_are_counted_and_shown_worst_first():
    # 3 and 5 are answerable and now wrong; 8 is unanswerable and stays unanswered: its span does not matter.
    found = figures(a_run(changed=(3, 5, 8)))
    assert found.equal_spans == pytest.approx(197 / 200)
    assert found.differing == 2
    agreement = found.agreements[0]
    assert agreement.equal_answers == pytest.approx(198 / 200)
    assert agreement.f1 == pytest.approx(99.0)
    assert agreement.f1_difference.estimate == pytest.approx(-1.0)
    assert agreement.f1_difference.low < -1.0 < agreement.f1_difference.high
    assert {case.id for case in found.disagreements} == {"q3", "q5"}
    assert found.disagreements[0].f1_loss == 1.0
    assert found.disagreements[0].pytorch == "red"
    assert found.disagreements[0].variant == "green"
    assert found.disagreements[0].references == ("red",)


def test_ten_disagreements_at_most_those_that_cost_most_first():
    found = figures(a_run(changed=tuple(range(1, 41, 2)), text="red one"))
    mixed = figures(a_run(changed=(1,), text="green"))
    assert found.differing == 20
    assert len(found.disagreements) == 10
    assert mixed.disagreements[0].f1_loss > found.disagreements[0].f1_loss > 0


def test_every_threshold_has_its_figures():
    found = figures(a_run(changed=(8,)), thresholds=(0.0, 5.0))
    assert [a.threshold for a in found.agreements] == [0.0, 5.0]
    assert [a.equal_answers for a in found.agreements] == [1.0, pytest.approx(199 / 200)]
    assert found.agreements[1].f1 == pytest.approx(50.0)


def test_the_gate_of_fp32():
    assert passed("fp32", a_run()) == [True, True, True]
    assert passed("fp32", a_run(changed=(3,))) == [False, True, True]
    # A shift of 8e-5 moves the null score, a sum of two logits, by more than a gate on logits would let pass.
    assert passed("fp32", a_run(shift=8e-5)) == [True, True, False]
    assert passed("fp32", a_run(shift=2e-4)) == [True, False, False]


def test_the_gates_of_fp16_and_int8():
    assert passed("fp16", a_run()) == [True, True]
    assert passed("fp16", a_run(changed=(3,))) == [False, False]
    assert passed("int8", a_run(changed=(1, 3, 5, 7, 9, 11)), 97.2) == [True, True]
    assert passed("int8", a_run(changed=(1, 3, 5, 7, 9, 11, 13)), 96.5) == [False, True]
    assert passed("int8", a_run(changed=(1, 3)), 99.4) == [True, False]
    assert passed("int8", a_run(), 99.6) == [True, False]


def test_a_difference_that_is_no_number_passes_no_gate():
    found = replace(figures(a_run()), largest_difference=float("nan"))
    assert [d.passed for d in held_against(GATES["fp32"], found, 100.0)] == [True, False, True]


def test_the_logits_are_those_the_engine_ran(tiny_bundle: Path, tmp_path: Path):
    document = squad_document()
    # One question twice, and one of several windows.
    entries = document["data"][0]["paragraphs"]
    entries[0]["qas"][1]["question"] = entries[0]["qas"][0]["question"]
    entries[2]["context"] += " rain" * 900
    path = tmp_path / "windows.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    questions = open_data(path).questions
    bundle = Bundle.open(tiny_bundle)
    pairs = encode_questions(bundle, questions)
    assert max(len(pair.windows) for pair in pairs) > 1
    options = LoadOptions(variant="fp32", provider="cpu", threads=2, optimize_for="throughput")
    steps = []
    run = run_variant(bundle, options, questions, pairs, step=lambda: steps.append(1))
    assert len(steps) == len(questions)
    assert run.graph in bundle.files_for(bundle.manifest.variants["fp32"].graph_for("cpu"))
    settings = SessionSettings(provider="CPUExecutionProvider", threads=1, spinning=False)
    graph = bundle.manifest.variants["fp32"].graph_for("cpu")
    expected = logits_of(Session(tiny_bundle, graph, settings), pairs, lambda: None)
    assert len(run.logits) == len(expected) == sum(len(pair.windows) for pair in pairs)
    for one, other in zip(run.logits, expected, strict=True):
        for found, wanted in zip(one, other, strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_a_question_that_cannot_be_asked_is_named(tiny_bundle: Path, tmp_path: Path):
    document = squad_document()
    each_question(document)[11]["question"] = ""
    path = tmp_path / "blank.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(DataError, match="question 'p2-q1' cannot be asked"):
        encode_questions(Bundle.open(tiny_bundle), open_data(path).questions)


def verify(bundle: Path, *options: str) -> int:
    return main(["verify", str(bundle), "--against", "pytorch", "--threads", "1", *options])


@needs_pytorch
def test_the_command_writes_the_report(tiny_bundle: Path, tiny_checkpoint: Path, tmp_path: Path, capsys):
    data, out = write_squad(tmp_path), tmp_path / "reports"
    options = ("--checkpoint", str(tiny_checkpoint), "--data", str(data), "--provider", "cpu")
    assert verify(tiny_bundle, *options, "--variants", "fp32", "--out", str(out)) == 0
    assert "| fp32 |" in capsys.readouterr().out
    report = json.loads((out / "parity-tiny.json").read_text(encoding="utf-8"))
    assert report["passed"] is True
    assert report["questions"] == 40
    assert report["environment"]["provider"] == "CPUExecutionProvider"
    digest = json.loads((tiny_bundle / "fastspan.json").read_bytes())["digest"]
    assert digest in report["environment"]["bundle"]
    (parity,) = report["variants"]
    assert parity["agreements"][0]["equal_answers"] == 1.0
    assert parity["agreements"][0]["f1"] == pytest.approx(report["f1"])
    assert 0 < parity["largest_difference"] <= 1e-4
    markdown = (out / "parity-tiny.md").read_text(encoding="utf-8")
    assert "every gate passed" in markdown
    assert markdown.count("| PASS |") == 4  # the summary's and one a demand
    for value in report["environment"].values():
        assert value in markdown


@needs_pytorch
def test_a_missed_gate_is_reported_and_is_an_error(
    tiny_bundle: Path, tiny_checkpoint: Path, tmp_path: Path, capsys, monkeypatch
):
    data, out = write_squad(tmp_path), tmp_path / "reports"
    monkeypatch.setitem(GATES, "int8", replace(GATES["int8"], logits_within=0.0))
    options = ("--checkpoint", str(tiny_checkpoint), "--data", str(data), "--provider", "cpu")
    assert verify(tiny_bundle, *options, "--variants", "int8", "--out", str(out)) == 1
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert "int8: logits within 0" in told
    report = json.loads((out / "parity-tiny.json").read_text(encoding="utf-8"))
    assert report["passed"] is False
    assert [parity["variant"] for parity in report["variants"]] == ["fp32", "int8"]
    markdown = (out / "parity-tiny.md").read_text(encoding="utf-8")
    assert "NOT every gate passed" in markdown
    assert "| FAIL |" in markdown


@needs_pytorch
def test_another_checkpoint_is_refused(tiny_bundle: Path, tiny_checkpoint: Path, tmp_path: Path, capsys):
    other = Path(shutil.copytree(tiny_checkpoint, tmp_path / "other"))
    weights = (other / "model.safetensors").read_bytes()
    (other / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    data = write_squad(tmp_path)
    assert verify(tiny_bundle, "--checkpoint", str(other), "--data", str(data)) == 1
    assert "is not the file that" in capsys.readouterr().err


@needs_pytorch
def test_unknown_variants_are_refused(tiny_bundle: Path, tiny_checkpoint: Path, tmp_path: Path, capsys):
    options = ("--checkpoint", str(tiny_checkpoint), "--data", str(write_squad(tmp_path)))
    assert verify(tiny_bundle, *options, "--variants", "fp32,int4") == 1
    assert "no variant 'int4'" in capsys.readouterr().err


def test_options_of_the_comparison_need_the_comparison(tiny_bundle: Path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["verify", str(tiny_bundle), "--data", "x.json"])
    assert stopped.value.code == 2
    assert "--data goes with --against pytorch" in capsys.readouterr().err


def test_pytorchs_scores_are_those_of_its_answers():
    run = a_run(changed=(3,))
    assert evaluate(run.outcomes, 0.0).official["f1"] == pytest.approx(99.5)
