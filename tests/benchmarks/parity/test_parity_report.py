from __future__ import annotations

import hashlib
import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastspan.benchmarks.accuracy.evaluation import Outcomes, evaluate
from fastspan.benchmarks.parity.figures import compare_runs
from fastspan.benchmarks.parity.gates import ACCURACY_GATES, FEWEST_FOR_F1, Demand, held_against
from fastspan.benchmarks.parity.markdown import parity_markdown, summary_table
from fastspan.benchmarks.parity.record import ParityReport
from fastspan.benchmarks.parity.report import save_parity_report
from fastspan.benchmarks.parity.runs import VariantRun, encode_questions, find_checkpoint, run_variant
from fastspan.benchmarks.questions.evaluation_set import open_data
from fastspan.bundle.folder import Bundle
from fastspan.bundle.manifest import FileRecord
from fastspan.cli.main import main
from fastspan.errors import DataError
from fastspan.export.checkpoint.source import resolve_source
from fastspan.export.verification.comparison import logits_of
from fastspan.loading import load_bundle
from fastspan.options import LoadOptions
from fastspan.runtime.session import OnnxSession, SessionSettings
from support.questions.tiny_questions import answered, each_question, question, squad_document, write_squad

QUESTIONS = tuple(question(f"q{i}", *(["red"] if i % 2 else [])) for i in range(200))


def a_run(shift: float = 0.0, changed: tuple[int, ...] = (), text: str = "green") -> VariantRun:
    """Answers "red" to every second question; logits moved by ``shift``; some answers changed."""
    predictions = answered(QUESTIONS, lambda i, _: (text if i in changed else "red", -3.0 if i % 2 else 3.0))
    predictions = tuple(replace(p, null_score=p.null_score + 2 * shift) for p in predictions)
    logits = [(np.full(50, 1.0 + shift, np.float32), np.full(50, 2.0 + shift, np.float32))] * 200
    outcomes = Outcomes(QUESTIONS, predictions, 4.0)
    return VariantRun("model.onnx", ("CPUExecutionProvider",), 2, outcomes, logits)


FILES = {
    "model.onnx": FileRecord(sha256="a" * 64, bytes=400),
    "model.onnx_data": FileRecord(sha256="b" * 64, bytes=600),
}


def figures(run: VariantRun, thresholds=(0.0,), name: str = "fp32"):
    return compare_runs(name, FILES, a_run(), run, thresholds)


def passed(
    variant: str, run: VariantRun, fp32_f1: float = 100.0, questions: int = FEWEST_FOR_F1
) -> list[bool | None]:
    return [
        demand.passed for demand in held_against(ACCURACY_GATES[variant], figures(run), fp32_f1, questions)
    ]


def a_report(questions: int, fp32_f1: float = 100.0, name: str = "tiny-qa") -> ParityReport:
    parity = figures(a_run(), name="int8")
    return ParityReport(
        name=name,
        data="data",
        data_sha256="0" * 64,
        questions=questions,
        unanswerable=questions // 2,
        windows=questions,
        threshold=0.0,
        exact=100.0,
        f1=100.0,
        reference_seconds=1.0,
        variants=(parity,),
        demands={"int8": held_against(ACCURACY_GATES["int8"], parity, fp32_f1, questions)},
        environment={},
        command="fastspan verify",
    )


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
    assert [d.passed for d in held_against(ACCURACY_GATES["fp32"], found, 100.0, 200)] == [True, False, True]


def test_f1_is_judged_only_where_one_answer_is_not_the_whole_gate():
    # Equal answers are judged all the same.
    assert passed("fp16", a_run(changed=(3,)), questions=FEWEST_FOR_F1 - 1) == [False, None]
    assert passed("int8", a_run(), 90.0, questions=367) == [True, None]
    assert passed("int8", a_run(), 90.0, questions=FEWEST_FOR_F1) == [True, False]
    assert None not in passed("fp32", a_run(), questions=1)


