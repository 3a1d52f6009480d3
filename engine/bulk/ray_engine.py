"""Chunks answered by actors of a Ray cluster, each with an answerer."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from fastspan.bulk.answering import Answered, answer_pairs
from fastspan.bulk.engines import Pairs, Work
from fastspan.errors import FastSpanError, InferenceError, MissingDependency

__all__ = ["RayActors", "import_ray"]


def import_ray() -> Any:
    """Return Ray.

    Raises:
        MissingDependency: It is not installed.
    """
    try:
        return import_module("ray")
    except ImportError as error:
        raise MissingDependency("Ray is not installed: run pip install 'fastspan[ray]'.") from error


class RayActors:
    """Answers on a Ray cluster: the one that RAY_ADDRESS names, else one made here.

    An actor that is lost with its node begins again on another one, and answers its chunks again.

    Args:
        work: What to do. Every node finds the bundle at the same place.
        workers: How many actors.
        threads: CPUs that each actor takes of the cluster.
        gpus: GPUs that each takes.
    """

    def __init__(self, work: Work, workers: int, threads: int, gpus: float = 0) -> None:
        self._ray = import_ray()
        self._began = not self._ray.is_initialized()
        if self._began:
            self._ray.init(log_to_driver=False, include_dashboard=False)
        kind = self._ray.remote(_Actor).options(
            num_cpus=threads, num_gpus=gpus, max_restarts=-1, max_task_retries=-1
        )
        self._actors = [kind.remote(work) for _ in range(workers)]
        self._next = itertools.cycle(self._actors)
        self.ahead = 2 * workers + 1

    def start(self, pairs: Pairs) -> Any:
        """Send the chunk to the next actor."""
        return next(self._next).answer.remote(pairs)

    def finish(self, begun: Any) -> Sequence[Answered | str]:
        """Wait for the chunk."""
        try:
            answered: Sequence[Answered | str] = self._ray.get(begun)
        except self._ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, FastSpanError):
                raise cause from error
            reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
            raise InferenceError(f"Ray could not answer a chunk ({reason[0][:300]}).") from error
        return answered

    def close(self) -> None:
        """End the actors, and the cluster where it was made here."""
        for actor in self._actors:
            self._ray.kill(actor)
        if self._began:
            self._ray.shutdown()


class _Actor:
    """An answerer somewhere on the cluster."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._qa: Any = None

    def answer(self, pairs: Pairs) -> list[Answered | str]:
        """Answer a chunk; the first one waits for the bundle, whose errors are then this call's."""
        if self._qa is None:
            self._qa = self._work.loaded()
        return list(answer_pairs(self._qa, pairs, self._work.answer))
