"""What must hold on an NVIDIA GPU. Skipped, and said so, where there is none."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastspan import AnswerOptions, DeadlineExceeded, LoadOptions, QuestionAnswerer
from fastspan.benchmarks.questions.evaluation_set import open_data
from fastspan.loading import LoadedBundle, load_bundle
from fastspan.runtime.cuda import session as cuda_session
from fastspan.runtime.cuda.session import CudaSession
from fastspan.runtime.graph_inputs import pack
from fastspan.runtime.session import OnnxSession
from fastspan.text.encoder import Window

pytestmark = pytest.mark.gpu

CUDA = "CUDAExecutionProvider"
# fp16 has 11 bits of mantissa: logits of about 10, after some layers of rounding.
HALF = 0.05
PAIRS = [(question.question, question.context) for question in open_data(None).questions]


def opened(bundle: Path, **options: object) -> LoadedBundle:
    return load_bundle(bundle, None, LoadOptions(provider="cuda", variant="fp16").override(options))


@pytest.fixture(scope="module")
def captured(bundled_bundle: Path) -> LoadedBundle:
    """Latency: a packed graph whose single windows are captured."""
    return opened(bundled_bundle)


@pytest.fixture(scope="module")
def plain(bundled_bundle: Path) -> LoadedBundle:
    """The same graph, nothing captured."""
    return opened(bundled_bundle, optimize_for="throughput")


@pytest.fixture(scope="module")
def windows(captured: LoadedBundle) -> list[Window]:
    """Windows of many lengths, up to the longest."""
    questions, contexts = zip(
        *PAIRS[:48], (PAIRS[0][0], " ".join(context for _, context in PAIRS[:6])), strict=True
    )
    pairs = captured.encoder.encode(questions, contexts, AnswerOptions())
    found = [window for pair in pairs for window in pair.windows]
    assert max(len(window.input_ids) for window in found) == 384
    return found


def assert_near(found: tuple, expected: tuple, window: Window, tolerance: float) -> None:
    length = len(window.input_ids)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine[:length], theirs[:length], atol=tolerance, rtol=0)


def test_the_packed_graph_runs_on_the_gpu_as_a_whole(captured: LoadedBundle) -> None:
    session = captured.session
    assert isinstance(session, CudaSession)
    assert session.providers[0] == CUDA
    assert session.graph.layout == "packed"
    assert session.captured == tuple(range(32, 385, 32))


@pytest.mark.parametrize("optimize_for", ["latency", "throughput"])
def test_half_precision_gives_the_answers_of_single_precision(
    bundled_bundle: Path, optimize_for: str
) -> None:
    with QuestionAnswerer.load(bundled_bundle, variant="fp32", provider="cpu") as qa:
        expected = [prediction.answer and prediction.answer.text for prediction in qa.answer_many(PAIRS)]
    with QuestionAnswerer.load(bundled_bundle, provider="cuda", optimize_for=optimize_for) as qa:
        assert qa.info().variant == "fp16"
        if optimize_for == "latency":
            predictions = [qa.answer(question, context) for question, context in PAIRS]
        else:
            predictions = list(qa.answer_many(PAIRS))
    found = [prediction.answer and prediction.answer.text for prediction in predictions]
    equal = sum(mine == theirs for mine, theirs in zip(found, expected, strict=True))
    assert equal / len(PAIRS) >= 0.997


def test_fp32_on_the_gpu_is_fp32(bundled_bundle: Path, windows: list[Window]) -> None:
    single = opened(bundled_bundle, variant="fp32").session
    reference = opened(bundled_bundle, variant="fp32", provider="cpu").session
    for window in windows[::8]:
        (found, expected) = (session.run([window]) for session in (single, reference))
        assert_near([side[0] for side in found], [side[0] for side in expected], window, 1e-3)


def test_a_replayed_run_gives_what_a_plain_one_does(
    captured: LoadedBundle, plain: LoadedBundle, windows: list[Window]
) -> None:
    for window in windows:
        replayed, ran = captured.session.run([window]), plain.session.run([window])
        assert_near([side[0] for side in replayed], [side[0] for side in ran], window, HALF)
        again = captured.session.run([window])
        assert all(np.array_equal(mine, same) for mine, same in zip(again, replayed, strict=True))


def test_a_larger_run_in_between_leaves_captured_runs_as_they_were(
    captured: LoadedBundle, windows: list[Window]
) -> None:
    before = [captured.session.run([window]) for window in windows]
    for times in (1, 4, 16):
        captured.session.run(windows * times)
        after = [captured.session.run([window]) for window in windows]
        for mine, theirs in zip(after, before, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))


@pytest.mark.parametrize("length", [1, 31, 32, 33, 384])
def test_a_window_at_the_edge_of_its_bucket(
    captured: LoadedBundle, plain: LoadedBundle, windows: list[Window], length: int
) -> None:
    longest = max(windows, key=lambda window: len(window.input_ids))
    window = replace(longest, input_ids=longest.input_ids[:length], type_ids=longest.type_ids[:length])
    replayed, ran = captured.session.run([window]), plain.session.run([window])
    assert_near([side[0] for side in replayed], [side[0] for side in ran], window, HALF)


def test_packed_windows_have_the_logits_they_have_alone(plain: LoadedBundle, windows: list[Window]) -> None:
    together = plain.session.run(windows)
    for row, window in enumerate(windows):
        alone = plain.session.run([window])
        assert_near([side[row] for side in together], [side[0] for side in alone], window, HALF)


def test_the_exact_and_the_packed_graph_agree(plain: LoadedBundle, windows: list[Window]) -> None:
    exact = next(graph for graph in plain.choice.variant.graphs if graph.layout == "exact")
    session = OnnxSession(plain.bundle.folder, exact, plain.session.settings)
    assert session.providers[0] == CUDA
    for window in windows:
        found, expected = session.run([window]), plain.session.run([window])
        assert_near([side[0] for side in found], [side[0] for side in expected], window, HALF)


def test_many_threads_get_what_one_does(captured: LoadedBundle, windows: list[Window]) -> None:
    expected = [captured.session.run([window]) for window in windows]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda window: captured.session.run([window]), windows * 4))
    for mine, theirs in zip(found, expected * 4, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))


def test_a_batch_beyond_the_memory_limit_runs_in_halves(bundled_bundle: Path, windows: list[Window]) -> None:
    batch = (windows * 50)[:2_000]
    held = opened(bundled_bundle, optimize_for="throughput").session
    expected = held.run(batch[:64])
    for limit in (1 << exponent for exponent in range(32, 26, -1)):
        cramped = opened(bundled_bundle, optimize_for="throughput", gpu_memory_limit=limit).session
        found = cramped.run(batch)
        if cramped.out_of_memory_retries:
            break
    assert cramped.out_of_memory_retries, "some limit is too low for the whole batch"
    for row, window in enumerate(batch[:64]):
        assert_near([side[row] for side in found], [side[row] for side in expected], window, HALF)


def test_a_deadline_ends_a_run_and_leaves_the_session_usable(
    plain: LoadedBundle, windows: list[Window], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = plain.session
    assert isinstance(session, CudaSession)
    expected = session.run(windows[:1])
    # Few and long: a run takes tens of milliseconds. They are packed beforehand, so that the deadline is
    # spent on the GPU and nowhere else.
    batch = [max(windows, key=lambda window: len(window.input_ids))] * 1024
    packed = pack(batch, padding_id=session.settings.padding_id)
    begun: list[float] = []
    run = session.loaded.session().run

    def noted(*arguments: object) -> list:
        begun.append(time.monotonic())
        return run(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(cuda_session, "pack", lambda *_arguments, **_options: packed)
        patched.setattr(session.loaded.session(), "run", noted)
        session.run(batch)  # what memory it takes is held from here on
        session.run(batch)
        took = time.monotonic() - begun[-1]
        begun.clear()
        deadline = time.monotonic() + took / 4
        with pytest.raises(DeadlineExceeded):
            session.run(batch, deadline=deadline)
        assert len(begun) == 1
        assert begun[0] < deadline, "the run had begun when its time was up"
    found = session.run(windows[:1])
    assert all(np.array_equal(mine, theirs) for mine, theirs in zip(found, expected, strict=True))
