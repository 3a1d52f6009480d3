"""Living with other people's exporters: their noise is kept from the caller, what they change is undone."""

from __future__ import annotations

import logging
import os
import random
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from fastspan.errors import CheckpointError, FastSpanError, MissingDependency
from fastspan.runtime.providers import import_onnxruntime

__all__ = ["first_sentence", "reported", "undisturbed"]

_KNOWN_NOISE: tuple[tuple[str, type[Warning]], ...] = (
    ("You are using the legacy TorchScript-based ONNX export", DeprecationWarning),
    ("The feature will be removed", DeprecationWarning),
    ("`torch.jit.script` is deprecated", DeprecationWarning),
    ("Constant folding - Only steps=1", UserWarning),
)


_PACKAGES = ("optimum.exporters.onnx", "torch", "transformers")


@contextmanager
def undisturbed(*packages: str) -> Iterator[None]:
    """Import optimum, PyTorch and transformers, and run a block that uses them and ONNX Runtime's tools.

    Their known noise is silenced: warnings about tracing and of deprecation, and log lines below errors. What
    they change for the whole process is undone when the block ends: log levels and handlers, ``sys.path``,
    variables they add to the environment, the generators of random numbers.

    Args:
        packages: The modules to import, PyTorch among them; none: all that exporting through optimum takes.

    Raises:
        MissingDependency: One of them is not installed.
    """
    path, environment, state = list(sys.path), set(os.environ), random.getstate()
    levels: dict[str, int] = {}
    root, handler = logging.getLogger(), logging.NullHandler()
    # ONNX Runtime's quantizer calls logging.warning, which gives a root logger without handlers one for good.
    root.addHandler(handler)
    root.addFilter(_not_from_onnxruntime)
    try:
        with warnings.catch_warnings():
            for message, category in _KNOWN_NOISE:
                warnings.filterwarnings("ignore", message, category)
            _import_packages(packages or _PACKAGES)
            torch = import_module("torch")
            # The modules of onnxruntime.transformers import each other by bare names. The package puts its
            # folder on the path when it is first imported, and so once only.
            sys.path.append(str(Path(import_onnxruntime().__file__ or "").with_name("transformers")))
            # What a trace froze is found by comparing it with the model, not by reading all of these.
            warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
            # Only now: a library sets its level when it is imported.
            for name in ("transformers", "optimum"):
                logger = logging.getLogger(name)
                levels[name] = logger.level
                logger.setLevel(logging.ERROR)
            with torch.random.fork_rng(devices=[]):
                yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        root.removeFilter(_not_from_onnxruntime)
        root.removeHandler(handler)
        random.setstate(state)
        sys.path[:] = path
        for name in set(os.environ) - environment:
            del os.environ[name]


@contextmanager
def reported(fault: str, mend: str) -> Iterator[None]:
    """Turn what third parties raise in a block, which may be anything, into an error that says what to do.

    Args:
        fault: What went wrong if anything does.
        mend: What the user can do about it.

    Raises:
        CheckpointError: The block raised an exception that is not FastSpan's own.
    """
    try:
        yield
    except FastSpanError:
        raise
    except Exception as error:
        raise CheckpointError(f"{fault} ({first_sentence(error)}): {mend}.") from error


def first_sentence(error: BaseException) -> str:
    """The first sentence of a third party's message, without its full stop."""
    text = str(error.args[0] if error.args else error).strip() or type(error).__name__
    return re.split(r"(?<=[.!?])\s|\n", text, maxsplit=1)[0].rstrip(".")


def _not_from_onnxruntime(record: logging.LogRecord) -> bool:
    return "onnxruntime" not in record.pathname


def _import_packages(packages: Sequence[str]) -> None:
    import_onnxruntime()
    try:
        for name in packages:
            import_module(name)
    except ImportError as error:
        missing, extra = (
            ("This architecture has no native lowering, and what exports it", "optimum")
            if "optimum.exporters.onnx" in packages
            else ("What runs the checkpoint itself", "reference")
        )
        raise MissingDependency(
            f"{missing} is not installed or does not load ({first_sentence(error)}): "
            f"run pip install 'fastspan[{extra}]'."
        ) from error
