"""Finds the compiled library, checks it, and registers it with a session's options.

Only the file inside this package is ever loaded. A bundle names operators, never a library.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from onnxruntime import SessionOptions

__all__ = ["best_path", "paths", "register", "runs_end_within", "runs_with_threads", "unavailable_reason"]

_VERSION = 3
_LONGEST_LIMIT = 1e9
_FILE = Path(__file__).with_name("libfastspan_kernels" + (".dylib" if sys.platform == "darwin" else ".so"))
_REASONS = {
    1: "the int8 kernels have nothing that this CPU can run",
    2: "the int8 kernels compute other numbers than they should on this CPU",
}


@cache
def unavailable_reason() -> str | None:
    """Say why the kernels cannot be used here, in one sentence without a full stop; None where they can.

    The first call loads the library and lets it compute a small fixed problem, in some milliseconds.
    """
    try:
        library = _library()
    except OSError as error:
        if not _FILE.exists():
            return "the int8 kernels were not compiled when FastSpan was installed"
        return f"the int8 kernels could not be loaded: {error}"
    if (version := library.fastspan_kernels_version()) != _VERSION:
        return f"the int8 kernels are of version {version}, not {_VERSION}: install FastSpan again"
    code = library.fastspan_kernels_self_test(b"")
    return None if code == 0 else _REASONS.get(code, f"the int8 kernels' self-test gave {code}")


def paths() -> tuple[str, ...]:
    """The instruction sets that the kernels can use on this CPU, fastest first; the first is used.

    Empty where the kernels are unavailable.
    """
    if unavailable_reason() is not None:
        return ()
    return tuple(_library().fastspan_kernels_paths().decode().split())


def best_path() -> str:
    """Return the instruction set that the kernels use here, such as ``"avx2"``; empty: they do not run."""
    return next(iter(paths()), "")


def register(options: SessionOptions, *, threads: int, path: str = "") -> None:
    """Let a session of these options run graphs of the kernels' operator.

    Args:
        options: Of one session to be made; ``intra_op_num_threads`` should be ``threads``.
        threads: How many threads work is cut for. Results do not depend on it.
        path: One of ``paths()``, for tests. Empty: the fastest.

    Raises:
        RuntimeError: The kernels are unavailable, or have no such path.
    """
    if (reason := unavailable_reason()) is not None:
        raise RuntimeError(reason)
    if path and path not in paths():
        known = ", ".join(paths())
        raise RuntimeError(f"the int8 kernels have no path {path!r} on this CPU; they have {known}")
    options.add_session_config_entry("fastspan.kernel_threads", str(threads))
    options.add_session_config_entry("fastspan.kernel_path", path)
    options.register_custom_ops_library(str(_FILE))


@contextmanager
def runs_end_within(seconds: float) -> Iterator[None]:
    """End the runs that this thread calls inside once so much time has passed; they fail then.

    Without it a run goes on to its end. What other threads run is left alone. The clock is looked at whenever
    a thread takes new work, which is every few milliseconds at most.

    Args:
        seconds: From now; below 0 counts as 0, and more than thirty years as thirty.
    """
    set_deadline = _setter("fastspan_kernels_set_deadline")
    set_deadline(int(min(max(seconds, 0.0), _LONGEST_LIMIT) * 1e9))
    try:
        yield
    finally:
        set_deadline(-1)


@contextmanager
def runs_with_threads(most: int) -> Iterator[None]:
    """Give the runs that this thread calls inside so many threads at most; their session may have more.

    What other threads run is left alone.

    Args:
        most: At least 1.
    """
    set_limit = _setter("fastspan_kernels_set_thread_limit")
    set_limit(most)
    try:
        yield
    finally:
        set_limit(0)


@cache
def _setter(name: str) -> Callable[[int], None]:
    """Return a function of the library that sets something for this thread, without giving up Python's lock.

    The call is over at once. To wait for the lock behind it, where other threads want it too, would take
    thousands of times as long, and nothing would run meanwhile.
    """
    setter = getattr(ctypes.PyDLL(str(_FILE)), name)
    setter.argtypes = [ctypes.c_longlong]
    setter.restype = None
    return cast("Callable[[int], None]", setter)


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(str(_FILE))
    library.fastspan_kernels_version.restype = ctypes.c_int
    if library.fastspan_kernels_version() != _VERSION:
        return library  # Of another version: it may lack the functions below, and nobody calls them.
    library.fastspan_kernels_paths.restype = ctypes.c_char_p
    library.fastspan_kernels_self_test.argtypes = [ctypes.c_char_p]
    library.fastspan_kernels_self_test.restype = ctypes.c_int
    return library
