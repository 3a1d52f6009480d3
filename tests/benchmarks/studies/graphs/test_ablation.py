"""Every graph that the shipped ones are compared with computes the same function."""

from __future__ import annotations

import numpy as np
import pytest

from fastspan.benchmarks.studies.graphs.ablation import compared, session_of
from fastspan.benchmarks.studies.graphs.ablation_graphs import fp32_choices, int8_choices
from fastspan.export.checkpoint.reader import read_checkpoint
from fastspan.export.graphs.families import describe
from fastspan.export.int8.recipe import quantize_encoder
from support.models.tiny_checkpoint import save_tiny_checkpoint


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ablation") / "tiny"
    save_tiny_checkpoint(folder)
    checkpoint = read_checkpoint(folder)
    return describe(checkpoint.config, checkpoint.weights)


def logits(choice, folder):
    session = session_of(choice, 1, folder)
    ids = np.random.default_rng(3).integers(5, 60, (1, 20))
    values = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    feeds = {
        given.name: values[given.name].astype(np.int32 if "int32" in given.type else np.int64)
        for given in session.get_inputs()
    }
    return np.concatenate(session.run(None, feeds))


def test_fp32_graphs_differ_in_speed_alone(encoder, tmp_path):
    shipped, *others = (logits(c, tmp_path / str(n)) for n, c in enumerate(fp32_choices(encoder)))
    assert len(others) == 6
    for other in others:
        np.testing.assert_allclose(other, shipped, atol=1e-5)


@pytest.mark.parametrize("dot_product", [False, True])
def test_int8_graphs_stay_near_fp32(encoder, tmp_path, dot_product):
    choices = int8_choices(encoder, quantize_encoder(encoder, {}), dot_product=dot_product)
    assert ("no twin" in {choice.name for choice in choices}) is dot_product
    *integers, exact = (logits(c, tmp_path / str(n)) for n, c in enumerate(choices))
    assert choices[-1].name == "fp32"
    for found in integers:
        assert 0 < np.abs(found - exact).max() < 0.2 * np.abs(exact).max()


def test_the_table_gives_the_first_in_time_and_the_others_as_ratios(encoder, tmp_path):
    table = compared(fp32_choices(encoder)[:2], threads=1, rounds=6, folder=tmp_path)
    (_, *times), (name, *ratios) = table.rows
    assert all(float(time.removesuffix(" ms")) > 0 for time in times)
    assert name == "interchange graph"
    assert all("×" in ratio and "[" in ratio for ratio in ratios)
