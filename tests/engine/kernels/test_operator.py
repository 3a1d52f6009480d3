"""The operator inside ONNX Runtime: against numpy, on every path of this CPU, with any number of threads."""

from __future__ import annotations

import itertools
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastspan import kernels
from support.models.random_encoder import RandomEncoder

onnxruntime = pytest.importorskip("onnxruntime")

pytestmark = pytest.mark.usefixtures("kernels_here")

ENCODERS = {
    "bert": RandomEncoder(),
    "grouped": RandomEncoder(hidden=128, heads=4, inner=576, group=64, inner_group=192, asymmetric=31),
    "prescaled": RandomEncoder(hidden=128, heads=2, inner=512, asymmetric=15, prescaled=31, width=64),
    "electra": RandomEncoder(hidden=128, heads=2, width=64, inner_group=64, asymmetric=8),
    "roberta": RandomEncoder(hidden=192, heads=3, padding_id=1, segments=False, activation="gelu_tanh"),
    "words as codes": RandomEncoder(word_codes=True),
    "relu": RandomEncoder(hidden=192, heads=12, activation="relu", inner=704),
    "long": RandomEncoder(positions=1100, heads=1, layers=1),
}
LENGTHS = [[1], [5], [64], [1, 2, 3, 0, 17], [300, 512, 77]]
LONGER = [[513], [3, 1025]]


def lengths_for(encoder: RandomEncoder) -> list[list[int]]:
    return LENGTHS + LONGER if encoder.positions > 512 else LENGTHS


def session(graph: bytes | Path, *, threads: int = 1, path: str = "") -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    kernels.register(options, threads=threads, path=path)
    given = str(graph) if isinstance(graph, Path) else graph
    return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])


def bits(logits: list[NDArray[np.float32]]) -> NDArray[np.uint32]:
    return np.stack(logits).view(np.uint32)


@pytest.mark.parametrize("name", ENCODERS)
def test_it_computes_what_the_documentation_says(name: str) -> None:
    encoder = ENCODERS[name]
    run = session(encoder.graph())
    for lengths in lengths_for(encoder):
        feeds = encoder.feeds(lengths)
        error = np.stack(run.run(None, feeds)) - encoder.reference(feeds)
        # float64 rounds some values to the neighbouring code; nothing else differs.
        assert np.sqrt((error**2).mean()) < 0.02


@pytest.mark.parametrize("name", ENCODERS)
def test_every_path_and_number_of_threads_gives_the_same_bits(name: str) -> None:
    encoder = ENCODERS[name]
    graph = encoder.graph()
    # Eight threads are more than any of these has heads for in a lone window: queries are divided too.
    runs = [session(graph, path=path, threads=n) for path in kernels.paths() for n in (1, 3)]
    runs.append(session(graph, threads=8))
    for lengths in lengths_for(encoder):
        feeds = encoder.feeds(lengths)
        first, *others = (bits(run.run(None, feeds)) for run in runs)
        for other in others:
            np.testing.assert_array_equal(first, other)


def test_a_window_alone_has_the_bits_that_it_has_among_others() -> None:
    encoder = ENCODERS["grouped"]
    run = session(encoder.graph(), threads=2)
    feeds = encoder.feeds([40, 3, 200, 512, 90])
    together = bits(run.run(None, feeds))
    ends = feeds["cumulative_sequence_length"]
    for begin, end in itertools.pairwise(ends):
        alone = {name: values[begin:end] for name, values in feeds.items()}
        alone["cumulative_sequence_length"] = np.array([0, end - begin], np.int32)
        np.testing.assert_array_equal(bits(run.run(None, alone)), together[:, begin:end])


def test_weights_may_lie_beside_the_graph(tmp_path: Path) -> None:
    encoder = ENCODERS["bert"]
    encoder.graph(tmp_path / "model.onnx")
    feeds = encoder.feeds([9])
    beside = session(tmp_path / "model.onnx").run(None, feeds)
    np.testing.assert_array_equal(bits(beside), bits(session(encoder.graph()).run(None, feeds)))


