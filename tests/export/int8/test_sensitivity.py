"""The report that ranks layers by what int8 costs them."""

from __future__ import annotations

import pytest
from conftest import SilentProgress

from fastspan.errors import CheckpointError
from fastspan.export.checkpoint.reader import read_checkpoint
from fastspan.export.graphs.families import describe
from fastspan.export.int8.recipe import Int8Recipe, quantized_layers
from fastspan.export.int8.sensitivity import int8_sensitivity


def test_every_quantized_layer_is_ranked_and_all_of_them_together_come_first(tiny_checkpoint):
    found = int8_sensitivity(
        tiny_checkpoint, progress=SilentProgress(), recipe=Int8Recipe(windows=4), threads=1
    )
    checkpoint = read_checkpoint(tiny_checkpoint)
    layers = quantized_layers(describe(checkpoint.config, checkpoint.weights))
    assert found[0].layer == "all"
    assert {each.layer for each in found[1:]} == set(layers)
    costs = [each.rms for each in found[1:]]
    assert costs == sorted(costs, reverse=True)
    assert 0 < costs[-1] <= found[1].largest
    assert all(0 <= each.equal_answers <= 1 for each in found)


def test_a_layer_that_stays_fp32_is_not_in_the_report(tiny_checkpoint):
    recipe = Int8Recipe(windows=4, keep=("layer.0.output",))
    found = int8_sensitivity(tiny_checkpoint, progress=SilentProgress(), recipe=recipe, threads=1)
    assert "layer.0.output" not in {each.layer for each in found}


def test_an_architecture_without_native_lowering_is_refused(tiny_checkpoint, tmp_path):
    import json
    import shutil

    copy = tmp_path / "albert"
    shutil.copytree(tiny_checkpoint, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"model_type": "albert"}))
    with pytest.raises(CheckpointError, match="native lowering"):
        int8_sensitivity(copy, progress=SilentProgress())
