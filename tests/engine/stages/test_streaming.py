"""Streams and queues: deadlines while work waits, streams that are dropped, and how chunks end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import Tokenizer

from fastspan import DeadlineExceeded, InputError, LoadOptions, QuestionAnswerer
from fastspan.errors import Closed
from fastspan.loading import load_bundle
from fastspan.runtime.session import Session
from fastspan.runtime.workers import Queued, Runs, Workers
from fastspan.stages.streaming import ChunkStages, stream
from fastspan.text.encoder import EncodedPair, Encoder

QUESTION = "who built the tower"
LONG = "the norse leader rollo built the stone tower by the river " * 200


class Gate:
    """A session that stands before another one's runs until it is opened, and counts those that began."""

    providers, out_of_memory_retries, shared_with_cpu = ("Gate",), 0, ""

    def __init__(self, session: Session) -> None:
        self.graph, self.settings = session.graph, session.settings
        self.began = 0
        self.entered, self.free = threading.Event(), threading.Event()
        self._real = session

    def run(self, windows: Any, *, deadline: float | None = None) -> Any:
        self.began += 1
        self.entered.set()
        self.free.wait(60)
        return self._real.run(windows, deadline=deadline)


@pytest.fixture
def gated(tiny_bundle: Path) -> Iterator[tuple[QuestionAnswerer, Gate]]:
    options = LoadOptions(variant="fp32", optimize_for="throughput", threads=1, profile=False)
    loaded = load_bundle(tiny_bundle, None, options)
    gate = Gate(loaded.session)
    with QuestionAnswerer(replace(loaded, session=gate)) as qa:
        yield qa, gate


@pytest.fixture
def one_worker(tiny_bundle: Path) -> Iterator[QuestionAnswerer]:
    with QuestionAnswerer.load(
        tiny_bundle, variant="fp32", optimize_for="throughput", threads=1, profile=False
    ) as qa:
        yield qa


def test_a_deadline_is_kept_while_work_waits_for_a_thread(gated: tuple[QuestionAnswerer, Gate]) -> None:
    one_worker, gate = gated
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(one_worker.answer, QUESTION, LONG)
        try:
            assert gate.entered.wait(60)
            with pytest.raises(DeadlineExceeded, match="allow more time"):
                one_worker.answer(QUESTION, LONG, timeout=0.05)
            # It came back while the only thread was still held.
            assert gate.began == 1
            assert not busy.done()
        finally:
            gate.free.set()
        of_the_first = len(busy.result(60).answers)
    assert of_the_first == 1
    windows = gate.began
    one_worker.answer(QUESTION, LONG)
    # What came too late never ran.
    assert gate.began == 2 * windows


@pytest.mark.parametrize("timeout", [1e300, float("inf")])
def test_a_wait_without_end(one_worker: QuestionAnswerer, timeout: float) -> None:
    assert one_worker.answer(QUESTION, LONG, timeout=timeout) == one_worker.answer(QUESTION, LONG)


def test_a_stream_that_is_dropped_leaves_no_work_behind(gated: tuple[QuestionAnswerer, Gate]) -> None:
    one_worker, gate = gated
    gate.free.set()
    answers = one_worker.answer_many([(QUESTION, LONG)] * 400)
    next(answers)
    gate.free.clear()
    gate.entered.clear()
    # The second chunk's first run may be under way or about to be; all after it wait in the queue.
    queued = gate.began
    del answers
    gate.free.set()
    one_worker.close()
    assert gate.began <= queued + 1


def test_a_stream_that_fails_drops_what_it_had_started() -> None:
    cancelled = []

    class Watched(Runs):
        def cancel(self) -> None:
            cancelled.append(len(self.pairs))

    def fail(runs: Runs) -> list[Any]:
        raise ZeroDivisionError

    stages = ChunkStages(
        encode=lambda texts, position, last: [encoded(text) for _, text in texts],
        start=lambda pairs: Watched(pairs, [], []),
        finish=fail,
    )
    with pytest.raises(ZeroDivisionError):
        list(stream(iter([("q", "c")] * 5), stages, chunk=2, ahead=1))
    assert cancelled == [2]