def test_what_is_not_judged_is_said_and_fails_nothing():
    few, many = a_report(367, fp32_f1=90.0), a_report(FEWEST_FOR_F1, fp32_f1=90.0)
    assert few.passed
    assert "F1 of int8 not judged: too few questions (367" in few.unjudged
    text = parity_markdown(few)
    assert few.unjudged in text
    assert "| F1 within 0.3 points of fp32's | 10.000 | not judged: too few questions |" in text
    assert "every gate that was judged passed" in text
    assert "PASS, F1 not judged" in summary_table(few)

    assert not many.passed
    assert many.missed == ("int8: F1 within 0.3 points of fp32's, found 10.000",)
    assert many.unjudged == ""
    assert "not judged" not in parity_markdown(many)
    both = replace(few, demands={"int8": (Demand("a", "b", False), Demand("c", "d", None))})
    assert "| FAIL |" in summary_table(both)
    assert "NOT every gate passed" in parity_markdown(both)


def test_reports_on_two_models_lie_side_by_side(tmp_path: Path):
    names = [
        path.name
        for name in ("one", "owner/two")
        for path in save_parity_report(a_report(5, name=name), tmp_path)
    ]
    assert names == [
        "parity-one-data.md", "parity-one-data.json",
        "parity-owner-two-data.md", "parity-owner-two-data.json",
    ]  # fmt: skip
    assert sorted(names) == sorted(path.name for path in tmp_path.iterdir())


def test_a_report_names_the_files_of_each_graph():
    found = figures(a_run())
    assert found.bytes == 1000
    assert found.sha256 == {"model.onnx": "a" * 64, "model.onnx_data": "b" * 64}
    assert found.threads == 2


class PackedStandIn:
    """A loaded session of another layout, which no session made anew from its graph could stand for."""

    out_of_memory_retries = 0
    shared_with_cpu = ""

    def __init__(self, session: OnnxSession) -> None:
        self.graph = replace(session.graph, layout="packed", target="cuda")
        self.settings, self.providers = session.settings, ("MadeUpExecutionProvider",)
        self._session, self.runs = session, []

    def run(self, windows, *, deadline=None):
        self.runs.append(len(windows))
        longest = max(len(window.input_ids) for window in windows)
        sides = [], []
        for window in windows:
            for side, row in zip(sides, self._session.run([window], deadline=deadline), strict=True):
                side.append(np.pad(row[0], (0, longest - row.shape[1]), constant_values=np.nan))
        return tuple(np.stack(side) for side in sides)


