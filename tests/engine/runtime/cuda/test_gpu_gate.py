"""Several bundles on one GPU: a capture fails if anything else touches the GPU meanwhile."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from fastspan import DeadlineExceeded, ProviderError
from fastspan.runtime.cuda.gpu_gate import gpu_alone, gpu_shared
from fastspan.runtime.session import OnnxSession
from support.stand_ins.cuda_sessions import INPUTS, PADDED, check, opened, settings, windows
from support.stand_ins.fake_runtime import CPU, FakeRuntime, take_the_place_of_onnxruntime

Installed = Callable[..., FakeRuntime]
SLOW = 96


class Pause:
    """Holds runs and captures of so many tokens until it is told otherwise."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.over = threading.Event()

    def __call__(self, feeds: Mapping) -> None:
        if feeds["input_ids"].size == SLOW:
            self.reached.set()
            assert self.over.wait(10)


@pytest.fixture
def pause() -> Iterator[Pause]:
    held = Pause()
    yield held
    held.over.set()


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Installed:
    return partial(take_the_place_of_onnxruntime, monkeypatch)


@contextmanager
def captured_elsewhere() -> Iterator[None]:
    """Another thread is at a capture."""
    begun, over = threading.Event(), threading.Event()

    def capture() -> None:
        with gpu_alone():
            begun.set()
            assert over.wait(10)

    thread = threading.Thread(target=capture)
    thread.start()
    try:
        assert begun.wait(10)
        yield
    finally:
        over.set()
        thread.join()


def test_a_capture_waits_for_the_runs_of_other_sessions(installed: Installed, pause: Pause) -> None:
    installed(before_run=pause)
    first = opened()
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(check, first, windows(SLOW))
        assert pause.reached.wait(10)
        loading = pool.submit(opened, 32)
        time.sleep(0.05)
        assert not loading.done()
        pause.over.set()
        running.result()
        check(loading.result(), windows(5))


def test_runs_and_loads_wait_for_a_capture(installed: Installed, pause: Pause) -> None:
    installed(before_run=pause)
    captured, packed = opened(32), opened()
    padded = OnnxSession(Path("bundle"), PADDED, settings())
    with ThreadPoolExecutor(5) as pool:
        loading = pool.submit(opened, SLOW)
        assert pause.reached.wait(10)
        waiting = [
            pool.submit(check, captured, windows(5)),
            pool.submit(check, packed, windows(5)),
            pool.submit(padded.run, windows(5)),
            pool.submit(opened),
        ]
        for session in (captured, packed, padded):
            with pytest.raises(DeadlineExceeded):
                session.run(windows(5), deadline=time.monotonic() + 0.02)
        assert not any(future.done() for future in waiting)
        pause.over.set()
        for future in waiting:
            future.result()
        assert loading.result().captured == (32, 64, SLOW)


def test_busy_sessions_and_loading_ones_get_along(installed: Installed) -> None:
    installed()
    serving = [opened(64), opened(64), opened()]
    ended = threading.Event()

    def serve(session: OnnxSession) -> int:
        answered = 0
        while not ended.is_set() or not answered:
            check(session, windows(5 + answered % 60))
            check(session, windows(70, 3))
            answered += 1
        return answered

    with ThreadPoolExecutor(8) as pool:
        servers = [pool.submit(serve, session) for session in serving * 2]
        try:
            loaded = list(pool.map(opened, [200] * 6))
        finally:
            ended.set()
        assert all(server.result() > 0 for server in servers)
    for session in loaded:
        assert len(session.captured) == 7
        check(session, windows(150))


def test_a_capture_that_waits_goes_before_runs_that_come_later() -> None:
    with ThreadPoolExecutor(1) as pool, gpu_shared():

        def capture() -> None:
            with gpu_alone():
                pass

        capturing = pool.submit(capture)
        give_up = time.monotonic() + 10
        with pytest.raises(DeadlineExceeded):
            while time.monotonic() < give_up:
                # Several may be inside at once, until the capture waits.
                with gpu_shared(time.monotonic()):
                    time.sleep(0.001)
        assert not capturing.done()
    capturing.result()


@pytest.mark.parametrize("deadline", [None, float("inf"), 1e300])
def test_without_a_deadline_that_comes_a_run_waits_for_as_long_as_it_takes(deadline: float | None) -> None:
    entered = threading.Event()

    def run() -> None:
        with gpu_shared(deadline):
            entered.set()

    thread = threading.Thread(target=run)
    with captured_elsewhere():
        thread.start()
        assert not entered.wait(0.05)
    assert entered.wait(10)
    thread.join()


def test_a_deadline_that_has_passed_keeps_nobody_out_who_need_not_wait() -> None:
    with gpu_shared(time.monotonic() - 1):
        pass


def test_captures_go_one_after_the_other() -> None:
    inside, most = 0, 0

    def capture(_number: int) -> None:
        nonlocal inside, most
        with gpu_alone():
            inside += 1
            most = max(most, inside)
            time.sleep(0.002)
            inside -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(capture, range(16)))
    assert most == 1


def test_a_capture_that_fails_lets_the_others_go_on(installed: Installed) -> None:
    def refuse(feeds: Mapping) -> None:
        if feeds["input_ids"].size == SLOW:
            raise RuntimeError("CUDA failure 2: out of memory ; GPU=0")

    installed(before_run=refuse)
    session = opened(32)
    with pytest.raises(ProviderError, match="cannot be captured"):
        opened(SLOW)
    session.run(windows(5), deadline=time.monotonic() + 10)


def test_a_cpu_waits_for_no_capture(installed: Installed) -> None:
    installed(runs_on=[CPU])
    on_cpu = replace(settings(), provider=CPU, provider_options={})
    with captured_elsewhere():
        padded = replace(PADDED, inputs=INPUTS[:2])
        OnnxSession(Path("bundle"), padded, on_cpu).run(windows(3), deadline=time.monotonic() + 10)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_a_capture_it_left_behind() -> None:
    with captured_elsewhere():
        child = os.fork()
        if child == 0:
            try:
                with gpu_shared(time.monotonic() + 5):
                    os._exit(0)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
