"""Centring changes what is rounded, and nothing that the model computes."""

from __future__ import annotations

import numpy as np
import pytest

from fastspan.export.graphs.encoder_graph import Lowering
from fastspan.export.graphs.families import describe
from fastspan.export.int8.centering import centred
from fastspan.export.int8.linear_layer import BLOCK, InputStatistics
from support.models.graph_runs import calibrated, run, segments_for, session, tokens
from support.models.random_models import NATIVE, config_and_weights


@pytest.mark.parametrize("family", NATIVE)
def test_the_model_computes_the_same_on_inputs_that_lie_around_zero(family):
    encoder = describe(*config_and_weights(family))
    rng = np.random.RandomState(4)
    ids = tokens(rng, 8, 24)
    segments = segments_for(encoder, ids)
    if segments is None:
        segments = np.zeros_like(ids)
    seen = calibrated(encoder, ids, segments)
    moved, expected = centred(encoder, seen)
    found = calibrated(moved, ids, segments)
    assert found.keys() == expected.keys() == seen.keys()
    off_zero = 0
    for name, statistics in found.items():
        for field in ("low", "high", "total"):
            np.testing.assert_allclose(
                getattr(statistics, field), getattr(expected[name], field), atol=2e-3, err_msg=name
            )
        for one, other in zip(statistics.second_moments, expected[name].second_moments, strict=True):
            np.testing.assert_allclose(one, other, atol=2e-2)
        free = not name.endswith(".output")
        if encoder.projection is not None and name == "layer.0.attention.projection":
            free = False
        if free:
            np.testing.assert_allclose(statistics.low, -statistics.high, atol=1e-4, err_msg=name)
            off_zero += int(np.abs(seen[name].low + seen[name].high).max() > 0.1)
    assert off_zero
    given = None if not encoder.takes_segment_ids else segments
    outputs = [
        run(session(Lowering(each).lower()), ids, segments=given, mask=np.ones_like(ids))
        for each in (encoder, moved)
    ]
    for one, other in zip(*outputs, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


def test_an_input_that_was_not_seen_stays_as_it_is():
    encoder = describe(*config_and_weights("bert"))
    moved, seen = centred(encoder, {})
    assert seen == {}
    assert np.array_equal(moved.layers[1].intermediate.bias, encoder.layers[1].intermediate.bias)
    assert np.array_equal(moved.embedding_norm.bias, encoder.embedding_norm.bias)


def test_statistics_less_an_offset_are_those_of_rows_less_it():
    rng = np.random.RandomState(0)
    rows = rng.standard_normal((50, BLOCK + 5)).astype(np.float32) + 2
    offset = rng.standard_normal(BLOCK + 5).astype(np.float32)
    found, expected = InputStatistics.of(rows).less(offset), InputStatistics.of(rows - offset)
    for field in ("low", "high", "total"):
        np.testing.assert_allclose(getattr(found, field), getattr(expected, field), atol=1e-3)
    for one, other in zip(found.second_moments, expected.second_moments, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-2)
    assert found.rows == 50