def test_closed_workers_take_no_more() -> None:
    workers = Workers(1)
    workers.close()
    with pytest.raises(Closed):
        workers.start(SimpleNamespace(run=None), [[]], None)  # type: ignore[arg-type]


def test_workers_that_are_closed_while_a_call_queues_its_batches_run_all_of_them() -> None:
    workers = Workers(1)
    closing = threading.Thread(target=workers.close)

    def batches() -> Iterator[Any]:
        yield [0]
        closing.start()
        closing.join(0.05)
        yield [1]

    session: Any = SimpleNamespace(run=lambda batch, deadline: batch)
    assert list(workers.start(session, batches(), None)) == [[0], [1]]
    closing.join(60)
    with pytest.raises(Closed):
        workers.start(session, [[2]], None)


def test_python_at_its_end_starts_no_more_work() -> None:
    workers = Workers(1)
    workers._pool.shutdown()  # as Python does
    with pytest.raises(Closed, match="Python is ending"):
        workers.start(SimpleNamespace(run=None), [[]], None)  # type: ignore[arg-type]


def test_a_deadline_raised_by_a_run_is_passed_on_as_it_is() -> None:
    def late() -> Any:
        raise DeadlineExceeded("the run's own words")

    with ThreadPoolExecutor(1) as pool:
        queued = Queued([pool.submit(late)], time.monotonic() + 60)
        with pytest.raises(DeadlineExceeded, match="the run's own words"):
            list(queued)


# --- Chunks. ---


def encoded(context: str) -> EncodedPair:
    return EncodedPair(context, (), None, None)


def chunks(pairs: list[Any], chunk: int = 64) -> tuple[list[int], list[str | None]]:
    """How many pairs each chunk holds, and the context that was known when it was encoded."""
    sizes, known = [], []

    def encode(texts: Any, position: int, last: EncodedPair | None) -> list[EncodedPair]:
        assert position == sum(sizes)
        sizes.append(len(texts))
        known.append(last.context if last else None)
        return [encoded(context) for _, context in texts]

    stages = ChunkStages(
        encode=encode, start=lambda pairs: Runs(pairs, [], []), finish=lambda runs: runs.pairs
    )
    assert len(list(stream(iter(pairs), stages, chunk=chunk, ahead=0))) == len(pairs)
    return sizes, known


def test_chunks_end_by_count_and_know_the_last_context() -> None:
    pairs = [("q", str(number)) for number in range(150)]
    assert chunks(pairs) == ([64, 64, 22], [None, "63", "127"])
    assert chunks(pairs, 256) == ([150], [None])


def test_chunks_end_by_characters() -> None:
    megabyte = "x" * 999_999
    assert chunks([("q", megabyte)] * 5)[0] == [2, 2, 1]
    assert chunks([("q", "x" * 9_000_000)] * 2)[0] == [1, 1]
    assert chunks([["q", megabyte]] * 3)[0] == [2, 1]


# --- Pairs that cannot be used. ---

BAD = {3: ("", "x"), 70: (QUESTION, None), 71: 5, 149: (" ", "x")}


def with_bad_ones(count: int = 160) -> list[Any]:
    return [BAD.get(number, (QUESTION, f"the tower {number}")) for number in range(count)]


@pytest.mark.parametrize("mode", ["latency", "throughput"])
def test_errors_are_yielded_in_their_places(tiny_bundle: Path, mode: Any) -> None:
    with QuestionAnswerer.load(tiny_bundle, variant="fp32", optimize_for=mode, threads=2) as qa:
        found = list(qa.answer_many(iter(with_bad_ones()), on_error="yield"))
        assert len(found) == 160
        wrong = {number: error for number, error in enumerate(found) if isinstance(error, InputError)}
        assert list(wrong) == list(BAD)
        assert all(error.index == number for number, error in wrong.items())
        assert found[72] == qa.answer(QUESTION, "the tower 72")
        assert next(qa.answer_many([BAD[3]], on_error="yield")).index == 0


