"""One answerer in many threads, forked children, spawned children and pickles."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fastspan import Closed, LoadOptions, Prediction, QuestionAnswerer
from support.models.tiny_checkpoint import WORDS
from support.paths import PROGRAMS

QUESTION = "who built the tower"
SCRIPT = PROGRAMS / "answer_in_children.py"
MODES = ["latency", "throughput"]


def contexts(count: int) -> list[str]:
    return [" ".join(WORDS[(i * j) % len(WORDS)] for j in range(1, i % 40)) for i in range(count)]


@pytest.mark.stress
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_eight_threads_answer_as_one(tiny_bundle: Path, variant: str, mode: str) -> None:
    with QuestionAnswerer.load(tiny_bundle, variant=variant, optimize_for=mode, threads=2) as qa:
        texts = [*contexts(198), "the tower " * 300, ""]
        serial = [qa.answer(QUESTION, text, top_k=2) for text in texts]
        together = threading.Barrier(8)

        def answer_all(first: int) -> list[tuple[int, Prediction]]:
            together.wait()
            order = [(first * 25 + i) % len(texts) for i in range(len(texts))]
            return [(i, qa.answer(QUESTION, texts[i], top_k=2, timeout=600)) for i in order]

        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(answer_all, range(8)))
    for result in results:
        assert len(result) == 200
        for i, prediction in result:
            assert prediction == serial[i]


@pytest.mark.parametrize("mode", MODES)
def test_streams_of_several_threads_do_not_mix(tiny_bundle: Path, mode: str) -> None:
    with QuestionAnswerer.load(tiny_bundle, variant="fp32", optimize_for=mode, threads=2) as qa:
        streams = [[(f"{QUESTION} {word}", text) for text in contexts(150)] for word in WORDS[:4]]
        serial = [list(qa.answer_many(stream)) for stream in streams]
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda stream: list(qa.answer_many(stream)), streams)) == serial


@pytest.mark.parametrize("mode", MODES)
def test_closing_under_load_gives_answers_or_closed_and_nothing_else(tiny_bundle: Path, mode: str) -> None:
    qa = QuestionAnswerer.load(tiny_bundle, variant="fp32", optimize_for=mode, threads=2)
    long = "the stone tower " * 300
    expected = qa.answer(QUESTION, long)
    begun = threading.Barrier(5)

    def answer_until_closed() -> BaseException:
        assert qa.answer(QUESTION, long) == expected
        begun.wait()
        while True:
            try:
                assert qa.answer(QUESTION, long) == expected
            except BaseException as error:
                return error

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(answer_until_closed) for _ in range(4)]
        begun.wait()
        qa.close()
        assert [type(future.result()) for future in futures] == [Closed] * 4


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["os.fork", "os.fork while busy", "fork", "spawn", "forkserver"])
def test_a_child_answers_as_its_parent(tiny_bundle: Path, kind: str, mode: str) -> None:
    if "fork" in kind and not hasattr(os, "fork"):
        pytest.skip("no fork on this system")
    # As users run it: they know of no variable of onnxruntime's.
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    with subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", SCRIPT, tiny_bundle, kind, mode],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as program:
        try:
            _, complaint = program.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            os.killpg(program.pid, signal.SIGKILL)  # a child that hangs outlives its parent
            raise
    assert program.returncode == 0, complaint


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_child_may_run_the_very_session_of_its_parent(tiny_bundle: Path, tmp_path: Path) -> None:
    """Without threads of its own it survives a fork, with all that it holds in memory; others do not."""
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    script = """
import os, shutil, sys
from fastspan import QuestionAnswerer

def load(mode):
    return QuestionAnswerer.load(sys.argv[1], provider="cpu", threads=2, optimize_for=mode)

assert not load("latency").stages.loaded.session.loaded.share_with_children()
qa = load("throughput")
graph = qa.stages.loaded.session.loaded
assert graph.share_with_children()
expected, session = qa.answer("who?", "rollo built it."), graph.session()
# What is not there cannot be loaded anew.
shutil.rmtree(sys.argv[1])
child = os.fork()
if child == 0:
    assert graph.session() is session
    assert qa.answer("who?", "rollo built it.") == expected
else:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script, str(folder)]
    ended = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr


def test_a_pickled_answerer_keeps_its_options_and_answers(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_bundle.parent)
    options = LoadOptions(
        variant="int8", optimize_for="throughput", threads=1, spinning=True, token_budget=99
    )
    with QuestionAnswerer.load(tiny_bundle.name, options=options) as qa:
        monkeypatch.chdir(tmp_path)  # a relative path is relative to where it was loaded
        with pickle.loads(pickle.dumps(qa)) as again:
            assert type(again) is QuestionAnswerer
            assert again.info().to_dict() == {**qa.info().to_dict(), "bundle": str(tiny_bundle)}
            assert again.stages.loaded.options == options
            for text in contexts(10):
                assert again.answer(QUESTION, text) == qa.answer(QUESTION, text)


def test_a_pickle_holds_no_weights(tiny_bundle: Path) -> None:
    with QuestionAnswerer.load(tiny_bundle, variant="fp32") as qa:
        assert len(pickle.dumps(qa)) < 2000


def test_predictions_travel(tiny_bundle: Path) -> None:
    with QuestionAnswerer.load(tiny_bundle, variant="fp32") as qa:
        prediction = qa.answer(QUESTION, "the stone tower", top_k=2)
    assert pickle.loads(pickle.dumps(prediction)) == prediction
    assert len({prediction, pickle.loads(pickle.dumps(prediction))}) == 1
