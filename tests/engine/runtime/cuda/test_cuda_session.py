"""The session of a packed graph, against a stand-in for onnxruntime that records what it is asked for."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from fastspan import DeadlineExceeded, InferenceError, ProviderError
from fastspan.bundle.variants import Graph
from fastspan.runtime.cuda.session import CudaSession
from fastspan.runtime.session import OnnxSession
from support.stand_ins.cuda_sessions import INPUTS, PADDED, check, expected, opened, settings, windows
from support.stand_ins.fake_runtime import CPU, CUDA, FakeRuntime, take_the_place_of_onnxruntime

Installed = Callable[..., FakeRuntime]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Installed:
    """Put a stand-in in onnxruntime's place."""
    return partial(take_the_place_of_onnxruntime, monkeypatch)


def test_every_bucket_is_captured_before_the_first_question(installed: Installed) -> None:
    runtime = installed()
    session = opened(capture_up_to=100)
    assert session.captured == (32, 64, 96, 128)
    # One call and one number each, the largest first; 0 and -1 mean something else.
    assert [(kind, entries) for kind, entries, _ in runtime.calls] == [
        ("bound", {"gpu_graph_id": str(number)}) for number in (1, 2, 3, 4)
    ]
    assert [shapes["input_ids"] for _, _, shapes in runtime.calls] == [(128,), (96,), (64,), (32,)]


def test_a_single_window_replays_the_smallest_bucket_that_holds_it(installed: Installed) -> None:
    runtime = installed()
    session = opened(capture_up_to=100)
    for length, number in ((1, "4"), (32, "4"), (33, "3"), (100, "1"), (128, "1"), (5, "4")):
        runtime.calls.clear()
        check(session, windows(length))
        ((kind, entries, shapes),) = runtime.calls
        assert (kind, entries) == ("bound", {"gpu_graph_id": number})
        assert shapes["cumulative_sequence_length"] == (3,)


def test_a_replay_is_one_copy_each_way(installed: Installed) -> None:
    runtime = installed()
    session = opened(capture_up_to=100)
    assert len(runtime.gpu.memory) == 2 * len(session.captured)
    for length in (1, 32, 33, 70, 100):
        runtime.gpu.copies.clear()
        check(session, windows(length))
        assert runtime.gpu.copies == ["to", "from"]


def test_what_has_no_bucket_runs_uncaptured(installed: Installed) -> None:
    runtime = installed()
    session = opened(capture_up_to=64)
    for asked in (windows(65), windows(3, 9), windows(20, 64, 1)):
        runtime.calls.clear()
        check(session, asked)
        ((kind, entries, shapes),) = runtime.calls
        assert (kind, entries) == ("run", {"gpu_graph_id": "-1"})
        assert shapes["input_ids"] == (sum(len(window.input_ids) for window in asked),)


def test_without_capturing_no_graph_number_is_given(installed: Installed) -> None:
    runtime = installed()
    session = opened()
    check(session, windows(5))
    check(session, windows(5, 6))
    assert [(kind, entries) for kind, entries, _ in runtime.calls] == [("run", {})] * 2
    assert opened(64, enable_cuda_graph="0").captured == ()


def test_a_model_without_segments_is_fed_none(installed: Installed) -> None:
    runtime = installed()
    inputs = tuple(name for name in INPUTS if name != "position_ids")
    graph = Graph(file="g", target="cuda", layout="packed", inputs=inputs, opset=17, ir_version=8)
    session = CudaSession(Path("bundle"), graph, settings(32))
    session.run(windows(5))
    session.run(windows(5, 6))
    assert all(set(shapes) == set(inputs) for _, _, shapes in runtime.calls)


def test_one_thread_does_all_of_it(installed: Installed) -> None:
    runtime = installed()
    session = opened(capture_up_to=64)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda length: check(session, windows(length)), range(1, 65)))
        list(pool.map(lambda length: check(session, windows(length, 70)), range(1, 65)))
    assert len(runtime.threads) == 1
    assert threading.get_ident() not in runtime.threads


def test_the_gpu_thread_ends_with_its_session(installed: Installed) -> None:
    installed()
    session = opened()
    check(session, windows(3))
    thread = next(t for t in threading.enumerate() if t.name.startswith("fastspan-gpu"))
    del session
    gc.collect()
    thread.join(timeout=10)
    assert not thread.is_alive()


def test_the_whole_graph_is_kept_on_the_gpu(installed: Installed) -> None:
    runtime = installed()
    opened(32)
    assert runtime.options is not None
    assert runtime.options.entries["session.disable_cpu_ep_fallback"] == "1"
    assert runtime.options.enable_mem_pattern is False
    ((provider, options),) = runtime.providers
    assert provider == CUDA
    assert options["enable_cuda_graph"] == "1"
    assert runtime.preloads == 1


def test_a_capture_that_fails_says_how_to_do_without(installed: Installed) -> None:
    def refuse(feeds: Mapping) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    installed(before_run=refuse)
    with pytest.raises(
        ProviderError, match=r"Runs of 64 tokens.*stream is capturing.*'enable_cuda_graph': '0'"
    ):
        opened(64)


