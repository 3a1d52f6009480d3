"""A checkpoint's ``calibration.json`` is taken as it stands, or refused by the name of its field."""

from __future__ import annotations

import json
import shutil

import pytest
from conftest import SilentProgress

from fastspan.bundle.manifest import Confidence, FittedOn, NoAnswer
from fastspan.errors import CheckpointError
from fastspan.export import exporter
from fastspan.export.checkpoint.calibration import read_calibration
from fastspan.export.checkpoint.folder import CheckpointFolder
from fastspan.export.options import ExportOptions
from fastspan.export.verification.checks import Effort
from support.paths import MINILM

DIGEST = "ab" * 32
WHOLE = {
    "variant": "fp32",
    "no_answer_threshold": -4.5,
    "confidence": {
        "answered_scale": 0.2,
        "answered_offset": -1,
        "abstained_scale": -0.25,
        "abstained_offset": 0.5,
        "tenths": [0, 1, 2, 3, 4, 5, 6, 7, 8, 1264],
    },
    "fitted_on": {"name": "mine", "half": "one half by passage", "questions": 1400, "sha256": DIGEST},
    "reported_on": [
        {"name": "the other half", "questions": 1300, "exact": 63.1, "f1": 65.3, "ece": 0.03},
        {"name": "elsewhere", "questions": 3000, "ece": 0.5},
    ],
}


def read(tmp_path, document):
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    (tmp_path / "calibration.json").write_bytes(text)
    return read_calibration(CheckpointFolder.open(tmp_path))


def changed(path, value):
    """``WHOLE`` with another value at a path such as ``fitted_on.name``; ``...`` takes it away."""
    document = json.loads(json.dumps(WHOLE))
    *way, last = path.split(".")
    place = document
    for step in way:
        place = place[int(step)] if step.isdigit() else place[step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return document


def test_a_checkpoint_without_the_file_has_no_calibration(tmp_path):
    assert read_calibration(CheckpointFolder.open(tmp_path)) is None


def test_a_whole_file_becomes_the_manifests_values(tmp_path):
    found = read(tmp_path, WHOLE)
    fitted_on = FittedOn(name="mine", questions=1400, sha256=DIGEST, reported_on_questions=1300)
    assert found.no_answer == NoAnswer(threshold=-4.5, fitted_on=fitted_on)
    confidence = {**WHOLE["confidence"], "tenths": tuple(WHOLE["confidence"]["tenths"])}
    assert found.confidence == Confidence(**confidence, fitted_on=fitted_on, ece=0.03)
    assert read(tmp_path, changed("confidence.tenths", ...)).confidence.tenths is None


@pytest.mark.parametrize("confidence", [..., None])
def test_a_threshold_may_come_without_curves(tmp_path, confidence):
    document = changed("confidence", confidence)
    del document["reported_on"]
    found = read(tmp_path, document)
    assert found.confidence is None
    assert (found.no_answer.threshold, found.no_answer.fitted_on.reported_on_questions) == (-4.5, 0)


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("no_answer_threshold", ..., "lacks no_answer_threshold"),
        ("no_answer_threshold", "-4", "no_answer_threshold must be a finite number, not '-4'"),
        ("no_answer_threshold", True, "no_answer_threshold must be a finite number, not True"),
        ("no_answer_threshold", 10**400, "no_answer_threshold must be a finite number, not 1000"),
        ("confidence", [1], r"confidence must be an object, not \[1\]"),
        ("confidence.answered_scale", ..., "lacks confidence.answered_scale"),
        ("confidence.answered_scale", None, "confidence.answered_scale must be a finite number, not None"),
        ("confidence.tenths", [1] * 9, "confidence.tenths must be ten whole numbers, not all of them 0"),
        ("confidence.tenths", [1.0] * 10, "confidence.tenths must be ten whole numbers"),
        ("confidence.tenths", [0] * 10, "confidence.tenths must be ten whole numbers"),
        ("confidence.tenths", [*[1] * 9, -1], "confidence.tenths must be ten whole numbers"),
        ("confidence.tenths", "0123456789", "confidence.tenths must be ten whole numbers"),
        ("confidence.slope", 1.0, "unknown field 'confidence.slope'"),
        ("fitted_on", ..., "lacks fitted_on"),
        ("fitted_on.name", " ", "fitted_on.name must be a text, not ' '"),
        ("fitted_on.half", 1, "fitted_on.half must be a text, not 1"),
        ("fitted_on.questions", 0, "fitted_on.questions must be a whole number of at least 1, not 0"),
        ("fitted_on.sha256", "AB" * 32, "fitted_on.sha256 must be 64 hexadecimal digits"),
        ("reported_on", ..., "reported_on must be the held-out results of the confidence"),
        ("reported_on", {}, "reported_on must be an array"),
        ("reported_on.0.ece", 1.5, r"reported_on\[0\].ece must be a number from 0 to 1, not 1.5"),
        ("reported_on.1.ece", ..., r"lacks reported_on\[1\].ece"),
        ("reported_on.1.f1", 101, r"reported_on\[1\].f1 must be a finite number of at most 100, not 101"),
        ("variant", "int4", "variant must be one of fp32, fp16, int8, not 'int4'"),
        ("threshold", 1, "unknown field 'threshold'"),
    ],
)
def test_a_wrong_field_is_named(tmp_path, path, value, named):
    with pytest.raises(CheckpointError, match=rf"calibration\.json.* ?{named}"):
        read(tmp_path, changed(path, value))


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"[]", r"must be an object, not \[\]"),
        (b"{", "is not readable JSON"),
        (b'{"no_answer_threshold": NaN}', "NaN is not JSON"),
        (b'{"variant": "fp32", "variant": "fp32"}', "a key stands twice"),
        (b"[" * 100_000, "nested too deeply"),
        ("\ufeff{}".encode(), "is not readable JSON"),
        ("{}".encode("utf-16"), "is not readable JSON"),
        (b"1" * 10_000, "is not readable JSON"),
    ],
)
def test_what_is_no_object_is_refused(tmp_path, data, named):
    with pytest.raises(CheckpointError, match=rf"calibration\.json.*{named}"):
        read(tmp_path, data)


