"""An int8 graph of FastSpan's own operators: windows joined end to end, whatever their lengths.

A scale a row makes a window's logits the same alone and in company, so nothing is padded and nothing has to
run alone. The operator is the whole encoder, and ONNX Runtime ends runs only between operators: so a deadline
that passes in mid-run ends the call when that run is over. ``KERNEL_BATCH_TOKENS`` keeps runs short.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastspan.kernels import register
from fastspan.runtime.graph_inputs import in_rows, join
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