def test_a_deadline_that_passes_on_the_way_to_the_gpu(installed: Installed) -> None:
    free = threading.Event()
    runtime = installed(before_run=lambda feeds: None if len(feeds["input_ids"]) != 40 else free.wait(10))
    session = opened(capture_up_to=32)
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(session.run, windows(40))
        while not any(kind == "run" for kind, _, _ in runtime.calls):
            time.sleep(0.001)
        for asked in (windows(5), windows(5, 6)):
            with pytest.raises(DeadlineExceeded):
                session.run(asked, deadline=time.monotonic() + 0.02)
        free.set()
        busy.result()
    check(session, windows(5))
    # The one in flight and the last: what came too late never ran.
    assert sum(kind == "run" for kind, _, _ in runtime.calls) == 1
    assert sum(kind == "bound" for kind, _, _ in runtime.calls) == 1 + 1


@pytest.mark.parametrize("seconds", [1e300, float("inf")])
def test_a_deadline_that_never_comes(installed: Installed, seconds: float) -> None:
    installed()
    session = opened(capture_up_to=32)
    for asked in (windows(5), windows(5, 6)):
        session.run(asked, deadline=time.monotonic() + seconds)


def test_a_deadline_in_mid_run_terminates_it(installed: Installed) -> None:
    stopped = threading.Event()
    runtime = installed()
    session = opened()

    def slow(names: object, feeds: Mapping, options: object) -> None:
        while not options.terminate:  # type: ignore[attr-defined]
            time.sleep(0.001)
        stopped.set()
        raise RuntimeError("Exiting due to terminate flag being set to true.")

    session.loaded.session().run = slow
    with pytest.raises(DeadlineExceeded):
        session.run(windows(5), deadline=time.monotonic() + 0.02)
    assert stopped.wait(10)
    assert not runtime.calls


class Cramped:
    """Memory for so many tokens."""

    def __init__(self, tokens: int, text: str) -> None:
        self.tokens = tokens
        self.text = text

    def __call__(self, feeds: Mapping) -> None:
        if feeds["input_ids"].size > self.tokens:
            raise RuntimeError(f"[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : {self.text}")


NO_MEMORY = [
    "bfc_arena.cc:358 Failed to allocate memory for requested buffer of size 2081488896",
    "bfc_arena.cc:290 Available memory of 512 is smaller than requested bytes of 1024",
    "CUDA failure 2: out of memory ; GPU=0",
    "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0",
]


@pytest.mark.parametrize("text", NO_MEMORY)
def test_a_batch_that_does_not_fit_runs_in_halves_and_is_counted(installed: Installed, text: str) -> None:
    runtime = installed(before_run=Cramped(100, text))
    session = opened()
    check(session, windows(30, 30, 30))
    assert session.out_of_memory_retries == 0
    check(session, windows(40, 30, 30, 60))
    assert session.out_of_memory_retries == 1
    assert [shapes["input_ids"] for _, _, shapes in runtime.calls] == [(90,), (160,), (70,), (90,)]


def test_halves_that_do_not_fit_either_are_halved_too(installed: Installed) -> None:
    runtime = installed(before_run=Cramped(50, NO_MEMORY[0]))
    session = opened()
    check(session, windows(40, 40, 40, 20, 20))
    assert session.out_of_memory_retries == 3
    asked = [shapes["input_ids"] for _, _, shapes in runtime.calls]
    assert asked == [(160,), (80,), (40,), (40,), (80,), (40,), (40,)]


def test_a_window_that_does_not_fit_alone_is_an_error(installed: Installed) -> None:
    runtime = installed(before_run=Cramped(50, NO_MEMORY[0]))
    session = opened()
    for batch, halved in ((windows(60), 0), (windows(40, 40, 60), 2)):
        before = session.out_of_memory_retries
        with pytest.raises(InferenceError, match=r"on 1 windows of up to 60 tokens.*smaller token_budget"):
            session.run(batch)
        assert session.out_of_memory_retries == before + halved
    assert len(runtime.calls) == 1 + 5
    check(session, windows(20, 20))


def test_any_other_error_is_not_tried_again(installed: Installed) -> None:
    runtime = installed(before_run=Cramped(0, "CUDA failure 700: an illegal memory access was encountered"))
    session = opened()
    with pytest.raises(InferenceError, match="illegal memory access"):
        session.run(windows(3, 4))
    assert session.out_of_memory_retries == 0
    assert len(runtime.calls) == 1


def test_a_padded_batch_that_does_not_fit_runs_in_halves_too(installed: Installed) -> None:
    runtime = installed(before_run=Cramped(100, NO_MEMORY[0]))
    session = OnnxSession(Path("bundle"), PADDED, settings())
    asked = windows(10, 30, 50, 5)
    starts, ends = session.run(asked)
    assert session.out_of_memory_retries == 1
    assert [shapes["input_ids"] for _, _, shapes in runtime.calls] == [(4, 50), (2, 30), (2, 50)]
    assert starts.shape == ends.shape == (4, 50)
    for row, window in zip(starts, asked, strict=True):
        assert np.array_equal(row[: len(window.input_ids)], expected(window)[0])


def test_what_runs_elsewhere_is_refused_and_the_missing_part_named(installed: Installed) -> None:
    installed(runs_on=[CPU])
    with pytest.raises(
        ProviderError, match=rf"{CUDA} was asked for.*put {CPU} in its place: NVIDIA's driver"
    ):
        opened()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_told_to_load_for_itself(installed: Installed) -> None:
    installed()
    session = opened(32)
    child = os.fork()
    if child == 0:
        try:
            session.run(windows(3))
        except InferenceError as error:
            os._exit(0 if "does not survive a fork" in str(error) else 2)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    check(session, windows(3))
