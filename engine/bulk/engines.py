"""Where chunks are answered: in this process, in several on this machine, or on a Ray cluster."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import connection, get_context, parent_process
from typing import Any, Protocol, TypeAlias

from fastspan.answerer import QuestionAnswerer
from fastspan.bulk.answering import Answered, answer_pairs
from fastspan.errors import FastSpanError, InferenceError

__all__ = ["Engine", "InProcess", "Processes", "Work"]

Pairs: TypeAlias = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What every worker does.

    Attributes:
        bundle: The bundle's folder, or a hub id.
        load: Arguments of ``QuestionAnswerer.load``.
        answer: Fields of ``AnswerOptions``.
    """

    bundle: str
    load: Mapping[str, Any] = field(default_factory=dict)
    answer: Mapping[str, Any] = field(default_factory=dict)

    def loaded(self) -> QuestionAnswerer:
        """Load the bundle."""
        return QuestionAnswerer.load(self.bundle, **self.load)


class Engine(Protocol):
    """Answers chunks.

    Attributes:
        ahead: How many chunks it should be given before the first result is taken.
    """

    ahead: int

    def start(self, pairs: Pairs) -> Any:
        """Begin a chunk; what is returned is given to ``finish``."""

    def finish(self, begun: Any) -> Sequence[Answered | str]:
        """Wait for a chunk's answers, a reason for each pair that cannot be used.

        Raises:
            FastSpanError: The bundle does not load, a run failed, or a worker was lost for good.
        """

    def close(self) -> None:
        """Let go of the workers."""


class InProcess:
    """Answers in this process, with all its threads.

    Args:
        work: What to do.
    """

    ahead = 1

    def __init__(self, work: Work) -> None:
        self._qa, self._options = work.loaded(), work.answer

    def start(self, pairs: Pairs) -> Pairs:
        """Keep the chunk; it is answered as it is finished."""
        return pairs

    def finish(self, begun: Pairs) -> list[Answered | str]:
        """Answer the chunk."""
        return list(answer_pairs(self._qa, begun, self._options))

    def close(self) -> None:
        """Close the answerer."""
        self._qa.close()


class Processes:
    """Answers in processes of its own on this machine, each with an answerer.

    A process of Python does one thing at a time while it tokenizes and decodes, so processes scale better
    than threads.

    Args:
        work: What to do.
        workers: How many processes.
    """

    def __init__(self, work: Work, workers: int) -> None:
        # Not by fork: threads of the parent would be lost in mid-work.
        self._pool = ProcessPoolExecutor(workers, get_context("spawn"), _begin_worker, (work,))
        self.ahead = 2 * workers + 1

    def start(self, pairs: Pairs) -> Future[list[Answered | str]]:
        """Queue the chunk."""
        try:
            return self._pool.submit(_in_worker, pairs)
        except BrokenProcessPool as error:
            raise _lost() from error

    def finish(self, begun: Future[list[Answered | str]]) -> list[Answered | str]:
        """Wait for the chunk."""
        try:
            return begun.result()
        except BrokenProcessPool as error:
            raise _lost() from error

    def close(self) -> None:
        """End the processes; what they have begun is thrown away."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _lost() -> InferenceError:
    return InferenceError(
        "a worker process ended without an answer, perhaps because memory ran out: give the same command "
        "again, which goes on where it was, with fewer --workers."
    )


@dataclass(slots=True)
class _Worker:
    """What a worker process holds: an answerer, or why it has none."""

    qa: QuestionAnswerer | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    failure: FastSpanError | None = None


_worker = _Worker()


def _begin_worker(work: Work) -> None:
    # The parent is interrupted, and ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker.options = work.answer
    try:
        _worker.qa = work.loaded()
    except FastSpanError as error:
        # Told with the first chunk: what an initializer raises is printed, and breaks the pool.
        _worker.failure = error


def _end_with_parent() -> None:
    """A parent that was killed tells nobody, and its workers would wait for ever."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _in_worker(pairs: Pairs) -> list[Answered | str]:
    if _worker.failure is not None:
        raise _worker.failure
    if _worker.qa is None:
        raise InferenceError("the worker has no answerer")
    return list(answer_pairs(_worker.qa, pairs, _worker.options))
