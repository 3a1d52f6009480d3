"""The study of reading: its table is of the half that was not fitted on, Haystack's rows too."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from fastspan.benchmarks.peers.systems.haystack_reading import _record
from fastspan.benchmarks.questions.evaluation_set import open_data
from fastspan.benchmarks.questions.passage_sets import passage_sets
from fastspan.benchmarks.studies import calibration_by_variant, reading
from support.questions.learnable_sets import learnable_sets


def rows(page: Path) -> dict[str, list[str]]:
    table = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]
    return {name: rest for name, *rest in cells}


def test_the_page_has_a_row_a_system(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = learnable_sets(tiny_bundle, tmp_path)
    asked = []

    def haystack(checkpoint: str, sets: list) -> list[dict]:
        asked.extend(sets)
        # It finds the first reference in the right passage, and is sure of every second.
        return [
            {
                "best": {"text": each.question.answers[0], "passage": each.own, "score": 0.9 - n % 2 / 2}
                if each.question.answers
                else None,
                "no_answer": 0.3,
                "answered": bool(each.question.answers) and n % 2 == 0,
            }
            for n, each in enumerate(sets)
        ]

    command = ["--bundle", str(tiny_bundle), "--data", str(path), "--passages", "4", "--variant", "fp32"]
    command += ["--haystack", "--out", str(tmp_path / "out")]
    assert reading.main(command, haystack=haystack) == 0
    page = Path(capsys.readouterr().out.strip())
    assert asked == passage_sets(open_data(path).questions, 4)
    found = rows(page)
    assert list(found) == [
        "FastSpan, the own passage alone",
        "FastSpan, calibrated for one passage",
        "FastSpan, calibrated for sets",
        "the same with BM25's scores",
        "Haystack, as it comes",
        "Haystack, threshold fitted",
    ]
    assert found["Haystack, threshold fitted"][0].startswith("100.0 ")
    assert float(found["Haystack, threshold fitted"][2].split()[0]) == 100.0
    assert float(found["Haystack, as it comes"][2].split()[0]) < 100.0
    assert "Fitted on" in page.read_text(encoding="utf-8")


def test_what_cannot_be_studied_is_one_sentence(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for study in (reading, calibration_by_variant):
        assert study.main(["--bundle", str(tiny_bundle), "--every", "0", "--out", str(tmp_path)]) == 1
        assert "--every" in capsys.readouterr().err


def test_haystacks_answers_are_taken_with_their_passage() -> None:
    document = SimpleNamespace(meta={"passage": 3})
    best = SimpleNamespace(data="Rollo", document=document, score=0.4)
    none = SimpleNamespace(data=None, document=None, score=0.6)
    record = _record([none, best])
    assert record == {
        "best": {"text": "Rollo", "passage": 3, "score": 0.4},
        "no_answer": 0.6,
        "answered": False,
    }
    assert _record([]) == {"best": None, "no_answer": 0.0, "answered": False}


def test_every_variant_is_judged_on_its_own_logits(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = learnable_sets(tiny_bundle, tmp_path)
    command = ["--bundle", str(tiny_bundle), "--data", str(path), "--out", str(tmp_path / "out")]
    assert calibration_by_variant.main(command) == 0
    page = Path(capsys.readouterr().out.strip())
    assert {"fp32", "int8, plain graph"} <= set(rows(page))
    # The tiny bundle has no fp16, and no calibration: nothing is said of probabilities.
    assert "fp16 is not judged" in page.read_text(encoding="utf-8")
    assert rows(page)["fp32"][2:4] == ["–", "–"]
