"""The study of the kernels' paths: its tables, and what the counting build counts."""

from __future__ import annotations

import pytest

from fastspan.benchmarks.studies.kernels.paths import in_turns, path_table, stage_table
from fastspan.benchmarks.studies.kernels.stages import STAGES, counting_kernels
from fastspan.errors import MissingDependency


def test_each_call_has_as_many_turns_and_its_median_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("fastspan.benchmarks.studies.kernels.paths.time.perf_counter", lambda: clock[0])
    calls = {"a": 0, "b": 0}

    def call(name: str, seconds: float) -> None:
        calls[name] += 1
        clock[0] += seconds

    found = in_turns({"a": lambda: call("a", 1.0), "b": lambda: call("b", 3.0)}, rounds=4, runs=2)
    assert found == {"a": 1.0, "b": 3.0}
    assert calls == {"a": 12, "b": 12}


def test_a_path_is_held_against_both_graphs_and_its_own_peak() -> None:
    table = path_table(
        {32: {"avx2": 2e-3, "plain int8 graph": 3e-3, "fp32 graph": 4e-3}}, {32: 1e9}, {"avx2": 1e12}
    )
    assert table.rows == [
        ["avx2", "2.00", "1.50", "2.00", "50%"],
        ["plain int8 graph", "3.00", "–", "1.33", "–"],
        ["fp32 graph", "4.00", "–", "1.00", "–"],
    ]


def test_every_stage_has_a_row() -> None:
    shares = {("avx2", 32): dict.fromkeys(STAGES, 0.0) | {"softmax": 1.0}}
    rows = {row[0]: row[1] for row in stage_table(shares).rows}
    assert list(rows) == list(STAGES)
    assert rows["softmax"] == "100.0%"


def test_without_a_compiler_or_sources_it_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependency, match=r"needs a C\+\+ compiler"):
        counting_kernels(tmp_path)
    with pytest.raises(MissingDependency, match="run this in a checkout"):
        counting_kernels(tmp_path, sources=list)
