"""Rounding weights, against its definition and against what this CPU multiplies."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastspan.export.int8.rounding import (
    PAIR_LIMIT,
    quantize_columns,
    round_in_groups,
    round_with_compensation,
)


def test_columns_are_symmetric_with_one_scale_each():
    weight = np.array([[1.0, -4.0, 0.0], [-2.0, 3.0, 0.0]], np.float32)
    quantized, scale = quantize_columns(weight)
    assert quantized.tolist() == [[64, -127, 0], [-127, 95, 0]]
    np.testing.assert_allclose(scale, [2 / 127, 4 / 127, 1 / 127])


@given(st.integers(1, 127), st.integers(0, 2**32 - 1))
def test_no_weight_is_off_by_more_than_half_a_step(largest, seed):
    weight = np.random.default_rng(seed).standard_normal((7, 5)).astype(np.float32)
    quantized, scale = quantize_columns(weight, largest)
    assert np.abs(quantized).max() <= largest
    assert (np.abs(quantized * scale - weight) <= scale / 2 * (1 + 1e-5)).all()


@given(st.integers(1, 70), st.integers(0, 2**32 - 1), st.sampled_from([0.1, 1.0, 30.0]))
def test_no_pair_exceeds_its_limit(rows, seed, spread):
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((rows, 5)).astype(np.float32)
    weight[0] *= spread
    inputs = rng.standard_normal((2 * rows, 1)) + rng.standard_normal((2 * rows, rows)) / 4
    rounded, scale, _ = round_with_compensation(weight, [(np.arange(rows), inputs.T @ inputs)])
    assert (scale >= quantize_columns(weight)[1] * 0.999).all()
    even = np.append(rounded.astype(np.int64), np.zeros((rows % 2, 5), np.int64), axis=0)
    assert np.abs(even.reshape(-1, 2, 5).sum(axis=1)).max() <= PAIR_LIMIT
    exact = inputs @ weight
    assert np.abs(inputs @ (rounded * scale) - exact).max() < 0.1 * np.abs(exact).max()


def test_pairs_that_need_not_keep_to_a_limit_have_smaller_steps():
    weight = np.full((8, 3), 2.0, np.float32)
    known = [(np.arange(8), np.eye(8))]
    rounded, scale, _ = round_with_compensation(weight, known)
    assert (rounded == 64).all() or (rounded == 63).all()
    np.testing.assert_allclose(rounded * scale, weight, rtol=0.02)
    rounded, scale, _ = round_with_compensation(weight, known, paired=False)
    assert (rounded == 127).all()
    np.testing.assert_allclose(scale, 2 / 127)


def test_a_column_of_which_a_weight_would_be_cut_off_is_rounded_with_larger_steps():
    # The inputs are nearly opposite, so making up for the error of the first row enlarges the second, which
    # is as large as its steps allow.
    weight = np.array([[0.504, 0.5], [1.0, 1.0]], np.float32)
    moments = np.array([[100.0, -9.99], [-9.99, 1.0]])
    rounded, scale, _ = round_with_compensation(weight, [(np.arange(2), moments)], paired=False)
    _, plain = quantize_columns(weight)
    assert (scale > plain * 1.01).any()
    # The last try stands, with the steps it was rounded with.
    for tries in (1, 2):
        _, tried, _ = round_with_compensation(weight, [(np.arange(2), moments)], paired=False, tries=tries)
        np.testing.assert_allclose(tried.max() / plain.max(), 1.03 ** (tries - 1), rtol=1e-5)
    exact = np.sqrt(np.diag(weight.T @ moments @ weight))
    error = rounded * scale - weight
    assert (np.sqrt(np.diag(error.T @ moments @ error)) < 0.02 * exact + 0.02).all()


def test_moments_that_do_not_factor_at_first_are_damped_more():
    # Sums of what cancelled: not even positive, as float32 may leave them.
    moments = np.diag([1.0, 1.0, 1.0, -0.02])
    weight = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    rounded, scale, compensated = round_with_compensation(weight, [(np.arange(4), moments)], paired=False)
    assert compensated
    np.testing.assert_allclose(rounded * scale, weight, atol=float(scale.max()))


@pytest.mark.parametrize("odd", [np.nan, np.inf, -1e6])
def test_moments_that_never_factor_round_to_nearest_and_say_so(odd):
    moments = np.diag([1.0, 1.0, odd, 1.0])
    weight = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    found = round_with_compensation(weight, [(np.arange(4), moments)], paired=False)
    assert not found.compensated
    assert np.array_equal(found.weight, quantize_columns(weight)[0])
    grouped = round_in_groups(weight, [(np.arange(4), moments)], 2)
    assert not grouped.compensated
    assert np.array_equal(grouped.weight[:2], quantize_columns(weight[:2])[0])


def test_groups_have_steps_of_their_own():
    weight = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
    weight[4:] *= 100
    rounded, scale, compensated = round_in_groups(weight, [(np.arange(6), np.eye(6))], 2)
    assert compensated
    assert scale.shape == (3, 3)
    assert (np.abs(rounded.reshape(3, 2, 3)).max(axis=1) == 127).all()
    np.testing.assert_allclose(rounded * np.repeat(scale, 2, axis=0), weight, atol=float(scale[2].max()) / 2)


@pytest.mark.parametrize("rows", [1, 3, 4, 33])
@pytest.mark.parametrize("depth", [2, 63, 64, 390])
def test_this_cpu_multiplies_pairs_at_their_limit_exactly(rows, depth):
    codes = np.full((rows, depth), 255, np.uint8)
    pairs = np.array([[127, 1], [64, 64], [-127, -1], [-1, -127], [127, -127], [1, 127]], np.int8)
    weight = np.stack([np.resize(np.roll(pairs, turn, axis=0), depth) for turn in range(48)], axis=1)
    helper = onnx.helper
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["codes", "weight"], ["product"])],
        "product",
        [helper.make_tensor_value_info("codes", onnx.TensorProto.UINT8, codes.shape)],
        [helper.make_tensor_value_info("product", onnx.TensorProto.INT32, (rows, 48))],
        [onnx.numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"codes": codes})
    assert np.array_equal(found, codes.astype(np.int64) @ weight.astype(np.int64))