@pytest.mark.stress
def test_runs_at_the_same_time_give_what_they_give_one_by_one() -> None:
    encoder = ENCODERS["bert"]
    run = session(encoder.graph(), threads=2)
    feeds = [encoder.feeds([length, 5], seed=length) for length in range(1, 60)]
    one_by_one = [bits(run.run(None, feed)) for feed in feeds]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(4):
            together = pool.map(lambda feed: run.run(None, feed), feeds)
            for expected, got in zip(one_by_one, together, strict=True):
                np.testing.assert_array_equal(expected, bits(got))


def _around(changed: dict[str, NDArray[np.int32]]) -> dict[str, NDArray[np.int32]]:
    """What was changed, and for a window of another length all that goes with it."""
    ids = changed.get("input_ids")
    if ids is None or len(ids) == 3:
        return changed
    ends = np.array([0, len(ids)], np.int32)
    return changed | {"token_type_ids": np.zeros_like(ids), "cumulative_sequence_length": ends}


@pytest.mark.parametrize("threads", [1, 3])
def test_a_run_past_its_deadline_fails_and_the_next_one_gives_the_same_bits(threads: int) -> None:
    encoder = ENCODERS["grouped"]
    run = session(encoder.graph(), threads=threads)
    feeds = encoder.feeds([300, 512, 77])
    expected = bits(run.run(None, feeds))
    with (
        kernels.runs_end_within(0),
        pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument, match="deadline passed"),
    ):
        run.run(None, feeds)
    np.testing.assert_array_equal(bits(run.run(None, feeds)), expected)
    with kernels.runs_end_within(math.inf):
        np.testing.assert_array_equal(bits(run.run(None, feeds)), expected)


@pytest.mark.parametrize("most", [1, 2, 3, 9, 0, -1, 2**62])
def test_a_run_with_fewer_threads_gives_the_same_bits(most: int) -> None:
    encoder = ENCODERS["grouped"]
    run = session(encoder.graph(), threads=3)
    feeds = encoder.feeds([300, 512, 77])
    expected = bits(run.run(None, feeds))
    with kernels.runs_with_threads(most):
        np.testing.assert_array_equal(bits(run.run(None, feeds)), expected)
    np.testing.assert_array_equal(bits(run.run(None, feeds)), expected)


def test_a_deadline_is_the_thread_s_own() -> None:
    encoder = ENCODERS["bert"]
    run = session(encoder.graph(), threads=2)
    feeds = encoder.feeds([40])
    with ThreadPoolExecutor(1) as pool, kernels.runs_end_within(0):
        np.testing.assert_array_equal(
            bits(pool.submit(run.run, None, feeds).result()), bits(pool.submit(run.run, None, feeds).result())
        )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("input_ids", [1, 2, 99999], "outside the vocabulary"),
        ("input_ids", [1, -2, 3], "outside the vocabulary"),
        ("token_type_ids", [0, 2, 0], "outside the table"),
        ("token_type_ids", [0, 1], "as many rows"),
        ("cumulative_sequence_length", [0, 4], "the number of rows"),
        ("cumulative_sequence_length", [0, 5, 3], "must not decrease"),
        ("cumulative_sequence_length", [], "must not be empty"),
        ("input_ids", [1] * 513, "more tokens than the model has positions"),
    ],
)
def test_a_bad_run_fails_and_the_next_one_works(name: str, value: list[int], message: str) -> None:
    encoder = ENCODERS["bert"]
    run = session(encoder.graph())
    good = encoder.feeds([3])
    before = bits(run.run(None, good))
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument, match=message):
        run.run(None, good | _around({name: np.array(value, np.int32)}))
    np.testing.assert_array_equal(bits(run.run(None, good)), before)


def test_a_graph_that_does_not_fit_is_no_session_and_harms_no_other() -> None:
    encoder = RandomEncoder()
    encoder.heads = 3
    for _ in range(3):
        with pytest.raises(Exception, match="number of heads must be a multiple of 16"):
            session(encoder.graph())
    feeds = ENCODERS["bert"].feeds([4])
    session(ENCODERS["bert"].graph()).run(None, feeds)