@pytest.mark.parametrize("mode", ["latency", "throughput"])
def test_what_a_generator_raises_comes_after_the_answers_to_what_it_gave(
    tiny_bundle: Path, mode: Any
) -> None:
    def broken() -> Iterator[tuple[str, str]]:
        for number in range(100):
            yield QUESTION, f"the tower {number}"
        raise ConnectionError("the database went away")

    with QuestionAnswerer.load(tiny_bundle, variant="fp32", optimize_for=mode, threads=2) as qa:
        for on_error in ("raise", "yield"):
            found = []
            with pytest.raises(ConnectionError, match="went away"):
                for prediction in qa.answer_many(broken(), on_error=on_error):  # type: ignore[call-overload]
                    found.append(prediction)
            assert len(found) == 100


def test_the_first_bad_pair_says_which_it_was(one_worker: QuestionAnswerer) -> None:
    found = []
    with pytest.raises(InputError) as caught:
        for prediction in one_worker.answer_many(with_bad_ones()[4:]):
            found.append(prediction)
    assert caught.value.index == len(found) == 66
    with pytest.raises(InputError, match="on_error must be 'raise' or 'yield', not 'skip'"):
        one_worker.answer_many([], on_error="skip")  # type: ignore[call-overload]


class Counting:
    """A tokenizer that counts how often it is given a text."""

    def __init__(self, tokenizer: Tokenizer, text: str) -> None:
        self.times = 0
        self._tokenizer, self._text = tokenizer, text

    def encode_batch(self, texts: list[str], **options: Any) -> Any:
        self.times += texts.count(self._text)
        return self._tokenizer.encode_batch(texts, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


@pytest.mark.parametrize("bad", [None, 150])
def test_a_context_shared_by_many_questions_is_tokenized_once(tiny_bundle: Path, bad: int | None) -> None:
    context = "the norse built the tower"
    pairs = [(f"{QUESTION} {number}", context) for number in range(200)]
    if bad is not None:
        pairs[bad] = ("", context)
    loaded = load_bundle(tiny_bundle, None, LoadOptions(variant="fp32"))
    counting = Counting(Tokenizer.from_file(str(tiny_bundle / "tokenizer.json")), context)
    encoder = Encoder(counting, segment_ids=True, max_positions=512)  # type: ignore[arg-type]
    with QuestionAnswerer(replace(loaded, encoder=encoder)) as qa:
        expected = [QuestionAnswerer(loaded).answer(*pair) for pair in pairs[:3]]
        answers = qa.answer_many(pairs)
        found = []
        if bad is None:
            found = list(answers)
        else:
            with pytest.raises(InputError, match=r"questions\[150\] is empty"):
                for answer in answers:
                    found.append(answer)
        assert len(found) == (200 if bad is None else bad)
        assert [answer.answer for answer in found[:3]] == [answer.answer for answer in expected]
    assert counting.times == 1


def test_a_packed_graph_has_larger_chunks(tiny_bundle: Path) -> None:
    def taken_for_the_first(qa: QuestionAnswerer) -> int:
        pairs = iter([(QUESTION, "rollo built it")] * 1000)
        next(qa.answer_many(pairs))
        return 1000 - len(list(pairs))

    with QuestionAnswerer.load(tiny_bundle, variant="fp32") as qa:
        assert taken_for_the_first(qa) == 64
    packed = load_bundle(tiny_bundle, None, LoadOptions(variant="fp32"))
    gate = Gate(packed.session)
    gate.free.set()
    gate.graph = replace(gate.graph, layout="packed", target="cuda")
    with QuestionAnswerer(replace(packed, session=gate)) as qa:
        assert taken_for_the_first(qa) == 256
