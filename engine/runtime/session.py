"""One ONNX Runtime session: a graph on a provider, windows in, logits out."""

from __future__ import annotations

import ctypes
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastspan.bundle.folder import GraphBytes
from fastspan.bundle.variants import OUTPUTS, Graph
from fastspan.errors import DeadlineExceeded, InferenceError, ProviderError
from fastspan.machine.cuda_libraries import preload_cuda, preload_tensorrt, why_cuda_fails, why_tensorrt_fails
from fastspan.runtime.deadline import TOO_LATE, terminated_at
from fastspan.runtime.gpu_gate import gpu_shared
from fastspan.runtime.graph_inputs import pad
from fastspan.runtime.graph_source import offered
from fastspan.runtime.providers import import_onnxruntime, needs_cuda, needs_tensorrt
from fastspan.text.encoder import Window

__all__ = ["OUTPUTS", "Logits", "OnnxSession", "Session", "SessionSettings"]

Logits = NDArray[np.float32]

# Fusions that replace fast operators by slow ones: SkipLayerNormalization is a scalar loop on CPUs.
_HARMFUL_ON_CPU = ["SkipLayerNormFusion"]

# The session option that refuses a graph whose operators the provider does not all take, and what ONNX
# Runtime says then.
_NO_FALLBACK = "session.disable_cpu_ep_fallback"
_FELL_BACK = "fallback to CPU EP has been explicitly disabled"

