"""Runs the graph for the int8 kernels on the verification questions, where the kernels are there."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fastspan.export.verification.comparison import Logits, windows_of
from fastspan.runtime.graph_inputs import pack
from fastspan.runtime.providers import import_onnxruntime
from fastspan.text.encoder import EncodedPair

__all__ = ["kernel_logits", "kernels_unavailable"]


def kernels_unavailable() -> str | None:
    """Say why FastSpan's own kernels cannot be used here, as a clause; None where they can."""
    library = _library()
    if library is None:
        return "this version of FastSpan has no int8 kernels"
    reason: str | None = library.unavailable_reason()
    return reason


def kernel_logits(path: Path, pairs: Sequence[EncodedPair], threads: int, step: Callable[[], None]) -> Logits:
    """Run every window of ``pairs``, one at a time.

    Args:
        path: The graph's file.
        pairs: Encoded questions.
        threads: Threads to compute with.
        step: Called after each window.

    Raises:
        RuntimeError: The kernels are unavailable (see ``kernels_unavailable``).
    """
    library = _library()
    if library is None:
        raise RuntimeError(kernels_unavailable())
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    library.register(options, threads=threads)
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    found = []
    for window in windows_of(pairs):
        feeds = pack([window]).feeds
        start, end = session.run(("start_logits", "end_logits"), {name: feeds[name] for name in names})
        found.append((start, end))
        step()
    return found


def _library() -> Any:
    """The engine's module that finds the kernels; None where the engine has none yet."""
    try:
        return importlib.import_module("fastspan.kernels.library")
    except ModuleNotFoundError:
        return None
