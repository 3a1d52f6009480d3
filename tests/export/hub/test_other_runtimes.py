"""Other programs find the graphs by the names that they look for, and get the same logits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastspan.bundle.folder import Bundle
from fastspan.export.hub.other_runtimes import USUAL_INPUTS, common_graphs, usage_of_others
from fastspan.options import AnswerOptions
from fastspan.runtime.graph_inputs import pad
from fastspan.text.encoder import Encoder

PAIRS = [
    ("who built the tower", "the norse leader built the stone tower"),
    ("what is it", "rain came from the north, and the river rose, and the norse leader built the tower"),
]


@pytest.mark.parametrize("name", ["tiny_bundle", "tiny_half_bundle"])
def test_the_configuration_says_where_weights_lie_beside_a_graph(
    name: str, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(name)
    said = json.loads((folder / "config.json").read_text())["transformers.js_config"]
    assert said["dtype"] == "fp32"
    held = {path.name for path in (folder / "onnx").iterdir()}
    for file, external in said["use_external_data_format"].items():
        assert file in held
        assert external == (f"{file}_data" in held)
    assert set(said["use_external_data_format"]) == {
        Path(graph.file).name for graph in common_graphs(Bundle.open(folder).manifest).values()
    }


def test_only_graphs_with_the_usual_inputs_are_named(tiny_bundle: Path, tiny_half_bundle: Path) -> None:
    for folder, dtypes in ((tiny_bundle, ["fp32", "int8"]), (tiny_half_bundle, ["fp32", "fp16"])):
        manifest = Bundle.open(folder).manifest
        graphs = common_graphs(manifest)
        assert list(graphs) == dtypes
        text = usage_of_others(manifest, "owner/name")
        assert all(f'dtype: "{dtype}"' in text for dtype in dtypes)
        assert ("has no mask" in text) == ("int8" in dtypes)


@pytest.mark.reference
@pytest.mark.parametrize(
    ("bundle", "dtype", "tolerance"),
    [("tiny_bundle", "fp32", 1e-5), ("tiny_half_bundle", "fp16", 1e-5), ("tiny_bundle", "int8", 1e-5)],
)
def test_optimum_loads_each_and_gets_the_logits_of_onnxruntime(
    bundle: str, dtype: str, tolerance: float, request: pytest.FixtureRequest
) -> None:
    import onnxruntime
    import torch
    from optimum.onnxruntime import ORTModelForQuestionAnswering

    folder: Path = request.getfixturevalue(bundle)
    opened = Bundle.open(folder)
    graph = common_graphs(opened.manifest)[dtype]
    model = ORTModelForQuestionAnswering.from_pretrained(
        folder, subfolder="onnx", file_name=Path(graph.file).name
    )
    session = onnxruntime.InferenceSession(str(folder / graph.file))
    encoder = Encoder.of_bundle(opened)
    options = AnswerOptions().within(opened.manifest.max_length, opened.manifest.overlap)
    windows = [pair.windows[0] for pair in encoder.encode(*zip(*PAIRS, strict=True), options)]
    # A graph without a mask takes windows one by one.
    batches = [windows] if "attention_mask" in graph.inputs else [[window] for window in windows]
    for batch in batches:
        feeds: dict[str, Any] = pad(batch, USUAL_INPUTS)
        expected = session.run(
            ["start_logits", "end_logits"], {each.name: feeds[each.name] for each in session.get_inputs()}
        )
        found = model(
            **{name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in feeds.items()}
        )
        for ours, theirs in zip(expected, (found.start_logits, found.end_logits), strict=True):
            np.testing.assert_allclose(theirs.numpy(), ours, atol=tolerance)


@pytest.mark.reference
def test_optimums_default_name_is_the_fp32_graph(tiny_bundle: Path) -> None:
    from optimum.onnxruntime import ORTModelForQuestionAnswering

    model = ORTModelForQuestionAnswering.from_pretrained(
        tiny_bundle, subfolder="onnx", file_name="model.onnx"
    )
    assert set(model.input_names) == set(USUAL_INPUTS)
