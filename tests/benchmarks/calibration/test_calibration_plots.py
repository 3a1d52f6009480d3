from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from fastspan.benchmarks.accuracy.thresholds import precision_coverage
from fastspan.benchmarks.calibration.confidence_fit import reliability_bins
from fastspan.benchmarks.calibration.plots import precision_coverage_plot, reliability_diagram
from fastspan.errors import InputError, MissingDependency
from support.packages import hide

generator = np.random.default_rng(0)
CONFIDENCE = generator.random(500)
BINS = reliability_bins(CONFIDENCE, generator.random(500) < CONFIDENCE)
# One bin where all are right and one where none is: the intervals' ends.
EXTREME = reliability_bins([0.05, 0.05, 0.95, 0.95], [0, 0, 1, 1])
MARGINS = generator.normal(size=5000)
CURVE = precision_coverage(MARGINS, generator.random(5000) < 1 / (1 + np.exp(MARGINS)))


def drawings(folder):
    pytest.importorskip("matplotlib")
    reliability_diagram(BINS, folder / "reliability.svg")
    reliability_diagram(EXTREME, folder / "extreme.svg")
    precision_coverage_plot(CURVE, folder / "precision.svg", chosen_threshold=0.3)
    precision_coverage_plot(precision_coverage([1.0], [1.0]), folder / "point.svg")
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_same_data_gives_the_same_bytes(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = drawings(tmp_path / "a")
    assert first == drawings(tmp_path / "b")
    assert len(first) == 4
    for name, data in first.items():
        assert ElementTree.fromstring(data).tag == "{http://www.w3.org/2000/svg}svg", name
        assert b"dc:date" not in data
        assert len(data) < 150_000


def test_drawing_leaves_matplotlibs_settings_alone(tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    # Reading the back end would choose one.
    settings = lambda: {name: matplotlib.rcParams[name] for name in matplotlib.rcParams if name != "backend"}
    before = settings()
    drawings(tmp_path)
    assert settings() == before


def test_matplotlib_is_imported_only_to_draw_and_pyplot_never(tmp_path):
    pytest.importorskip("matplotlib")
    code = """
import sys
from fastspan.benchmarks.calibration.confidence_fit import reliability_bins
from fastspan.benchmarks.calibration.plots import reliability_diagram
assert "matplotlib" not in sys.modules
reliability_diagram(reliability_bins([0.5], [1]), sys.argv[1])
assert "matplotlib" in sys.modules and "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.svg")], check=True)


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch, tmp_path):
    hide(monkeypatch, "matplotlib")
    with pytest.raises(MissingDependency, match=r"fastspan\[bench\]"):
        reliability_diagram(BINS, tmp_path / "a.svg")


def test_there_must_be_something_to_draw(tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(InputError, match="bins"):
        reliability_diagram([], tmp_path / "a.svg")
    with pytest.raises(InputError, match="answers no question"):
        precision_coverage_plot(CURVE, tmp_path / "b.svg", chosen_threshold=-1e9)
    assert not list(tmp_path.iterdir())