@pytest.mark.parametrize("threshold", [True, False])
@pytest.mark.parametrize("confidence", [True, False])
def test_what_was_found_worse_than_before_is_not_taken(tmp_path, threshold, confidence):
    stored = {"no_answer_threshold": threshold, "confidence": confidence}
    found = read(tmp_path, changed("stored", stored))
    whole = read(tmp_path, WHOLE)
    assert found.no_answer == (whole.no_answer if threshold else NoAnswer())
    assert found.confidence == (whole.confidence if confidence else None)
    with pytest.raises(CheckpointError, match=r"stored\.confidence"):
        read(tmp_path, changed("stored", {**stored, "confidence": 1}))


CURVE = {"margin": 0.2, "rival": -1, "agreement": 0.5, "retriever": 0, "offset": -1.5}
CURVES = {"answered": CURVE, "abstained": CURVE}
SETS = {
    "passages": 10,
    "threshold": -6.5,
    "curves": CURVES,
    "with_retriever": CURVES,
    "fitted_on": {"name": "mine", "questions": 1400, "sha256": DIGEST, "reported_on_questions": 1300},
    "ece": 0.02,
}
PROMISE = {"precision": 0.9, "level": 0.95, "answers": 200, "right": 190}


def test_sets_and_a_promise_may_be_there(tmp_path):
    found = read(tmp_path, {**WHOLE, "sets": SETS, "guarantee": PROMISE})
    assert (found.sets.threshold, found.sets.curves.answered.rival) == (-6.5, -1.0)
    assert found.no_answer.guarantee.right == 190
    assert read(tmp_path, {**WHOLE, "sets": None, "guarantee": None}) == read(tmp_path, WHOLE)


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ({"sets": {**SETS, "passages": "10"}}, r"sets\.passages must be a whole number"),
        ({"sets": {**SETS, "colour": 1}}, r"sets has the keys"),
        ({"sets": {**SETS, "curves": {"answered": CURVE}}}, r"sets\.curves lacks the key 'abstained'"),
        ({"guarantee": {**PROMISE, "right": 201}}, "a guarantee's right answers"),
        ({"guarantee": 3}, "guarantee must be an object"),
    ],
)
def test_a_wrong_part_is_named(tmp_path, part, named):
    with pytest.raises(CheckpointError, match=rf"{named}.*mend the file") as caught:
        read(tmp_path, {**WHOLE, **part})
    assert "export it again" not in str(caught.value)


def test_export_puts_it_into_the_manifest(tiny_checkpoint, tmp_path):
    source = shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")
    (source / "calibration.json").write_text(json.dumps(WHOLE))
    out = tmp_path / "bundle"
    options = ExportOptions(variants=("fp32",), pytorch=False, effort=Effort(work=0, fewest=2))
    manifest = exporter.export(source, out, options, progress=SilentProgress()).bundle.manifest
    assert (manifest.no_answer.threshold, manifest.confidence.ece) == (-4.5, 0.03)
    (source / "calibration.json").write_text(json.dumps(changed("fitted_on", ...)))
    with pytest.raises(CheckpointError, match="lacks fitted_on"):
        exporter.export(source, tmp_path / "other", options, progress=SilentProgress())


def test_the_bundled_model_is_calibrated():
    found = read_calibration(CheckpointFolder.open(MINILM))
    assert found is not None
    assert found.no_answer.threshold < 0
    assert found.confidence is not None
    assert found.confidence.ece < 0.05
