"""A captured run's buffers, on a real ONNX Runtime: a CPU captures nothing, but binds by address as well."""

from __future__ import annotations

import gc

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from fastspan.runtime.cuda.captured_run import CapturedRun

SIZE = 40


@pytest.fixture
def session() -> onnxruntime.InferenceSession:
    """start = ids + types, end = ids - the sum of all offsets."""

    def value(name: str, kind: int, *shape: str | int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, shape)

    graph = helper.make_graph(
        [
            helper.make_node("Add", ["input_ids", "token_type_ids"], ["start"]),
            helper.make_node("Cast", ["start"], ["start_logits"], to=TensorProto.FLOAT),
            helper.make_node("ReduceSum", ["token_offset"], ["sum"], keepdims=0),
            helper.make_node("Sub", ["input_ids", "sum"], ["end"]),
            helper.make_node("Cast", ["end"], ["end_logits"], to=TensorProto.FLOAT),
        ],
        "packed",
        [
            value("input_ids", TensorProto.INT32, "tokens"),
            value("token_type_ids", TensorProto.INT32, "tokens"),
            value("token_offset", TensorProto.INT32, "windows", "longest"),
        ],
        [value(name, TensorProto.FLOAT, "tokens") for name in ("start_logits", "end_logits")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def feeds(seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    shapes = {"input_ids": (SIZE,), "token_type_ids": (SIZE,), "token_offset": (2, SIZE)}
    return {name: random.integers(0, 1000, shape, dtype=np.int32) for name, shape in shapes.items()}


def test_each_replay_reads_its_own_inputs_and_fills_both_outputs(
    session: onnxruntime.InferenceSession,
) -> None:
    run = CapturedRun(session, feeds(0), SIZE, ("cpu", 0), number=1)
    gc.collect()  # nothing but the run holds the buffers
    for seed in (1, 2, 1):
        given = feeds(seed)
        found = run.replay(given)
        for mine, theirs in zip(found, session.run(None, given), strict=True):
            assert mine.shape == (SIZE,)
            assert mine.dtype == np.float32
            assert np.array_equal(mine, theirs)


def test_runs_of_one_session_have_buffers_of_their_own(session: onnxruntime.InferenceSession) -> None:
    first, second = (CapturedRun(session, feeds(0), SIZE, ("cpu", 0), number=n) for n in (1, 2))
    second.replay(feeds(2))
    expected = session.run(None, feeds(1))
    found = first.replay(feeds(1))
    second.replay(feeds(2))
    assert all(np.array_equal(mine, theirs) for mine, theirs in zip(found, expected, strict=True))
