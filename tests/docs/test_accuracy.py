"""The examples of docs/accuracy.md run and give what it says."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest

from fastspan import QuestionAnswerer
from fastspan.benchmarks.accuracy import evaluation
from fastspan.benchmarks.questions.squad_files import read_squad
from fastspan.cli.main import main
from fastspan.runtime.session import Session
from fastspan.text.encoder import Window
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


def sessions() -> list[tuple[str, str]]:
    """The page's commands on the project's own questions, each with what it shows below."""
    found = re.findall(r"^```console\n\$ fastspan (.*?[^\\])\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    own = [(command.replace("\\\n", " "), shown) for command, shown in found if shown]
    return [(command, shown) for command, shown in own if "verify" not in command]


NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def assert_shown(printed: str, shown: str) -> None:
    """The same words and, but for the last digits, the same numbers; an ellipsis leaves out what follows."""
    lines, wanted_lines = ([line for line in each.splitlines() if line] for each in (printed, shown))
    for line, expected in zip_longest(lines, wanted_lines):
        if expected == "…":
            return
        assert line is not None
        assert expected is not None
        if " on CPUExecutionProvider, threads: " in line:
            continue
        assert NUMBER.sub("#", line).split() == NUMBER.sub("#", expected).split()
        numbers, wanted = (list(map(float, NUMBER.findall(each))) for each in (line, expected))
        assert numbers == pytest.approx(wanted, abs=0.0051), f"{line!r} and not {expected!r}"


class Remembering:
    """A session that runs no windows twice."""

    def __init__(self, session: Session, known: dict[bytes, Any]) -> None:
        self._session, self._known = session, known

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, windows: Sequence[Window], *, deadline: float | None = None) -> Any:
        key = b"|".join(window.input_ids.tobytes() for window in windows)
        if key not in self._known:
            self._known[key] = self._session.run(windows, deadline=deadline)
        return self._known[key]


@pytest.mark.reference
def test_the_commands_print_what_stands_below_them(bundled_bundle, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    known: dict[bytes, Any] = {}

    # All are about the same questions in fp32; a calibration changes no score, only what is decided.
    def remember(qa, questions, *, ask=evaluation.ask, **options):
        loaded = qa.stages.loaded
        return ask(
            QuestionAnswerer(replace(loaded, session=Remembering(loaded.session, known))),
            questions,
            **options,
        )

    monkeypatch.setattr(evaluation, "ask", remember)
    (tmp_path / "models" / "exported").mkdir(parents=True)
    (tmp_path / "models" / "exported" / "minilm-l6-squad2").symlink_to(bundled_bundle)
    (tmp_path / "export").symlink_to(ROOT / "export")
    monkeypatch.chdir(tmp_path)
    for command, shown in sessions():
        code = main(shlex.split(command))
        printed = capsys.readouterr()
        told = "".join(line for line in printed.err.splitlines(True) if line.startswith("fastspan: error: "))
        assert code == bool(told)
        assert_shown(printed.out + told, shown)
    assert len(sessions()) == 5
    with QuestionAnswerer.load(Path("with-faq"), variant="fp32", threads=1, domain="faq") as qa:
        assert qa.info().domains == ("faq",)
        assert qa.info().no_answer_threshold == pytest.approx(-8.1483, abs=0.001)
