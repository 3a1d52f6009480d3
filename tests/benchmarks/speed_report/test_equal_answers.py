from __future__ import annotations

from dataclasses import replace

import pytest

from fastspan.benchmarks.speed.answers import Answered
from fastspan.benchmarks.speed.record import MeasuredPeer, SpeedRecord
from fastspan.benchmarks.speed.samples import Measured
from fastspan.benchmarks.speed_report.equal_answers import EqualAnswers, equal_answers, share_cell
from support.recorded_speed import MODEL, write_recorded

ANSWERS = ["a", "b", "", "d"]


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    return SpeedRecord.read(write_recorded(tmp_path_factory.mktemp("speed")) / "speed-cpu.json")


def compared(record, given):
    """Name → (share, reference) of systems that answered so."""
    peers = [
        MeasuredPeer(
            model=MODEL, name=name, system=name.split()[0], variant=name.split(" ", 1)[1], mode="latency"
        )
        for name in given
    ]
    answered = [Answered.of(MODEL, name, answers) for name, answers in given.items()]
    found = equal_answers(Measured(replace(record, peers=tuple(peers)), [], answered))
    return {f"{system} {variant}": (one.share, one.reference) for (_, system, variant), one in found.items()}


@pytest.mark.parametrize(
    ("system", "measured", "reference"),
    [
        ("optimum int8 avx2", ("optimum fp32", "transformers fp32"), "optimum fp32"),
        ("optimum int8 avx2", ("transformers fp32", "FastSpan fp32"), "transformers fp32"),
        ("OpenVINO int8 (NNCF)", ("FastSpan fp32", "transformers fp32"), "FastSpan fp32"),
        ("transformers fp32 compiled", ("transformers fp32",), "transformers fp32"),
        ("FastSpan fp16 CUDA", ("FastSpan fp32 Tensorrt", "FastSpan fp32 CUDA"), "FastSpan fp32 CUDA"),
    ],
)
def test_the_reference_is_the_systems_own_fp32_else_one_that_decodes_alike(
    record, system, measured, reference
):
    given = {system: ["a", "b", "", "x"], **dict.fromkeys(measured, ["other"] * 4), reference: ANSWERS}
    assert compared(record, given)[system] == (0.75, reference)


def test_without_a_reference_or_with_other_questions_nothing_is_said(record):
    assert compared(record, {"Haystack bf16": ANSWERS, "FastSpan fp32": ANSWERS}).keys() == {"FastSpan fp32"}
    assert "FastSpan int8" not in compared(record, {"FastSpan fp32": ANSWERS, "FastSpan int8": ANSWERS[:3]})


def test_no_answer_is_an_answer_of_its_own(record):
    found = compared(record, {"FastSpan fp32": ["", "a"], "FastSpan int8": ["a", "a"]})
    assert found["FastSpan int8"][0] == 0.5


@pytest.mark.parametrize(("equal", "cell"), [(970, "97.0%"), (969, "96.9% ✗"), (1000, "100.0%")])
def test_fewer_than_97_percent_are_marked(equal, cell):
    found = EqualAnswers(reference="x", questions=1000, equal=equal)
    assert share_cell(found) == cell
    low, high = found.interval
    assert low < found.share <= high + 1e-9
    assert share_cell(None) == "–"


def test_what_is_kept_quotes_nothing():
    line = Answered.of(MODEL, "FastSpan int8", ["Rollo", ""]).line()
    assert "Rollo" not in line
    assert line.endswith("\n")
