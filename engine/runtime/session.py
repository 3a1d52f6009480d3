"""Windows in, logits out: what an answerer asks of a session, and the one that runs a graph as a whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fastspan.bundle.variants import OUTPUTS, Graph
from fastspan.errors import DeadlineExceeded
from fastspan.runtime.deadline import terminated_at
from fastspan.runtime.failed_runs import Halves, Logits, OutOfMemory, failure
from fastspan.runtime.graph_inputs import pad
from fastspan.runtime.loaded_graph import LoadedGraph, Prepare, Read, SessionSettings
from fastspan.text.encoder import Window

__all__ = ["OUTPUTS", "Layout", "Logits", "OnnxSession", "Padded", "Session", "SessionSettings"]


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


class Layout(Protocol):
    """How windows become a graph's inputs, and its outputs rows."""

    def feeds(self, windows: Sequence[Window]) -> Mapping[str, Any]:
        """The graph's inputs."""

    def rows(self, windows: Sequence[Window], logits: Logits) -> Logits:
        """The graph's output, a row a window. *Shape:* ``(windows, longest)``."""


@dataclass(frozen=True, slots=True)
class Padded:
    """A row a window, the shorter ones padded.

    Attributes:
        inputs: Names of the graph's inputs.
        padding_id: Token id that fills up.
    """

    inputs: Sequence[str]
    padding_id: int

    def feeds(self, windows: Sequence[Window]) -> Mapping[str, Any]:
        """See ``graph_inputs.pad``."""
        return pad(windows, self.inputs, self.padding_id)

    def rows(self, windows: Sequence[Window], logits: Logits) -> Logits:
        """They are rows already."""
        return logits


class OnnxSession:
    """A loaded graph. Safe to run from many threads at once, and in a forked child.

    Args:
        folder: The bundle's folder.
        graph: Which of its graphs.
        settings: How to run it.
        read: Returns the graph's verified bytes; see ``LoadedGraph``.
        layout: How windows become its inputs; None: padded rows.
        ending: Returns the context of a run that ends at a deadline; it gives ONNX Runtime's run options.
        prepare: Completes the options it is loaded with; None: they are complete.

    Raises:
        ProviderError: The provider cannot run the graph, takes none of its operators, or ONNX Runtime put
            another in its place.
        InferenceError: ONNX Runtime cannot load the graph.
        BundleError: What ``read`` raises.

    Attributes:
        graph: As given.
        settings: As given.
        loaded: The graph in ONNX Runtime.
        shared_with_cpu: A sentence where the provider left operators to the CPU, else empty.
    """

    def __init__(
        self,
        folder: Path,
        graph: Graph,
        settings: SessionSettings,
        read: Read | None = None,
        *,
        layout: Layout | None = None,
        ending: Callable[[float], AbstractContextManager[Any]] = terminated_at,
        prepare: Prepare | None = None,
    ) -> None:
        self.graph = graph
        self.settings = settings
        self.loaded = LoadedGraph(folder, graph, settings, read, prepare)
        self.shared_with_cpu = self.loaded.shared_with_cpu
        self._layout = layout or Padded(graph.inputs, settings.padding_id)
        self._ending = ending
        self._halves = Halves()

    @property
    def providers(self) -> tuple[str, ...]:
        """Full names of the providers the session runs on, the first one first."""
        return self.loaded.providers

    @property
    def out_of_memory_retries(self) -> int:
        """How many batches did not fit into memory and were run again in halves."""
        return self._halves.count

    def run(self, windows: Sequence[Window], *, deadline: float | None = None) -> tuple[Logits, Logits]:
        """Run windows as one batch; in halves where the whole does not fit into memory.

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
        # What fits goes through no further call.
        try:
            return self._run(windows, deadline)
        except OutOfMemory:
            if len(windows) == 1:
                raise
        return self._halves.run(windows, lambda some: self._run(some, deadline))

    def _run(self, windows: Sequence[Window], deadline: float | None) -> tuple[Logits, Logits]:
        feeds = self._layout.feeds(windows)
        session = self.loaded.session()
        limited = nullcontext() if deadline is None else self._ending(deadline)
        try:
            with self.loaded.using_device(deadline), limited as run_options:
                start, end = session.run(OUTPUTS, feeds, run_options)
        except DeadlineExceeded:
            raise
        except Exception as error:
            raise failure(windows, deadline, error) from error
        return self._layout.rows(windows, start), self._layout.rows(windows, end)
