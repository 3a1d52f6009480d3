"""The whole measurement, of a tiny model: what it keeps, and what becomes of it when it is interrupted."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytest.importorskip("psutil")
pytest.importorskip("matplotlib")

from fastspan.benchmarks import suite
from fastspan.benchmarks.peers.catalogue import OURS, PeerSpec
from fastspan.benchmarks.questions.workloads import Workload
from fastspan.benchmarks.reporting.cpu_kind import this_cpu_kind
from fastspan.benchmarks.speed.measurement import Measurement
from fastspan.benchmarks.speed.models.measured import BUNDLED, SpeedModel
from fastspan.benchmarks.speed.samples import Measured
from fastspan.benchmarks.speed.subjects import Asked, Subjects
from fastspan.benchmarks.speed.suite_options import SuiteOptions
from fastspan.errors import InputError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs process groups and their signals")

PAIR = ("who built the bridge?", "the norman leader rollo built the stone bridge.")
SINGLE = Workload(name="single-128", title="one question", group="single", pairs=(PAIR,), tokens=(20,))
MANY = Workload(
    name="throughput", title="three questions", group="batch", pairs=(PAIR,) * 3, tokens=(20,) * 3
)
OPTIONS = {"variant": "fp32", "provider": "CPUExecutionProvider", "optimize_for": "latency"}
SPECS = [
    PeerSpec(system=OURS, variant="fp32", module="fastspan_peer", options=OPTIONS),
    PeerSpec(system="Haystack", variant="fp32", module="haystack_peer", absent="too large"),
]


class Small(Subjects):
    """A tiny model, two workloads and no peer but FastSpan.

    Args:
        model: The model.
        peaks: What each measurement of matrix products gives, in order; an error is raised.
    """

    def __init__(self, model, *peaks):
        self.model, self.measured_peaks = model, iter(peaks)

    def folder(self, root, options):
        return root / "some-cpu"

    def models(self, options):
        return [self.model] if options.models in BUNDLED else super().models(options)

    def peers(self, options):
        return SPECS

    def asked(self, model, data, options):
        return Asked(timed=[SINGLE, MANY], scored=MANY, questions=data.questions[:3])

    def peaks(self, threads):
        found = next(self.measured_peaks, {})
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture
def model(tiny_checkpoint, tiny_bundle, tmp_path):
    return SpeedModel(
        name=BUNDLED,
        title="tiny",
        checkpoint=tiny_checkpoint,
        bundle=tiny_bundle,
        cache=tmp_path / "cache",
        trained=True,
    )


@pytest.fixture
def small(tmp_path):
    """Arguments of a run that takes no longer than it must."""
    out = str(tmp_path / "out")
    return [*("--quick", "--models", BUNDLED, "--threads", "1", "--no-parts", "--rounds", "3"), "--out", out]


def test_the_suite_measures_and_reports(small, model, tmp_path, capsys):
    subjects = Small(model, {"fp32": 2e9, "int8": 5e9}, {"fp32": 3e9, "int8": 4e9})
    assert suite.main(small, subjects) == 0
    out = tmp_path / "out" / "some-cpu"
    measured = Measured.read(out, "cpu")
    assert measured.record.finished
    assert [workload.name for workload in measured.record.workloads] == ["single-128", "throughput"]
    assert [peer.status for peer in measured.record.peers] == ["measured", "left out"]
    assert measured.record.peers[0].memory_bytes > 10_000_000
    # Measured before and after; the better counts.
    assert measured.record.peaks == {"fp32": 3e9, "int8": 5e9}
    assert len(measured.rounds(BUNDLED, "single-128", "FastSpan fp32")) == 3
    assert "sha256" in measured.record.environment["questions"]
    assert "did not come to its end" not in (out / "report.md").read_text(encoding="utf-8")
    captured = capsys.readouterr()
    names = ("report.md", "report.html")
    assert captured.out.split() == [str(folder / name) for folder in (out, out.parent) for name in names]
    assert measured.record.cpu.kind == this_cpu_kind()
    assert measured.record.defaults[BUNDLED].variant in ("fp32", "int8")
    # What was answered off the clock is kept, as digests that quote nothing.
    (given,) = measured.answered.values()
    assert (given.peer, len(given.digests)) == ("FastSpan fp32", 3)
    assert measured.record.peers[0].accuracy.questions == 3
    assert "one question, 1 peers" in captured.err


def test_an_interrupted_run_keeps_its_samples_with_a_record_that_goes_with_them(
    small, model, tmp_path, monkeypatch, capsys
):
    assert suite.main(small, Small(model)) == 0
    run = Measurement.run

    def interrupted(self, workload):
        if workload.name == "throughput":
            raise KeyboardInterrupt
        run(self, workload)

    monkeypatch.setattr(Measurement, "run", interrupted)
    assert suite.main(small, Small(model)) == 130
    assert "--report-only" in capsys.readouterr().err
    out = tmp_path / "out" / "some-cpu"
    measured = Measured.read(out, "cpu")
    assert not measured.record.finished
    assert {sampled.workload for sampled in measured.samples} == {"single-128"}
    assert measured.record.peers[0].memory_bytes > 10_000_000
    assert suite.main(["--report-only", "--out", str(tmp_path / "out")]) == 0
    assert "did not come to its end" in (out / "report.md").read_text(encoding="utf-8")


def test_a_run_that_cannot_begin_leaves_the_last_one_alone(small, model, tmp_path, capsys):
    assert suite.main(small, Small(model)) == 0
    kept = {
        path.name: path.read_bytes() for path in (tmp_path / "out" / "some-cpu").iterdir() if path.is_file()
    }
    for wrong in (["--peers", "nobody"], ["--models", "none"], ["--rounds", "0"], ["--threads", "0"]):
        assert suite.main([*small, *wrong], Small(model)) == 1
    assert {
        path.name: path.read_bytes() for path in (tmp_path / "out" / "some-cpu").iterdir() if path.is_file()
    } == kept
    errors = capsys.readouterr().err
    assert "--peers 'nobody' is in no peer's name; the peers are FastSpan fp32, Haystack fp32." in errors
    assert "rounds must be at least 1" in errors


def test_workloads_that_leave_nothing_are_refused(small, model, capsys):
    assert suite.main([*small, "--workloads", "dance"], Small(model)) == 1
    assert "leaves none of single-128, throughput" in capsys.readouterr().err


def test_peaks_that_cannot_be_measured_cost_nothing_else(small, model, tmp_path):
    late = subprocess.TimeoutExpired("matrix_peaks", 300)
    assert suite.main(small, Small(model, late, late)) == 0
    record = json.loads((tmp_path / "out" / "some-cpu" / "speed-cpu.json").read_text(encoding="utf-8"))
    assert record["finished"]
    assert record["peaks"] == {}
    assert "Matrix products could not be measured" in record["failures"][0]


def test_options_become_a_plan():
    quick, full = SuiteOptions(quick=True).plan(), SuiteOptions(threads=3).plan()
    assert (quick.timeout < full.timeout, full.threads) == (True, 3)
    few = SuiteOptions(rounds=2).plan().schedule
    assert (few.least, few.most) == (2, 2)
    with pytest.raises(InputError, match="threads must be at least 1"):
        SuiteOptions(threads=0)