# What ONNX Runtime's arena, CUDA, cuBLAS and cuDNN say when memory ran out.
_OUT_OF_MEMORY = (
    "Failed to allocate memory",
    "is smaller than requested bytes",
    "out of memory",
    "STATUS_ALLOC_FAILED",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSettings:
    """How a graph is run.

    Attributes:
        provider: Full name of the execution provider.
        provider_options: Its options.
        threads: Threads that one run computes with.
        spinning: Whether idle threads spin for more work instead of sleeping.
        block_base: ``session.dynamic_block_base``: about how many blocks a thread an operator's work is cut
            into; 0 leaves one block a thread.
        spin_duration_us: ``session.intra_op.spin_duration_us``: microseconds after which a thread that spins
            sleeps; None leaves that to ONNX Runtime.
        padding_id: Token id that fills padded batches.
        capture_up_to: Longest window, in tokens, whose runs are captured as CUDA graphs; 0: none are.
    """

    provider: str
    provider_options: Mapping[str, str] = field(default_factory=dict)
    threads: int
    spinning: bool
    block_base: int = 0
    spin_duration_us: int | None = None
    padding_id: int = 0
    capture_up_to: int = 0


class _OutOfMemory(InferenceError):
    """A run did not fit into memory."""


class Session(Protocol):
    """What runs windows: what an answerer asks of a session.

    Attributes:
        graph: The graph that runs.
        settings: How it is run.
        shared_with_cpu: A sentence where the provider left operators to the CPU, else empty.
    """

    graph: Graph
    settings: SessionSettings
    shared_with_cpu: str

    @property
    def providers(self) -> tuple[str, ...]:
        """Full names of the providers the session runs on, the first one first."""

    @property
    def out_of_memory_retries(self) -> int:
        """How many batches did not fit into memory and were run again in halves."""

    def run(self, windows: Sequence[Window], *, deadline: float | None = None) -> tuple[Logits, Logits]:
        """Run windows as one batch; see ``OnnxSession.run``."""


class OnnxSession:
    """A loaded graph. Safe to run from many threads at once, and in a forked child.

    Args:
        folder: The bundle's folder.
        graph: Which of its graphs.
        settings: How to run it.
        read: Returns the graph's verified bytes. It is called whenever an ONNX Runtime session is made: here,
            and in a forked child. None: ONNX Runtime reads the file as it lies.

    Raises:
        ProviderError: The provider cannot run the graph, takes none of its operators, or ONNX Runtime put
            another in its place.
        InferenceError: ONNX Runtime cannot load the graph.
        BundleError: What ``read`` raises.

    Attributes:
        graph: As given.
        settings: As given.
        shared_with_cpu: A sentence where the provider left operators to the CPU, else empty.
    """

    def __init__(
        self,
        folder: Path,
        graph: Graph,
        settings: SessionSettings,
        read: Callable[[], GraphBytes] | None = None,
    ) -> None:
        self.graph = graph
        self.settings = settings
        self.shared_with_cpu = ""
        self._path = folder / graph.file
        self._read = read
        self._model: str | bytes = str(self._path)
        self._retries = 0
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._session = self._create()
        _sessions.add(self)

    @property
    def providers(self) -> tuple[str, ...]:
        """Full names of the providers the session runs on, the first one first."""
        return tuple(self._session.get_providers())

    @property
    def out_of_memory_retries(self) -> int:
        """How many batches did not fit into memory and were run again in halves."""
        return self._retries

    def run(self, windows: Sequence[Window], *, deadline: float | None = None) -> tuple[Logits, Logits]:
        """Run windows as one batch; in two halves where the whole does not fit into memory.

        Args:
            windows: Of equal length where the graph's layout is ``exact``; else the shorter ones are padded.
            deadline: When to give up, on ``time.monotonic``'s clock; None never does.

        Returns:
            Start and end logits. *Shape:* ``(windows, longest)``, float32; beyond a window's own length they
            mean nothing.

        Raises:
            DeadlineExceeded: The deadline passed first.
            InferenceError: ONNX Runtime failed.
        """
        try:
            return self._run(windows, deadline)
        except _OutOfMemory:
            if len(windows) == 1:
                raise
        with self._lock:
            self._retries += 1
        middle = len(windows) // 2
        halves = [self._run(half, deadline) for half in (windows[:middle], windows[middle:])]
        start, end = (_one_below_the_other(side) for side in zip(*halves, strict=True))
        return start, end

    def _run(self, windows: Sequence[Window], deadline: float | None) -> tuple[Logits, Logits]:
        feeds = self._feeds(windows)
        session = self._session if os.getpid() == self._process else self._after_fork()
        limited = nullcontext() if deadline is None else self._ended_at(deadline)
        try:
            with self._touching_gpu(deadline), limited as run_options:
                start, end = session.run(OUTPUTS, feeds, run_options)
        except DeadlineExceeded:
            raise
        except Exception as error:
            raise self._failure(windows, deadline, error) from error
        return self._rows(windows, start), self._rows(windows, end)

    def _feeds(self, windows: Sequence[Window]) -> Mapping[str, Any]:
        """The graph's inputs."""
        return pad(windows, self.graph.inputs, self.settings.padding_id)

    def _rows(self, windows: Sequence[Window], logits: Logits) -> Logits:
        """The graph's output, a row a window."""
        return logits

    def _ended_at(self, deadline: float) -> AbstractContextManager[Any]:
        """Run options of a run that ends at the deadline."""
        return terminated_at(deadline)

    def _prepare(self, options: Any) -> None:
        """What the session's options need beyond the settings."""

    def _touching_gpu(self, deadline: float | None = None) -> AbstractContextManager[None]:
        """The context in which the provider's device is used."""
        return gpu_shared(deadline) if needs_cuda(self.settings.provider) else nullcontext()

    def _failure(
        self, windows: Sequence[Window], deadline: float | None, error: Exception
    ) -> DeadlineExceeded | InferenceError:
        """What is raised instead of what ONNX Runtime raised."""
        if deadline is not None and time.monotonic() >= deadline:
            return DeadlineExceeded(TOO_LATE)
        longest = max(len(window.input_ids) for window in windows)
        message = f"ONNX Runtime failed on {len(windows)} windows of up to {longest} tokens: {error}"
        if not any(sign in str(error) for sign in _OUT_OF_MEMORY):
            return InferenceError(f"{message} (another variant, or provider='cpu', may run)")
        return _OutOfMemory(f"{message} (a smaller token_budget or a higher gpu_memory_limit may mend it)")

    def _create(self) -> Any:
        ort = import_onnxruntime()
        options = ort.SessionOptions()
        if self._read is None:
            return self._configured(ort, options)
        with offered(self._read(), self._path.name, options, self.settings.provider) as model:
            self._model = model
            try:
                return self._configured(ort, options)
            finally:
                # The weights are in the session by now; the file's content would take their memory again.
                self._model = str(self._path)

    def _configured(self, ort: Any, options: Any) -> Any:
        settings = self.settings
        options.intra_op_num_threads = settings.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if settings.spinning else "0")
        if settings.block_base:
            options.add_session_config_entry("session.dynamic_block_base", str(settings.block_base))
        if settings.spinning and settings.spin_duration_us is not None:
            options.add_session_config_entry(
                "session.intra_op.spin_duration_us", str(settings.spin_duration_us)
            )
        on_cpu = settings.provider == "CPUExecutionProvider"
        if needs_tensorrt(settings.provider):
            preload_tensorrt()
        if needs_cuda(settings.provider):
            preload_cuda(ort)
        if self.graph.layout == "packed":
            # One for a GPU was made to run there as a whole: an operator that went elsewhere would go
            # unnoticed, and could not be captured. Shapes differ from run to run, so no pattern repeats.
            options.enable_mem_pattern = False
        self._prepare(options)
        if not on_cpu:
            options.add_session_config_entry(_NO_FALLBACK, "1")
        try:
            session = self._load(ort, options)
        except Exception as error:
            if self.graph.layout == "packed" or _FELL_BACK not in str(error):
                raise self._cannot_load(ort, error) from error
            session = self._load_beside_the_cpu(ort, options)
        # Where a provider's library does not load, ONNX Runtime only logs it and takes the CPU.
        running = session.get_providers()
        if running[:1] != [settings.provider]:
            lacking = self._lacking(ort)
            raise ProviderError(
                f"{settings.provider} was asked for, but ONNX Runtime put {', '.join(running) or 'nothing'} "
                f"in its place: {lacking or 'a library of its own is missing.'} `fastspan doctor` shows more."
            )
        session.disable_fallback()
        return session

    def _load(self, ort: Any, options: Any) -> Any:
        settings = self.settings
        with self._touching_gpu():
            return ort.InferenceSession(
                self._model,
                options,
                providers=[(settings.provider, dict(settings.provider_options))],
                disabled_optimizers=_HARMFUL_ON_CPU if settings.provider == "CPUExecutionProvider" else None,
            )

    def _load_beside_the_cpu(self, ort: Any, options: Any) -> Any:
        """Load a graph that the provider takes in part, where it takes any of it."""
        provider = self.settings.provider
        options.add_session_config_entry(_NO_FALLBACK, "0")
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        try:
            session = self._load(ort, options)
        except Exception as error:
            raise self._cannot_load(ort, error) from error
        if session.get_providers()[:1] != [provider]:
            return session  # for want of a library, which is for the caller to say
        # Versions before 1.24 cannot say which operators went where.
        assigned = getattr(session, "get_provider_graph_assignment_info", None)
        if assigned is not None and not any(part.ep_name == provider for part in assigned()):
            raise ProviderError(
                f"{provider} was asked for, but takes none of the operators of {self._path}, which would all "
                "run on the CPU: load with provider='cpu', or another variant."
            )
        self.shared_with_cpu = f"Operators that {provider} does not take run on the CPU."
        return session

    def _cannot_load(self, ort: Any, error: Exception) -> InferenceError | ProviderError:
        provider = self.settings.provider
        message = f"ONNX Runtime cannot load {self._path} on {provider}: {error}"
        if provider == "CPUExecutionProvider":
            return InferenceError(
                f"{message} (load another variant, or export the checkpoint again with this version)"
            )
        lacking = self._lacking(ort)
        mend = "load with provider='cpu' or another variant; `fastspan doctor` shows more"
        return ProviderError(f"{message} ({lacking or mend})")

    def _lacking(self, ort: Any) -> str | None:
        """What the provider needs and this machine has not; None: nothing is found."""
        provider = self.settings.provider
        lacking = why_cuda_fails(ort) if needs_cuda(provider) else None
        return lacking or (why_tensorrt_fails() if needs_tensorrt(provider) else None)

    def _after_fork(self) -> Any:
        """A forked child has the session's memory but none of its threads: it makes a session of its own."""
        if needs_cuda(self.settings.provider):
            raise InferenceError(
                f"{self.settings.provider} does not survive a fork: load the bundle in the child process, or "
                "start processes with multiprocessing's 'spawn' method."
            )
        with self._lock:
            if os.getpid() != self._process:
                self._session = self._create()
                self._process = os.getpid()
        return self._session

    def _inherited(self) -> tuple[Any, ...]:
        """What a forked child must never destroy."""
        return (self._session,)


def _one_below_the_other(halves: Sequence[Logits]) -> Logits:
    width = max(half.shape[1] for half in halves)
    return np.concatenate([np.pad(half, ((0, 0), (0, width - half.shape[1]))) for half in halves])


_sessions: weakref.WeakSet[OnnxSession] = weakref.WeakSet()


def _keep_what_was_inherited() -> None:
    """Let a forked child never destroy the ONNX Runtime sessions it inherited, not even at its exit.

    Their threads did not survive the fork, and a session's destructor would wait for them for ever. An extra
    reference, which nobody releases, keeps it from being called.
    """
    for session in _sessions:
        for kept in session._inherited():
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_what_was_inherited)
