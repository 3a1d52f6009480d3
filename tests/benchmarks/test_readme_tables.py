from __future__ import annotations

import json

import pytest

from fastspan.benchmarks.readme_tables import speed_tables
from fastspan.errors import DataError
from support.recorded_speed import write_recorded


def test_speed_stands_beside_equal_answers(tmp_path):
    write_recorded(tmp_path / "some-avx2")
    text = speed_tables(tmp_path)
    assert "| FastSpan int8 | – | 98.4% | 2.02 ms |" in text
    assert "| OpenVINO int8 (NNCF) | FastSpan int8 | 94.0% ✗ | 1." in text
    assert "of 367 questions" in " ".join(text.split())
    assert "int8 on minilm-l6-squad2 by default" in " ".join(text.split())


def test_of_several_kinds_of_hardware_the_newest_counts(tmp_path):
    for kind, measured in (("a", "2026-01-02"), ("b", "2026-02-01"), ("c", "2025-12-31")):
        path = write_recorded(tmp_path / kind) / "speed-cpu.json"
        record = json.loads(path.read_text(encoding="utf-8"))
        record["environment"]["measured"] = measured
        record["cpu"]["name"] = f"CPU {kind}"
        path.write_text(json.dumps(record), encoding="utf-8")
    assert "CPU b, 2 cores" in " ".join(speed_tables(tmp_path).split())


def test_a_cpu_that_multiplies_bytes_goes_before_a_newer_one_that_does_not(tmp_path):
    kinds = (("a", "2026-01-02", ["avx2", "avx512_vnni"]), ("b", "2026-02-01", ["avx2"]))
    for kind, measured, sets in kinds:
        path = write_recorded(tmp_path / kind) / "speed-cpu.json"
        record = json.loads(path.read_text(encoding="utf-8"))
        record["environment"]["measured"] = measured
        record["cpu"].update(name=f"CPU {kind}", instruction_sets=sets)
        path.write_text(json.dumps(record), encoding="utf-8")
    assert "CPU a, 2 cores" in " ".join(speed_tables(tmp_path).split())


def test_without_a_measurement_the_error_names_the_command(tmp_path):
    with pytest.raises(DataError, match="make bench"):
        speed_tables(tmp_path)
