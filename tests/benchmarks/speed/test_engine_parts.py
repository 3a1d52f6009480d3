from __future__ import annotations

import json
import os

import pytest

from fastspan.benchmarks.speed.engine_parts import read_parts
from fastspan.errors import DataError


def save(storage, name, median, age):
    """A baseline as pytest-benchmark saves it."""
    path = storage / name
    path.parent.mkdir(parents=True, exist_ok=True)
    stats = {"median": median, "iqr": 0.1, "rounds": 9}
    path.write_text(json.dumps({"benchmarks": [{"name": "test_encode_one_pair", "stats": stats}]}))
    os.utime(path, (age, age))


def test_the_newest_is_compared_with_the_one_before(tmp_path):
    assert read_parts(tmp_path) == ()
    save(tmp_path, "Linux/0001_a.json", 4.0, 1)
    (first,) = read_parts(tmp_path)
    assert (first.name, first.median, first.baseline) == ("encode one pair", 4.0, None)
    save(tmp_path, "Linux/0002_b.json", 3.0, 2)
    save(tmp_path, "Linux/0003_c.json", 2.0, 4)
    # Another machine's baseline is no baseline for this one.
    save(tmp_path, "Darwin/0009_d.json", 9.0, 3)
    (part,) = read_parts(tmp_path)
    assert (part.median, part.baseline, part.rounds) == (2.0, 3.0, 9)


def test_a_damaged_baseline_is_named(tmp_path):
    save(tmp_path, "Linux/0001_a.json", 4.0, 1)
    (tmp_path / "Linux" / "0001_a.json").write_text("{}")
    with pytest.raises(DataError, match=r"0001_a\.json"):
        read_parts(tmp_path)
