"""int8 on FastSpan's own kernels, from text to answer. The operator itself has its own tests."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fastspan import DeadlineExceeded, QuestionAnswerer, kernels
from fastspan.bundle.folder import Bundle
from fastspan.bundle.variants import Graph
from fastspan.loading import load_bundle
from fastspan.options import AnswerOptions, LoadOptions
from fastspan.runtime import kernel_session
from fastspan.runtime.kernel_session import KernelSession
from fastspan.runtime.session import SessionSettings
from fastspan.text.encoder import Window
from support.models.random_encoder import RandomEncoder
from support.stopped_runs import check_stops

needs_kernels = pytest.mark.usefixtures("kernels_here")
PLAIN = ("onnx/model_int8.onnx", "onnx/model_int8_dot_product.onnx")
QUESTION = "Who led the raiders?"
CONTEXT = "The Normans descended from Norse raiders who, under their leader Rollo, swore fealty to a king. "


def test_int8_has_a_graph_for_the_kernels_that_reads_no_fp32_weights(bundled_bundle):
    (graph,) = [
        graph
        for graph in Bundle.open(bundled_bundle).manifest.variants["int8"].graphs
        if graph.target == "cpu-kernels"
    ]
    assert graph.layout == "packed"
    assert all("int8" in path for path in graph.data)


def test_where_they_are_missing_the_plain_graph_runs_and_says_why(bundled_bundle, without_kernels):
    with QuestionAnswerer.load(bundled_bundle, variant="int8", provider="cpu") as qa:
        assert qa.info().graph in PLAIN
        assert "not compiled" in qa.info().reason
        assert qa.answer(QUESTION, CONTEXT).answer.text == "Rollo"


@needs_kernels
def test_they_can_be_switched_off(bundled_bundle):
    with QuestionAnswerer.load(bundled_bundle, variant="int8", provider="cpu", kernels=False) as qa:
        assert qa.info().graph in PLAIN
        assert "kernels=False was asked for" in qa.info().reason


@needs_kernels
@pytest.mark.parametrize("variant", ["int8", "auto"])
def test_they_run_what_they_are_made_for_and_answer(bundled_bundle, variant):
    if variant == "auto" and kernels.best_path() == "portable":
        pytest.skip("auto takes fp32 where the kernels have no faster path")
    with QuestionAnswerer.load(bundled_bundle, variant=variant, provider="cpu") as qa:
        assert qa.info().graph == "onnx/model_int8_kernels.onnx"
        # Whoever chose the variant, it is said once.
        assert qa.info().reason.count("own kernels run it") == 1
        assert f"({kernels.best_path()})" in qa.info().reason
        assert qa.answer(QUESTION, CONTEXT).answer.text == "Rollo"


@needs_kernels
@pytest.mark.parametrize("optimize_for", ["latency", "throughput"])
def test_an_answer_is_the_same_alone_and_among_others_on_any_number_of_threads(bundled_bundle, optimize_for):
    pairs = [(QUESTION, CONTEXT * times) for times in (1, 2, 9, 25, 1, 4, 3)]
    found = []
    for threads in (1, 2, 3):
        options = {"threads": threads, "optimize_for": optimize_for, "profile": False}
        with QuestionAnswerer.load(bundled_bundle, variant="int8", provider="cpu", **options) as qa:
            found.append([qa.answer(*pair).to_dict() for pair in pairs])
            found.append([prediction.to_dict() for prediction in qa.answer_many(pairs)])
    assert all(each == found[0] for each in found)


@needs_kernels
def test_windows_share_a_run_and_come_back_as_rows(bundled_bundle):
    loaded = load_bundle(bundled_bundle, None, LoadOptions(variant="int8", provider="cpu"))
    encoded = loaded.encoder.encode(
        [QUESTION] * 3, [CONTEXT, CONTEXT * 3, ""], AnswerOptions().within(384, 128)
    )
    windows = [window for pair in encoded for window in pair.windows]
    starts, ends = loaded.session.run(windows)
    lengths = [len(window.input_ids) for window in windows]
    assert starts.shape == ends.shape == (len(windows), max(lengths))
    for row, (window, length) in enumerate(zip(windows, lengths, strict=True)):
        alone = loaded.session.run([window])
        assert np.array_equal(alone[0][0], starts[row, :length])
        assert np.array_equal(alone[1][0], ends[row, :length])
        assert not starts[row, length:].any()


def wide_session(folder: Path, *, layers: int, threads: int) -> KernelSession:
    """Some layers as wide as BERT-base's, with random weights."""
    encoder = RandomEncoder(hidden=768, heads=12, inner=3072, layers=layers, inner_group=768, asymmetric=31)
    encoder.graph(folder / "wide.onnx")
    graph = Graph(
        file="wide.onnx",
        target="cpu-kernels",
        layout="packed",
        inputs=encoder.run_inputs,
        opset=20,
        ir_version=10,
    )
    settings = SessionSettings(provider="CPUExecutionProvider", threads=threads, spinning=False)
    return KernelSession(folder, graph, settings)


def windows_of(count: int, length: int) -> list[Window]:
    ids = np.random.default_rng(length).integers(0, 50, (count, length))
    types = np.zeros(length, np.int64)
    return [Window(row, types, first=2, count=length - 3, origin=0) for row in ids]


