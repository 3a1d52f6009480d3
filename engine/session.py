"""One ONNX Runtime session: a graph on a provider, windows in, logits out."""

from __future__ import annotations

import ctypes
import os
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastspan.encoding import Window
from fastspan.errors import DeadlineExceeded, InferenceError, ProviderError
from fastspan.providers import import_onnxruntime
from fastspan.variants import Graph

__all__ = ["Session", "SessionSettings"]

Logits = NDArray[np.float32]

# Fusions that replace fast operators by slow ones: SkipLayerNormalization is a scalar loop on CPUs.
_HARMFUL_ON_CPU = ["SkipLayerNormFusion"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSettings:
    """How a graph is run.

    Attributes:
        provider: Full name of the execution provider.
        provider_options: Its options.
        threads: Threads that one run computes with.
        spinning: Whether idle threads spin for more work instead of sleeping.
        padding_id: Token id that fills padded batches.
    """

    provider: str
    provider_options: Mapping[str, str] = field(default_factory=dict)
    threads: int
    spinning: bool
    padding_id: int = 0


class Session:
    """A loaded graph. Safe to run from many threads at once, and in a forked child.

    Args:
        folder: The bundle's folder.
        graph: Which of its graphs.
        settings: How to run it.

    Raises:
        ProviderError: The provider cannot run the graph, or ONNX Runtime put another in its place.
        InferenceError: ONNX Runtime cannot load the graph.
    """

    def __init__(self, folder: Path, graph: Graph, settings: SessionSettings) -> None:
        self.graph = graph
        self.settings = settings
        self._path = folder / graph.file
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._session = self._create()
        _sessions.add(self)

    @property
    def providers(self) -> tuple[str, ...]:
        """Full names of the providers the session runs on, the first one first."""
        return tuple(self._session.get_providers())

    def run(self, windows: Sequence[Window], *, deadline: float | None = None) -> tuple[Logits, Logits]:
        """Run windows as one batch.

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
        feeds = self._feeds(windows)
        session = self._session if os.getpid() == self._process else self._after_fork()
        try:
            if deadline is None:
                start, end = session.run(["start_logits", "end_logits"], feeds)
            else:
                with _terminated_at(deadline) as run_options:
                    start, end = session.run(["start_logits", "end_logits"], feeds, run_options)
        except DeadlineExceeded:
            raise
        except Exception as error:
            if deadline is not None and time.monotonic() >= deadline:
                raise DeadlineExceeded(_TOO_LATE) from error
            raise InferenceError(
                f"ONNX Runtime failed on {len(windows)} windows of up to "
                f"{max(len(w.input_ids) for w in windows)} tokens: {error}"
            ) from error
        return start, end

    def _feeds(self, windows: Sequence[Window]) -> dict[str, NDArray[np.int64]]:
        if len(windows) == 1:
            window = windows[0]
            ids, types = window.input_ids[None], window.type_ids[None]
            mask = None
        else:
            shape = (len(windows), max(len(window.input_ids) for window in windows))
            ids = np.full(shape, self.settings.padding_id, np.int64)
            types = np.zeros(shape, np.int64)
            mask = np.zeros(shape, np.int64)
            for row, window in enumerate(windows):
                length = len(window.input_ids)
                ids[row, :length] = window.input_ids
                types[row, :length] = window.type_ids
                mask[row, :length] = 1
        feeds = {"input_ids": ids}
        if "token_type_ids" in self.graph.inputs:
            feeds["token_type_ids"] = types
        if "attention_mask" in self.graph.inputs:
            feeds["attention_mask"] = np.ones_like(ids) if mask is None else mask
        return feeds

    def _create(self) -> Any:
        ort = import_onnxruntime()
        settings = self.settings
        options = ort.SessionOptions()
        options.intra_op_num_threads = settings.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if settings.spinning else "0")
        on_cpu = settings.provider == "CPUExecutionProvider"
        try:
            session = ort.InferenceSession(
                str(self._path),
                options,
                providers=[(settings.provider, dict(settings.provider_options))],
                disabled_optimizers=_HARMFUL_ON_CPU if on_cpu else None,
            )
        except Exception as error:
            kind = InferenceError if on_cpu else ProviderError
            raise kind(f"ONNX Runtime cannot load {self._path} on {settings.provider}: {error}") from error
        # Where a provider's library does not load, ONNX Runtime only logs it and takes the CPU.
        running = session.get_providers()
        if running[:1] != [settings.provider]:
            raise ProviderError(
                f"{settings.provider} was asked for, but ONNX Runtime put {', '.join(running) or 'nothing'} "
                "in its place: a driver or library is missing; `fastspan doctor` shows which."
            )
        session.disable_fallback()
        return session

    def _after_fork(self) -> Any:
        """A forked child has the session's memory but none of its threads: it makes a session of its own."""
        with self._lock:
            if os.getpid() != self._process:
                self._session = self._create()
                self._process = os.getpid()
        return self._session


_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


def _keep_what_was_inherited() -> None:
    """Let a forked child never destroy the ONNX Runtime sessions it inherited, not even at its exit.

    Their threads did not survive the fork, and a session's destructor would wait for them for ever. One
    reference more than anyone will ever give back keeps it from being called.
    """
    for session in _sessions:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session._session))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_what_was_inherited)

_TOO_LATE = (
    "The deadline passed before the model had run: allow more time, or ask for fewer or shorter texts."
)


@contextmanager
def _terminated_at(deadline: float) -> Iterator[Any]:
    """Run options that a timer terminates at the deadline; one object a call, so no other run is touched."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise DeadlineExceeded(_TOO_LATE)
    run_options = import_onnxruntime().RunOptions()

    def terminate() -> None:
        run_options.terminate = True

    timer = threading.Timer(min(left, threading.TIMEOUT_MAX), terminate)
    timer.daemon = True
    timer.start()
    try:
        yield run_options
    finally:
        timer.cancel()
