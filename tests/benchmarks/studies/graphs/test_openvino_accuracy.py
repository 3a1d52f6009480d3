"""The study of NNCF with layers left in fp32, but for NNCF, which has an environment of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from fastspan.benchmarks.studies.graphs import openvino_accuracy
from fastspan.benchmarks.studies.graphs.openvino_accuracy import accuracy_table, main
from fastspan.errors import MissingDependency


def model(name, equal, kept, milliseconds):
    rounds = {str(number): [milliseconds / 1e3] for number in range(8)}
    return {"name": name, "equal": equal, "float": kept, "layers": 4, "rounds": rounds}


FOUND = {
    "versions": {"openvino": "1", "nncf": "2"},
    "control": 180,
    "judged": 200,
    "models": [
        model("fp32", 1.0, ["a", "b", "c", "d"], 8.0),
        model("int8", 0.9, [], 4.0),
        model("int8, the worst 1 in fp32", 0.98, ["b"], 5.0),
    ],
}


def test_the_table_gives_shares_layers_and_times_beside_ordinary_int8():
    table = accuracy_table(FOUND)
    assert [row[2] for row in table.rows] == ["4 of 4", "0 of 4", "1 of 4"]
    assert table.rows[2][1].startswith("98.0% [9")
    assert [row[3] for row in table.rows] == ["2.00 [2.00, 2.00]", "1", "1.25 [1.25, 1.25]"]


def test_what_layers_are_ranked_on_is_not_what_models_are_judged_on(tmp_path, monkeypatch, capsys):
    tasks = []

    def run(command, **_):
        given, result = command[-2:]
        with open(given, encoding="utf-8") as file:
            tasks.append(json.load(file))
        with open(result, "w", encoding="utf-8") as file:
            json.dump(FOUND, file)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(openvino_accuracy.subprocess, "run", run)
    assert main(["--out", str(tmp_path), "--ignored", "3"], interpreter=lambda _: sys.executable) == 0
    (task,) = tasks
    assert task["ignored"] == [3]
    control, judged = ({tuple(pair) for pair in task[name]} for name in ("control", "judged"))
    assert not control & judged
    assert len(control) > 50
    assert len(judged) > 150
    page = tmp_path / "openvino-accuracy.md"
    assert capsys.readouterr().out.strip() == str(page)
    text = page.read_text(encoding="utf-8")
    assert "int8, the worst 1 in fp32" in text
    assert "| b |" in text


@pytest.mark.parametrize("code", [0, 3])
def test_a_failure_is_told(tmp_path, monkeypatch, capsys, code):
    monkeypatch.setattr(
        openvino_accuracy.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, code)
    )
    assert main(["--out", str(tmp_path)], interpreter=lambda _: sys.executable) == 1
    assert f"error: NNCF failed with exit code {code}" in capsys.readouterr().err


def test_an_environment_that_cannot_be_made_is_told(tmp_path, capsys):
    def missing(_):
        raise MissingDependency("The environment 'openvino' cannot be installed: no such version")

    assert main(["--out", str(tmp_path)], interpreter=missing) == 1
    assert "error: The environment 'openvino' cannot be installed" in capsys.readouterr().err
