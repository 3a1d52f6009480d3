"""An int8 graph of FastSpan's own operators: windows joined end to end, whatever their lengths.

A scale a row makes a window's logits the same alone and in company, so nothing is padded and nothing has to
run alone. The operator is the whole encoder, and ONNX Runtime ends runs only between operators: so it looks
at the clock itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from fastspan.kernels import register, runs_end_within
from fastspan.runtime.deadline import check_deadline
from fastspan.runtime.graph_inputs import in_rows, join
from fastspan.runtime.providers import import_onnxruntime
from fastspan.runtime.session import Logits, OnnxSession
from fastspan.text.encoder import Window

__all__ = ["KernelSession"]


class KernelSession(OnnxSession):
    """A loaded graph of the kernels' operator. Safe for many threads at once, and in a forked child."""

    def _prepare(self, options: Any) -> None:
        register(options, threads=self.settings.threads)

    def _feeds(self, windows: Sequence[Window]) -> Mapping[str, Any]:
        return join(windows, self.graph.inputs)

    def _rows(self, windows: Sequence[Window], logits: Logits) -> Logits:
        if len(windows) == 1:
            return logits[None]
        return in_rows(logits, [len(window.input_ids) for window in windows])

    @contextmanager
    def _ended_at(self, deadline: float) -> Iterator[Any]:
        check_deadline(deadline)
        run_options = import_onnxruntime().RunOptions()
        # ONNX Runtime would log the run that is given up as an operator's failure.
        run_options.log_severity_level = 4
        with runs_end_within(deadline - time.monotonic()):
            yield run_options
