"""The process of one session whose memory is measured: answers questions of random lengths over a bundle.

Run as ``python -m fastspan.benchmarks.studies.memory_worker DESCRIPTOR``; see
``fastspan.benchmarks.peers.worker`` for the pipe. ``memory`` runs it.
"""

from __future__ import annotations

import itertools
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fastspan.benchmarks.peers.worker import serve
from fastspan.benchmarks.speed.peer_process import import_psutil
from fastspan.bundle.folder import Bundle
from fastspan.decoding.squad import decode_squad
from fastspan.machine.cpu import cpu_features
from fastspan.options import AnswerOptions
from fastspan.runtime.kernel_session import KernelSession
from fastspan.runtime.session import OnnxSession, SessionSettings
from fastspan.text.encoder import Encoder
from fastspan.tuning.sample_texts import questions_of

__all__ = ["MeasuredSession", "main"]

_SHORTEST = 16
# Lengths to make texts of; a window has about so many tokens.
_STEP = 8
_SEED = 0


def _choices(options: Any, *, arena: bool, patterns: bool) -> None:
    """Switch ONNX Runtime's arena or memory patterns off."""
    options.enable_cpu_mem_arena = arena
    options.enable_mem_pattern = patterns


class MeasuredSession:
    """A bundle's graph on the CPU, the memory of whose process is looked at.

    Attributes:
        ended: Whether a request said to end.
    """

    def __init__(self) -> None:
        self.ended = False

    def reply(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Do what a request asks for.

        ``load`` makes the session and warms it up; ``run`` answers the next so many questions and returns
        each one's ``seconds``, and the process's ``resident`` bytes; ``end`` ends.

        Raises:
            ValueError: The request is of no known kind.
        """
        match request["do"]:
            case "load":
                began = time.perf_counter()
                self._load(request["job"])
                seconds = time.perf_counter() - began
                return {"seconds": seconds, "description": {}}
            case "run":
                return {"seconds": [self._next() for _ in range(request["times"])], **_resident()}
            case "end":
                self.ended = True
                return {}
            case other:
                raise ValueError(f"{other!r} is no request")

    def _load(self, job: Mapping[str, Any]) -> None:
        bundle = Bundle.open(Path(job["bundle"]))
        self._options = AnswerOptions(max_length=bundle.manifest.max_length, overlap=0)
        self._encoder = Encoder.of_bundle(bundle)
        variant = bundle.manifest.variants[job["variant"]]
        dot_product = cpu_features().int8_dot_product is not None
        graph = variant.graph_for("cpu", kernels=job["kernels"], dot_product=dot_product)
        settings = SessionSettings(provider="CPUExecutionProvider", threads=job["threads"], spinning=True)
        kind = KernelSession if graph.target == "cpu-kernels" else OnnxSession
        self._session = kind(
            bundle.folder,
            graph,
            settings,
            lambda: bundle.read_graph(graph),
            prepare=partial(_choices, arena=job["arena"], patterns=job["patterns"]),
        )
        longest = bundle.manifest.max_length
        texts = questions_of(self._encoder, range(_SHORTEST, longest + 1, _STEP), longest)
        self._asked: Iterator[tuple[str, str]] = _drawn(texts)
        for text in itertools.chain(texts[::-1], texts):  # the longest first: an arena keeps what it took
            self._answer(text)

    def _next(self) -> float:
        text = next(self._asked)
        began = time.perf_counter()
        self._answer(text)
        return time.perf_counter() - began

    def _answer(self, text: tuple[str, str]) -> None:
        pairs = self._encoder.encode([text[0]], [text[1]], self._options)
        found = [self._session.run([window]) for window in pairs[0].windows]
        decode_squad(
            pairs,
            [[start[0] for start, _ in found]],
            [[end[0] for _, end in found]],
            self._options,
            threshold=0.0,
        )


def _drawn(texts: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Texts at random, the same in every process."""
    drawn = random.Random(_SEED)
    while True:
        yield drawn.choice(texts)


def _resident() -> dict[str, int]:
    return {"resident": int(import_psutil().Process().memory_info().rss)}


def main(arguments: Sequence[str]) -> None:
    """Serve requests until the pipe closes or one says to end."""
    serve(int(arguments[0]), MeasuredSession())


if __name__ == "__main__":
    main(sys.argv[1:])
