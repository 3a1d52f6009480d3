"""An int8 graph of FastSpan's own operators: windows joined end to end, whatever their lengths.

A scale a row makes a window's logits the same alone and in company, so nothing is padded and nothing has to
run alone. The operator is the whole encoder, and ONNX Runtime ends runs only between operators: so it looks
at the clock itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fastspan.bundle.variants import Graph
from fastspan.kernels import register, runs_end_within, runs_with_threads
from fastspan.runtime.deadline import check_deadline
from fastspan.runtime.graph_inputs import in_rows, join
from fastspan.runtime.loaded_graph import Prepare, Read, SessionSettings
from fastspan.runtime.providers import import_onnxruntime
from fastspan.runtime.session import Logits, OnnxSession
from fastspan.text.encoder import Window

__all__ = ["Joined", "KernelSession"]


@dataclass(frozen=True, slots=True)
class Joined:
    """Windows end to end.

    Attributes:
        inputs: Names of the graph's inputs.
    """

    inputs: Sequence[str]

    def feeds(self, windows: Sequence[Window]) -> Mapping[str, Any]:
        """See ``graph_inputs.join``."""
        return join(windows, self.inputs)

    def rows(self, windows: Sequence[Window], logits: Logits) -> Logits:
        """Lay the logits out in rows."""
        if len(windows) == 1:
            return logits[None]
        return in_rows(logits, [len(window.input_ids) for window in windows])


@cache
def _quiet() -> Any:
    """Run options; runs that have them at once change nothing of them."""
    run_options = import_onnxruntime().RunOptions()
    # ONNX Runtime would log the run that is given up as an operator's failure.
    run_options.log_severity_level = 4
    return run_options


@contextmanager
def _ended_by_the_operator(deadline: float) -> Iterator[Any]:
    check_deadline(deadline)
    with runs_end_within(deadline - time.monotonic()):
        yield _quiet()


class KernelSession(OnnxSession):
    """A loaded graph of the kernels' operator. Safe for many threads at once, and in a forked child.

    The arguments are those of ``OnnxSession``, and ``path``: one of ``fastspan.kernels.paths()``, for studies
    and tests; empty: the fastest.
    """

    def __init__(
        self,
        folder: Path,
        graph: Graph,
        settings: SessionSettings,
        read: Read | None = None,
        *,
        prepare: Prepare | None = None,
        path: str = "",
    ) -> None:
        def with_kernels(options: Any) -> None:
            """Let the session find the operator."""
            register(options, threads=settings.most_threads, path=path)
            if prepare is not None:
                prepare(options)

        super().__init__(
            folder,
            graph,
            settings,
            read,
            layout=Joined(graph.inputs),
            ending=_ended_by_the_operator,
            prepare=with_kernels,
        )
        # An entry for each run under way.
        self._under_way: list[None] = []

    def _run(self, windows: Sequence[Window], deadline: float | None) -> tuple[Logits, Logits]:
        """Run with few threads beside other runs; alone with all, which nobody else would use."""
        if self.settings.most_threads == self.settings.threads:
            return super()._run(windows, deadline)
        # Two that begin at once may both have all; nothing depends on it but their time.
        most = self.settings.threads if self._under_way else self.settings.alone
        self._under_way.append(None)
        try:
            with runs_with_threads(most):
                return super()._run(windows, deadline)
        finally:
            self._under_way.pop()
