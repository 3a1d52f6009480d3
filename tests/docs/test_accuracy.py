"""The examples of docs/accuracy.md run and give what it says."""

from __future__ import annotations

import json
import re

from fastspan.benchmarks.questions.squad_files import read_squad
from support.paths import ROOT

PAGE = (ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return found


def test_the_example_of_a_threshold_from_costs_runs(bundled_bundle, tmp_path, monkeypatch, capsys):
    # The curve that the calibration above it fits; its threshold overrides the bundle's, calibrated or not.
    curve = {"answered_scale": 0.14889548492087293, "answered_offset": -1.2314493863194595}
    (tmp_path / "calibration").mkdir()
    (tmp_path / "calibration" / "calibration.json").write_text(json.dumps({"confidence": curve}))
    monkeypatch.chdir(tmp_path)
    exec(block("python").replace("faq-bot", str(bundled_bundle)), {})
    assert capsys.readouterr().out == block("text")


def test_the_example_of_json_lines_can_be_read(tmp_path):
    path = tmp_path / "example.jsonl"
    path.write_text(block("json"), encoding="utf-8")
    assert [question.is_impossible for question in read_squad(path)] == [False, True]
