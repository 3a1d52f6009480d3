"""Operators' times out of ONNX Runtime's protocol."""

from __future__ import annotations

import json

import pytest

from fastspan.benchmarks.studies.graphs import operators
from fastspan.benchmarks.studies.graphs.operators import main, operator_seconds, operator_table, profiled
from fastspan.errors import DataError, InputError


def node(kind, microseconds):
    return {"cat": "Node", "name": f"{kind}_1_kernel_time", "dur": microseconds, "args": {"op_name": kind}}


def run(microseconds):
    return {"cat": "Session", "name": "model_run", "dur": microseconds, "args": {}}


LOADING = {"cat": "Session", "name": "session_initialization", "dur": 9_000_000, "args": {}}
EVENTS = [
    *(LOADING, node("Gemm", 900), node("Gelu", 900), run(9000)),
    *(node("Gemm", 40), node("Gelu", 5), node("Gemm", 30), run(80)),
    *(node("Gemm", 50), node("Gelu", 7), node("Gemm", 30), run(90)),
    *(node("Gemm", 60), node("Gelu", 9), node("Gemm", 30), run(100)),
]


def test_an_operators_times_in_a_run_are_summed_and_the_median_run_counts():
    found = operator_seconds(EVENTS, 3)
    assert found == pytest.approx({"Gemm": 80e-6, "Gelu": 7e-6, "between operators": 3e-6})
    assert list(found) == ["Gemm", "Gelu", "between operators"]


def test_a_protocol_with_too_few_runs_is_refused():
    with pytest.raises(DataError, match="holds 4 runs, not 5"):
        operator_seconds(EVENTS, 5)


def test_small_operators_are_given_together_and_shares_add_up():
    table = operator_table(
        {
            32: {"Gemm": 0.9e-3, "Gelu": 0.096e-3, "Add": 0.004e-3, "between operators": 0.0},
            128: {"Gemm": 9e-3, "Gelu": 0.06e-3, "Add": 0.04e-3, "between operators": 0.9e-3},
        }
    )
    assert [row[0] for row in table.rows] == ["Gemm", "Gelu", "others", "between operators", "all"]
    assert table.rows[0][1:] == ("0.90 (90%)", "9.00 (90%)")
    assert table.rows[2][1:] == ("0.00 (0%)", "0.04 (0%)")
    assert table.rows[-1][1:] == ("1.00", "10.00")


def test_a_bundles_runs_are_profiled_and_no_protocol_is_left(tiny_bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(operators.tempfile, "gettempdir", lambda: str(tmp_path))
    found = profiled(tiny_bundle, "fp32", 16, runs=2, threads=1)
    assert found["Gemm"] > 0
    assert found["MultiHeadAttention"] > 0
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="at least 1"):
        profiled(tiny_bundle, "fp32", 16, runs=0, threads=1)


def test_the_page_names_the_bundle_and_how_to_make_it_again(tiny_bundle, tmp_path, capsys):
    name = json.loads((tiny_bundle / "fastspan.json").read_text(encoding="utf-8"))["name"]
    assert main([str(tiny_bundle), "--runs", "1", "--out", str(tmp_path)]) == 0
    text = (tmp_path / "operators.md").read_text(encoding="utf-8")
    assert f"## {name}, fp32" in text
    assert "python -m fastspan.benchmarks.studies.graphs.operators" in text
    assert capsys.readouterr().out.strip() == str(tmp_path / "operators.md")
    assert main([str(tmp_path), "--out", str(tmp_path)]) == 1
    assert "error: " in capsys.readouterr().err