@needs_kernels
def test_a_late_run_says_so_once_and_logs_nothing(tmp_path, capfd):
    session = wide_session(tmp_path, layers=1, threads=2)
    batch = windows_of(2, 64)
    expected = session.run(batch, deadline=time.monotonic() + 1000)
    with pytest.raises(DeadlineExceeded, match="deadline passed"):
        session.run(batch, deadline=time.monotonic() + 1e-5)
    for logits, again in zip(expected, session.run(batch, deadline=float("inf")), strict=True):
        assert logits.tobytes() == again.tobytes()
    assert capfd.readouterr() == ("", "")


@needs_kernels
def test_a_run_beside_no_other_has_all_threads_and_others_have_their_own(bundled_bundle, monkeypatch):
    options = LoadOptions(variant="int8", provider="cpu", threads=3, optimize_for="throughput")
    loaded = load_bundle(bundled_bundle, None, options)
    session = loaded.session
    assert (session.settings.threads, session.settings.alone, loaded.settings.workers) == (1, 3, 3)
    limits: list[int] = []
    inner = kernel_session.runs_with_threads
    monkeypatch.setattr(
        kernel_session, "runs_with_threads", lambda most: (limits.append(most), inner(most))[1]
    )
    batch = windows_of(1, 40)
    expected = session.run(batch)
    begun, go_on = threading.Event(), threading.Event()
    feeds = session._layout.feeds

    def held_up(windows):
        """The first one waits until the second is over."""
        if not begun.is_set():
            begun.set()
            assert go_on.wait(30)
        return feeds(windows)

    monkeypatch.setattr(session, "_layout", SimpleNamespace(feeds=held_up, rows=session._layout.rows))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(session.run, batch)
        assert begun.wait(30)
        second = session.run(batch)
        go_on.set()
        for logits in (first.result(), second):
            assert np.array_equal(logits, expected)
    assert np.array_equal(session.run(batch), expected)
    assert limits == [3, 3, 1, 3]


def test_a_failed_run_counts_no_more(bundled_bundle, kernels_here, monkeypatch):
    options = LoadOptions(variant="int8", provider="cpu", threads=2, optimize_for="throughput")
    session = load_bundle(bundled_bundle, None, options).session
    with pytest.raises(DeadlineExceeded):
        session.run(windows_of(1, 40), deadline=0.0)
    limits: list[int] = []
    inner = kernel_session.runs_with_threads
    monkeypatch.setattr(
        kernel_session, "runs_with_threads", lambda most: (limits.append(most), inner(most))[1]
    )
    session.run(windows_of(1, 40))
    assert limits == [2]


@needs_kernels
@pytest.mark.parametrize(
    ("options", "alone", "shares"),
    [
        ({"optimize_for": "throughput"}, 2, False),
        ({"optimize_for": "throughput", "widen": False}, 0, True),
        ({"optimize_for": "throughput", "kernels": False}, 0, True),
        ({"optimize_for": "latency"}, 2, False),
        ({"optimize_for": "throughput", "threads": 1}, 1, True),
    ],
)
def test_only_sessions_without_threads_of_their_own_are_shared_with_children(
    bundled_bundle, options, alone, shares
):
    chosen = LoadOptions(variant="int8", provider="cpu", threads=2).override(options)
    session = load_bundle(bundled_bundle, None, chosen).session
    assert session.settings.alone == alone
    assert session.loaded.share_with_children() == shares


@needs_kernels
@pytest.mark.stress
@pytest.mark.parametrize("threads", [1, 2])
def test_a_deadline_ends_a_run_within_50_ms_and_leaves_no_trace(tmp_path, threads):
    session = wide_session(tmp_path, layers=4, threads=threads)
    batch = windows_of(8, 384)
    whole = 0.0
    while whole < 0.3:
        batch = batch * 2 if whole else batch
        began = time.monotonic()
        session.run(batch)
        whole = time.monotonic() - began
    short = windows_of(1, 64)
    expected = session.run(short)
    check_stops(lambda deadline: session.run(batch, deadline=deadline), threads)
    for _ in range(100):
        for logits, again in zip(expected, session.run(short), strict=True):
            assert logits.tobytes() == again.tobytes()


@needs_kernels
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_answers_alike(bundled_bundle):
    with QuestionAnswerer.load(bundled_bundle, variant="int8", provider="cpu") as qa:
        expected = qa.answer(QUESTION, CONTEXT).to_dict()
        child = os.fork()
        if child == 0:
            os._exit(0 if qa.answer(QUESTION, CONTEXT).to_dict() == expected else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@needs_kernels
def test_a_session_runs_on_the_path_that_was_asked_for(bundled_bundle, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "fastspan.runtime.kernel_session.register",
        lambda options, *, threads, path: (
            asked.append(path),
            kernels.register(options, threads=threads, path=path),
        ),
    )
    graph = Bundle.open(bundled_bundle).manifest.variants["int8"].graph_for("cpu", kernels=True)
    settings = SessionSettings(provider="CPUExecutionProvider", threads=1, spinning=False)
    KernelSession(bundled_bundle, graph, settings, path=kernels.paths()[-1])
    assert asked == [kernels.paths()[-1]]
    with pytest.raises(RuntimeError, match="no path 'none'"):
        KernelSession(bundled_bundle, graph, settings, path="none")
