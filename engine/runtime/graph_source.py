"""How ONNX Runtime is given a graph that was verified: its bytes, not a path to read once more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fastspan.bundle.folder import GraphBytes
from fastspan.runtime.providers import provider_kind

__all__ = ["offered"]


@contextmanager
def offered(graph: GraphBytes, name: str, options: Any, provider: str) -> Iterator[str | bytes]:
    """Make a verified graph ready for ``onnxruntime.InferenceSession``.

    Bytes that were verified cannot change any more: not by an export that replaces the folder meanwhile, nor
    by a file that is cut or rewritten in place, which would reach a session that maps it.

    Args:
        graph: The graph's bytes, and those of its weights.
        name: The file name of the graph, which a provider's caches may be keyed by.
        options: The ``SessionOptions`` to load with; the weights are added to them.
        provider: Full name of the execution provider.

    Yields:
        The first argument of ``InferenceSession``, good while the ``with`` block runs.
    """
    # Since 1.24. Other providers than these two may look for the weights beside the graph.
    from_memory = getattr(options, "add_external_initializers_from_files_in_memory", None)
    if provider_kind(provider) != "other" and (from_memory is not None or not graph.data):
        if from_memory is not None and graph.data:
            contents = list(graph.data.values())
            from_memory(list(graph.data), contents, [len(content) for content in contents])
        yield graph.model
        return
    # A copy that no other user may write to. Where files that are mapped cannot be removed, it outlives this.
    with TemporaryDirectory(prefix="fastspan-", ignore_cleanup_errors=True) as private:
        for path, content in ((name, graph.model), *graph.data.items()):
            Path(private, path).parent.mkdir(parents=True, exist_ok=True)
            Path(private, path).write_bytes(content)
        yield str(Path(private, name))
