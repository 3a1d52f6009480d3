"""Packages that only some commands need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fastspan.errors import FastSpanError, MissingDependency
from fastspan.runtime.providers import import_onnxruntime

__all__ = ["extra"]


@contextmanager
def extra(name: str, command: str) -> Iterator[None]:
    """Wrap a command's imports: the error for a missing package names the extra that brings it.

    Args:
        name: The extra, such as ``"export"``.
        command: The command that needs it.

    Raises:
        MissingDependency: A package, or ONNX Runtime, is not installed.
    """
    import_onnxruntime()
    try:
        yield
    except FastSpanError:
        raise
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"fastspan {command} needs {error.name}, which is not installed: run "
            f"pip install 'fastspan[{name}]'."
        ) from error
