"""Triton's models, called as its Python backend calls them, answer as the engine does."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastspan import BundleError, QuestionAnswerer
from fastspan.hosting.package import package
from fastspan.hosting.triton import LENGTH_STEP, MOST_WINDOWS
from support.stand_ins.triton import Ensemble, TritonError, backend_utils

PAIRS = [
    ("who built the tower", "the norse leader built the stone tower"),
    ("what is it", "rain came from the north, and the river rose"),
    ("who built it", "the norse leader built the stone tower. " * 80),
    ("who?", " "),
]


@pytest.fixture(scope="module")
def folder(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package(tiny_bundle, tmp_path_factory.mktemp("triton") / "out", "triton").folder / "models"


@pytest.fixture
def ensemble(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ensemble]:
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", backend_utils())
    yield Ensemble(folder, "tiny-qa")


def test_the_ensemble_answers_as_the_engine_does(ensemble: Ensemble, tiny_bundle: Path) -> None:
    with QuestionAnswerer.load(tiny_bundle, variant="fp32") as qa:
        for pair, found in zip(PAIRS, ensemble.ask(*PAIRS), strict=True):
            expected = qa.answer(*pair)
            said = json.loads(found["prediction"][0])
            assert said["null_score"] == pytest.approx(expected.null_score, abs=1e-4)
            best = expected.answer
            text = best.text if best else ""
            assert found["answer"][0].decode() == text
            assert (int(found["start"][0]), int(found["end"][0])) == (
                (best.start, best.end) if best else (-1, -1)
            )
            assert [answer["text"] for answer in said["answers"]] == [each.text for each in expected.answers]


def test_lengths_are_rounded_up_so_that_requests_share_a_run(ensemble: Ensemble) -> None:
    part: Any = ensemble._parts["encode"]._part
    widths = {part.inputs(part.pair(*pair))["input_ids"].shape[1] for pair in PAIRS}
    room = part.manifest.model.max_positions
    assert all(width % LENGTH_STEP == 0 or width == room for width in widths)
    inputs = part.inputs(part.pair(*PAIRS[0]))
    assert inputs["attention_mask"].sum() == len(part.pair(*PAIRS[0]).windows[0].input_ids)


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("", "a text"), "question is empty"),
        (("who?", "tower " * 40000), f"(?s){MOST_WINDOWS}"),
    ],
)
def test_an_unusable_request_gets_an_error(ensemble: Ensemble, pair: tuple[str, str], message: str) -> None:
    with pytest.raises(TritonError, match=message):
        ensemble.ask(pair)


def test_one_unusable_request_spoils_no_other(ensemble: Ensemble) -> None:
    model = ensemble._parts["encode"]
    usable = {name: np.array([b"tower"], np.object_) for name in ("question", "context")}
    requests = [
        {**usable, "question": np.array([b"\xff"], np.object_)},
        {**usable, "context": np.array([b"one", b"two"], np.object_)},
        usable,
    ]
    first, second, third = model.execute(requests)
    assert "question is not UTF-8" in str(first.error)
    assert "context must hold one text, not 2" in str(second.error)
    assert third.error is None


def test_a_bundle_that_cannot_be_padded_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="Variant int8 has no graph that Triton can batch"):
        package(tiny_bundle, tmp_path / "out", "triton", variants=["int8"])
    assert not list(tmp_path.iterdir())


def test_a_half_precision_graph_runs_on_a_gpu(tiny_half_bundle: Path, tmp_path: Path) -> None:
    out = package(tiny_half_bundle, tmp_path / "out", "triton", variants=["fp16"]).folder
    assert "kind: KIND_GPU" in (out / "models" / "tiny-qa-graph" / "config.pbtxt").read_text()
    assert (out / "models" / "tiny-qa-graph" / "1" / "model_fp16.onnx_data").is_file()