def test_the_loaded_session_itself_is_recorded_whatever_its_layout(tiny_bundle: Path, tmp_path):
    questions = open_data(write_squad(tmp_path)).questions
    bundle = Bundle.open(tiny_bundle)
    pairs = encode_questions(bundle, questions)
    options = LoadOptions(variant="fp32", provider="cpu", threads=1, optimize_for="throughput")
    expected = run_variant(bundle, options, questions, pairs, step=lambda: None)
    loaded = load_bundle(tiny_bundle, None, options)
    stand_in = PackedStandIn(loaded.session)
    composed = replace(loaded, session=stand_in)
    run = run_variant(bundle, options, questions, pairs, step=lambda: None, load=lambda *_: composed)
    assert max(stand_in.runs) > 1
    assert sum(stand_in.runs) >= len(
        {window.input_ids.tobytes() for pair in pairs for window in pair.windows}
    )
    assert run.providers == ("MadeUpExecutionProvider",)
    assert run.outcomes.texts(0.0) == expected.outcomes.texts(0.0)
    for one, other in zip(run.logits, expected.logits, strict=True):
        for found, wanted in zip(one, other, strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.reference
@pytest.mark.parametrize(
    ("checkpoint", "asked"),
    [
        (None, ("owner/name", "c" * 40)),
        ("owner/name", ("owner/name", "c" * 40)),
        ("owner/other", ("owner/other", None)),
    ],
)
def test_the_checkpoint_the_manifest_names_is_taken_at_its_revision(
    tiny_bundle: Path, tiny_checkpoint: Path, checkpoint, asked
):
    calls = []

    def resolve(*source):
        calls.append(source)
        return resolve_source(tiny_checkpoint)

    bundle = Bundle.open(tiny_bundle)
    source = replace(bundle.manifest.source, id="owner/name", revision="c" * 40)
    bundle = replace(bundle, manifest=replace(bundle.manifest, source=source))
    assert find_checkpoint(bundle, checkpoint, resolve=resolve) == tiny_checkpoint
    assert calls == [asked]


@pytest.mark.reference
def test_a_folder_with_the_checkpoints_name_is_taken_as_it_is(
    tiny_bundle: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch
):
    shutil.copytree(tiny_checkpoint, tmp_path / "owner" / "name")
    monkeypatch.chdir(tmp_path)
    bundle = Bundle.open(tiny_bundle)
    source = replace(bundle.manifest.source, id="owner/name", revision="c" * 40)
    bundle = replace(bundle, manifest=replace(bundle.manifest, source=source))
    assert find_checkpoint(bundle, "owner/name") == Path("owner/name")


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
    expected = logits_of(OnnxSession(tiny_bundle, graph, settings), pairs, lambda: None)
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


@pytest.mark.reference
def test_the_command_writes_the_report(tiny_bundle: Path, tiny_checkpoint: Path, tmp_path: Path, capsys):
    data, out = write_squad(tmp_path), tmp_path / "reports"
    options = ("--checkpoint", str(tiny_checkpoint), "--data", str(data), "--provider", "cpu")
    assert verify(tiny_bundle, *options, "--variants", "fp32", "--out", str(out)) == 0
    assert "| fp32 |" in capsys.readouterr().out
    report = json.loads((out / "parity-tiny-qa-tiny.json").read_text(encoding="utf-8"))
    assert report["passed"] is True
    assert report["questions"] == 40
    assert report["environment"]["provider"] == "CPUExecutionProvider"
    assert report["environment"]["threads"] == report["environment"]["PyTorch's threads"] == "1"
    assert report["environment"]["data"] == f"tiny, sha256 {hashlib.sha256(data.read_bytes()).hexdigest()}"
    assert shlex.split(report["command"]) == [
        "fastspan", "verify", str(tiny_bundle), "--against", "pytorch", "--data", str(data),
        "--checkpoint", str(tiny_checkpoint), "--variants", "fp32", "--provider", "cpu", "--out", str(out),
        "--threads", "1",
    ]  # fmt: skip
    digest = json.loads((tiny_bundle / "fastspan.json").read_bytes())["digest"]
    assert digest in report["environment"]["bundle"]
    (parity,) = report["variants"]
    records = Bundle.open(tiny_bundle).manifest.files
    assert parity["sha256"] == {path: records[path].sha256 for path in parity["sha256"]}
    assert next(iter(parity["sha256"])) == parity["graph"]
    assert parity["threads"] == 1
    assert parity["agreements"][0]["equal_answers"] == 1.0
    assert parity["agreements"][0]["f1"] == pytest.approx(report["f1"])
    assert 0 < parity["largest_difference"] <= 1e-4
    markdown = (out / "parity-tiny-qa-tiny.md").read_text(encoding="utf-8")
    assert report["command"] in markdown
    assert "every gate passed" in markdown
    assert markdown.count("| PASS |") == 4  # the summary's and one a demand
    for value in report["environment"].values():
        assert value in markdown


@pytest.mark.reference
def test_a_missed_gate_is_reported_and_is_an_error(
    tiny_bundle: Path, tiny_checkpoint: Path, tmp_path: Path, capsys, monkeypatch
):
    data, out = write_squad(tmp_path), tmp_path / "reports"
    monkeypatch.setitem(ACCURACY_GATES, "int8", replace(ACCURACY_GATES["int8"], logits_within=0.0))
    options = ("--checkpoint", str(tiny_checkpoint), "--data", str(data), "--provider", "cpu")
    assert verify(tiny_bundle, *options, "--variants", "int8", "--out", str(out)) == 1
    written = capsys.readouterr()
    told = written.err.strip().splitlines()[-1]
    assert "int8: logits within 0" in told
    assert "F1" not in told
    assert "F1 of int8 not judged: too few questions (40" in written.out
    report = json.loads((out / "parity-tiny-qa-tiny.json").read_text(encoding="utf-8"))
    assert report["passed"] is False
    assert [parity["variant"] for parity in report["variants"]] == ["fp32", "int8"]
    markdown = (out / "parity-tiny-qa-tiny.md").read_text(encoding="utf-8")
    assert "NOT every gate passed" in markdown
    assert "| FAIL |" in markdown


@pytest.mark.reference
def test_another_checkpoint_is_refused(tiny_bundle: Path, tiny_checkpoint: Path, tmp_path: Path, capsys):
    other = Path(shutil.copytree(tiny_checkpoint, tmp_path / "other"))
    weights = (other / "model.safetensors").read_bytes()
    (other / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    data = write_squad(tmp_path)
    assert verify(tiny_bundle, "--checkpoint", str(other), "--data", str(data)) == 1
    assert "is not the file that" in capsys.readouterr().err


@pytest.mark.reference
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
