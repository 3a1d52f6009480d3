"""A packed graph on CUDA: single windows replay CUDA graphs, everything else runs as one packed batch.

ONNX Runtime keeps a captured CUDA graph with the thread that captured it. So one thread of the session's own
does all of it, and captures everything before the first question. Two runs at once would only wait for each
other on the GPU. Other sessions' threads are kept away while it captures: see ``gpu_gate``.

A captured run has one size. A single window is filled up to the next multiple of ``BUCKET_STEP`` with a
second window of padding, which packed attention keeps apart from it; see ``fastspan.runtime.graph_inputs``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import nullcontext
from pathlib import Path
from threading import TIMEOUT_MAX

import numpy as np

from fastspan.bundle.variants import OUTPUTS, Graph
from fastspan.errors import DeadlineExceeded, ProviderError
from fastspan.runtime.cuda.captured_run import CapturedRun, Feeds
from fastspan.runtime.cuda.gpu_gate import gpu_alone, gpu_shared
from fastspan.runtime.deadline import TOO_LATE, terminated_at
from fastspan.runtime.failed_runs import Halves, Logits, OutOfMemory, failure
from fastspan.runtime.graph_inputs import bucket_for, bucket_lengths, pack
from fastspan.runtime.loaded_graph import LoadedGraph, Read, SessionSettings
from fastspan.runtime.providers import import_onnxruntime
from fastspan.text.encoder import Window

__all__ = ["CudaSession"]

# "gpu_graph_id" of a run that is neither captured nor replayed.
_UNCAPTURED = -1


class CudaSession:
    """A loaded packed graph on a GPU. Safe to run from many threads at once, but not in a forked child.

    Args:
        folder: The bundle's folder.
        graph: Which of its graphs; its layout is ``packed``.
        settings: How to run it. Single windows of up to ``capture_up_to`` tokens are captured, unless
            ``enable_cuda_graph`` among the provider's options is off.
        read: As for ``OnnxSession``.

    Raises:
        ProviderError: The provider cannot run or capture the graph, or is not what would run it.

    Attributes:
        graph: As given.
        settings: As given.
        loaded: The graph in ONNX Runtime.
        shared_with_cpu: Empty: a packed graph runs on the GPU as a whole.
    """

    def __init__(
        self, folder: Path, graph: Graph, settings: SessionSettings, read: Read | None = None
    ) -> None:
        self.graph = graph
        self.settings = settings
        self.loaded = LoadedGraph(folder, graph, settings, read)
        self.shared_with_cpu = self.loaded.shared_with_cpu
        self._captured: dict[int, CapturedRun] = {}
        self.loaded.never_destroy_in_a_child(self._captured)
        self._halves = Halves()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="fastspan-gpu")
        self._capturing = settings.provider_options.get("enable_cuda_graph", "0").lower() in ("1", "true")
        if self._capturing:
            # Largest first: what the others need then lies in memory that is held already.
            for size in reversed(bucket_lengths(settings.capture_up_to)):
                self._thread.submit(self._capture, size).result()

    @property
    def providers(self) -> tuple[str, ...]:
        """Full names of the providers the session runs on, the first one first."""
        return self.loaded.providers

    @property
    def out_of_memory_retries(self) -> int:
        """How many batches did not fit into memory and were run again in halves."""
        return self._halves.count

    @property
    def captured(self) -> tuple[int, ...]:
        """Sizes of the captured runs, in tokens, ascending."""
        return tuple(sorted(self._captured))

    def run(self, windows: Sequence[Window], *, deadline: float | None = None) -> tuple[Logits, Logits]:
        """Run windows of any lengths as one batch; see ``OnnxSession.run``.

        Raises:
            DeadlineExceeded: The deadline passed first.
            InferenceError: ONNX Runtime failed, or this is a forked child.
        """
        # What fits goes through no further call.
        try:
            return self._run(windows, deadline)
        except OutOfMemory:
            if len(windows) == 1:
                raise
        return self._halves.run(windows, lambda some: self._run(some, deadline))

    def _run(self, windows: Sequence[Window], deadline: float | None) -> tuple[Logits, Logits]:
        self.loaded.session()  # which a forked child is refused
        size = bucket_for(len(windows[0].input_ids), self.captured) if len(windows) == 1 else None
        packed = pack(windows, bucket=size, padding_id=self.settings.padding_id)
        feeds = {name: packed.feeds[name] for name in self.graph.inputs}
        job = self._thread.submit(self._launch, feeds, size, deadline)
        try:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            start, end = job.result(left if left is None else min(left, TIMEOUT_MAX))
        except NotYet:
            job.cancel()
            raise DeadlineExceeded(TOO_LATE) from None
        except DeadlineExceeded:
            raise
        except Exception as error:
            raise failure(windows, deadline, error) from error
        return packed.unpack(start), packed.unpack(end)

    def _launch(self, feeds: Feeds, size: int | None, deadline: float | None) -> tuple[Logits, Logits]:
        """Run on the GPU's thread; what is too late by then never begins."""
        with gpu_shared(deadline):
            if size is not None:
                if deadline is not None and time.monotonic() >= deadline:
                    raise DeadlineExceeded(TOO_LATE)
                return self._captured[size].replay(feeds)
            unlimited = nullcontext(import_onnxruntime().RunOptions())
            with unlimited if deadline is None else terminated_at(deadline) as run_options:
                if self._capturing:
                    run_options.add_run_config_entry("gpu_graph_id", str(_UNCAPTURED))
                start, end = self.loaded.session().run(OUTPUTS, feeds, run_options)
            return start, end

    def _capture(self, size: int) -> None:
        ids = np.full(size - 1, self.settings.padding_id)
        window = Window(ids, np.zeros_like(ids), 0, 0, 0)
        packed = pack([window], bucket=size, padding_id=self.settings.padding_id)
        feeds = {name: packed.feeds[name] for name in self.graph.inputs}
        device = ("cuda", int(self.settings.provider_options.get("device_id", "0")))
        try:
            with gpu_alone():
                # 0 is ONNX Runtime's own number.
                captured = CapturedRun(
                    self.loaded.session(), feeds, size, device, number=len(self._captured) + 1
                )
        except Exception as error:
            raise ProviderError(
                f"Runs of {size} tokens cannot be captured as a CUDA graph ({error}): load with "
                "provider_options={'enable_cuda_graph': '0'}, or, if memory ran out, with a higher "
                "gpu_memory_limit."
            ) from error
        self._captured[size] = captured
