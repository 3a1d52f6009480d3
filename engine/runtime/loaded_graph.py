"""A graph in ONNX Runtime: on the provider that was asked for or not at all, and made anew after a fork."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastspan.bundle.folder import GraphBytes
from fastspan.bundle.variants import Graph
from fastspan.errors import InferenceError, ProviderError
from fastspan.machine.cuda_libraries import preload_cuda, preload_tensorrt, why_cuda_fails, why_tensorrt_fails
from fastspan.runtime.cuda.gpu_gate import gpu_shared
from fastspan.runtime.graph_source import offered
from fastspan.runtime.providers import import_onnxruntime, needs_cuda, needs_tensorrt

__all__ = ["LoadedGraph", "Prepare", "Read", "SessionSettings"]

Read = Callable[[], GraphBytes]
"""Returns a graph's verified bytes."""

Prepare = Callable[[Any], None]
"""Completes the ``onnxruntime.SessionOptions`` that a graph is loaded with."""

# Fusions that replace fast operators by slow ones: SkipLayerNormalization is a scalar loop on CPUs.
_HARMFUL_ON_CPU = ["SkipLayerNormFusion"]

# The session option that refuses a graph whose operators the provider does not all take, and what ONNX
# Runtime says then.
_NO_FALLBACK = "session.disable_cpu_ep_fallback"
_FELL_BACK = "fallback to CPU EP has been explicitly disabled"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSettings:
    """How a graph is run.

    Attributes:
        provider: Full name of the execution provider.
        provider_options: Its options.
        threads: Threads that one run computes with.
        alone: Threads for a run that begins while no other is under way, where the graph can run with more or
            fewer; 0: ``threads``.
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
    alone: int = 0
    spinning: bool
    block_base: int = 0
    spin_duration_us: int | None = None
    padding_id: int = 0
    capture_up_to: int = 0

    @property
    def most_threads(self) -> int:
        """Threads that any run may compute with."""
        return max(self.threads, self.alone)

    @property
    def times_as_many_alone(self) -> int:
        """How many times as many threads a run has beside no other."""
        return self.most_threads // self.threads


class LoadedGraph:
    """A graph, loaded into ONNX Runtime.

    Args:
        folder: The bundle's folder.
        graph: Which of its graphs.
        settings: How to run it.
        read: Returns the graph's verified bytes. It is called whenever an ONNX Runtime session is made: here,
            and in a forked child. None: ONNX Runtime reads the file as it lies.
        prepare: Completes the session's options. None: they are complete.

    Raises:
        ProviderError: The provider cannot run the graph, takes none of its operators, or ONNX Runtime put
            another in its place.
        InferenceError: ONNX Runtime cannot load the graph.
        BundleError: What ``read`` raises.

    Attributes:
        shared_with_cpu: A sentence where the provider left operators to the CPU, else empty.
    """

    def __init__(
        self,
        folder: Path,
        graph: Graph,
        settings: SessionSettings,
        read: Read | None = None,
        prepare: Prepare | None = None,
    ) -> None:
        self.shared_with_cpu = ""
        self._path = folder / graph.file
        self._packed = graph.layout == "packed"
        self._settings = settings
        self._read = read
        self._prepare = prepare
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._shared = False
        self._session = self._create()
        self._others: list[object] = []
        _loaded.add(self)

    @property
    def providers(self) -> tuple[str, ...]:
        """Full names of the providers the graph runs on, the first one first."""
        return tuple(self._session.get_providers())

    def session(self) -> Any:
        """The ``onnxruntime.InferenceSession`` of this process, made anew in a forked child.

        A forked child has its parent's memory but none of its threads. ``share_with_children`` lets it keep
        the session all the same.

        Raises:
            InferenceError: The provider does not survive a fork.
            BundleError: The bundle is not what it was.
        """
        if self._shared or os.getpid() == self._process:
            return self._session
        if needs_cuda(self._settings.provider):
            raise InferenceError(
                f"{self._settings.provider} does not survive a fork: load the bundle in the child process, "
                "or start processes with multiprocessing's 'spawn' method."
            )
        with self._lock:
            if os.getpid() != self._process:
                self._session = self._create()
                self._process = os.getpid()
        return self._session

    def share_with_children(self) -> bool:
        """Let children that are forked from now on run this very session; its memory is theirs too.

        Whoever asks for that forks only while no other thread runs it: a child would wait for ever for a lock
        that such a thread held.

        Returns:
            Whether they can: a session without threads of its own, on the CPU, survives a fork.
        """
        self._shared = self._settings.most_threads == 1 and self._settings.provider == "CPUExecutionProvider"
        return self._shared

    def using_device(self, deadline: float | None = None) -> AbstractContextManager[None]:
        """The context in which the provider's device is used; see ``gpu_gate.gpu_shared``."""
        return gpu_shared(deadline) if needs_cuda(self._settings.provider) else nullcontext()

    def never_destroy_in_a_child(self, other: object) -> None:
        """Treat something else of ONNX Runtime as the session: a forked child never destroys it."""
        self._others.append(other)

    def outlive_this_process(self) -> None:
        """Add a reference, which nobody releases, to all that a forked child must not destroy."""
        for kept in (self._session, *self._others):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))

    def _create(self) -> Any:
        ort = import_onnxruntime()
        options = ort.SessionOptions()
        if self._read is None:
            return self._on_the_provider(ort, options, str(self._path))
        # The weights are in the session once it is made; what was read is let go then.
        with offered(self._read(), self._path.name, options, self._settings.provider) as model:
            return self._on_the_provider(ort, options, model)

    def _on_the_provider(self, ort: Any, options: Any, model: str | bytes) -> Any:
        """Make a session that runs on the provider that was asked for."""
        provider = self._settings.provider
        if needs_tensorrt(provider):
            preload_tensorrt()
        if needs_cuda(provider):
            preload_cuda(ort)
        self._set(options)
        try:
            session = self._load(ort, options, model)
        except Exception as error:
            if self._packed or _FELL_BACK not in str(error):
                raise self._cannot_load(ort, error) from error
            session = self._load_beside_the_cpu(ort, options, model)
        # Where a provider's library does not load, ONNX Runtime only logs it and takes the CPU.
        running = session.get_providers()
        if running[:1] != [provider]:
            lacking = self._lacking(ort)
            raise ProviderError(
                f"{provider} was asked for, but ONNX Runtime put {', '.join(running) or 'nothing'} "
                f"in its place: {lacking or 'a library of its own is missing.'} `fastspan doctor` shows more."
            )
        session.disable_fallback()
        return session

    def _set(self, options: Any) -> None:
        settings = self._settings
        options.intra_op_num_threads = settings.most_threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if settings.spinning else "0")
        if settings.block_base:
            options.add_session_config_entry("session.dynamic_block_base", str(settings.block_base))
        if settings.spinning and settings.spin_duration_us is not None:
            options.add_session_config_entry(
                "session.intra_op.spin_duration_us", str(settings.spin_duration_us)
            )
        if self._packed:
            # One for a GPU was made to run there as a whole: an operator that went elsewhere would go
            # unnoticed, and could not be captured. Shapes differ from run to run, so no pattern repeats.
            options.enable_mem_pattern = False
        if self._prepare is not None:
            self._prepare(options)
        if settings.provider != "CPUExecutionProvider":
            options.add_session_config_entry(_NO_FALLBACK, "1")

    def _load(self, ort: Any, options: Any, model: str | bytes) -> Any:
        settings = self._settings
        with self.using_device():
            return ort.InferenceSession(
                model,
                options,
                providers=[(settings.provider, dict(settings.provider_options))],
                disabled_optimizers=_HARMFUL_ON_CPU if settings.provider == "CPUExecutionProvider" else None,
            )

    def _load_beside_the_cpu(self, ort: Any, options: Any, model: str | bytes) -> Any:
        """Load a graph that the provider takes in part, where it takes any of it."""
        provider = self._settings.provider
        options.add_session_config_entry(_NO_FALLBACK, "0")
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        try:
            session = self._load(ort, options, model)
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
        provider = self._settings.provider
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
        provider = self._settings.provider
        lacking = why_cuda_fails(ort) if needs_cuda(provider) else None
        return lacking or (why_tensorrt_fails() if needs_tensorrt(provider) else None)


_loaded: weakref.WeakSet[LoadedGraph] = weakref.WeakSet()


def _keep_what_was_inherited() -> None:
    """Let a forked child never destroy the ONNX Runtime sessions it inherited, not even at its exit.

    Their threads did not survive the fork, and a session's destructor would wait for them for ever.
    """
    for loaded in _loaded:
        loaded.outlive_this_process()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_what_was_inherited)
