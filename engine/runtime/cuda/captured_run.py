"""A run captured as a CUDA graph: one copy to the GPU, one launch, one copy back.

Each copy between host and GPU is a call that waits for the GPU, whatever its size. So all inputs lie one
behind the other in one buffer, both outputs in another, and the graph is bound to addresses within them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastspan.runtime.providers import import_onnxruntime
from fastspan.runtime.session import OUTPUTS, Logits

__all__ = ["CapturedRun", "Feeds"]

Feeds = Mapping[str, NDArray[np.int32]]

# Bytes. What CUDA's own allocations are multiples of: a kernel may read a tensor's beginning as a vector.
_ALIGNMENT = 256


class CapturedRun:
    """A run of one size whose kernels the GPU launches by itself, from and to buffers that never move.

    Of one thread: the one that captures it also replays it.

    Args:
        session: An ONNX Runtime session.
        feeds: Inputs of the shapes that all later ones have. All are int32.
        size: Tokens. *Shape* of both outputs: ``(size,)``.
        device: Type and number of the device, as ONNX Runtime has them.
        number: What the captured graph is called by, from 1; unlike any other of the session.
    """

    def __init__(
        self, session: Any, feeds: Feeds, size: int, device: tuple[str, int], *, number: int
    ) -> None:
        ort = import_onnxruntime()
        places, length = _lay_out({name: array.size for name, array in feeds.items()}, np.int32)
        self._host = np.zeros(length, np.int32)
        self._fields = {name: self._host[place].reshape(feeds[name].shape) for name, place in places.items()}
        self._inputs = ort.OrtValue.ortvalue_from_shape_and_type([length], np.int32, *device)
        self._places, length = _lay_out(dict.fromkeys(OUTPUTS, size), np.float32)
        self._outputs = ort.OrtValue.ortvalue_from_shape_and_type([length], np.float32, *device)
        self._session = session
        self._binding = session.io_binding()
        for name, field in self._fields.items():
            address = self._inputs.data_ptr() + places[name].start * field.itemsize
            self._binding.bind_input(name, *device, np.int32, list(field.shape), address)
        for name, place in self._places.items():
            address = self._outputs.data_ptr() + place.start * np.dtype(np.float32).itemsize
            self._binding.bind_output(name, *device, np.float32, [size], address)
        self._options = ort.RunOptions()
        self._options.add_run_config_entry("gpu_graph_id", str(number))
        # Within the first call ONNX Runtime runs the graph until its memory has settled, then captures it.
        self.replay(feeds)

    def replay(self, feeds: Feeds) -> tuple[Logits, Logits]:
        """Run on other inputs.

        Args:
            feeds: Of the same names and shapes.

        Returns:
            Start and end logits. *Shape:* ``(size,)``, float32.
        """
        for name, field in self._fields.items():
            field[...] = feeds[name]
        self._inputs.update_inplace(self._host)
        self._session.run_with_iobinding(self._binding, self._options)
        logits = self._outputs.numpy()
        start, end = (logits[place] for place in self._places.values())
        return start, end


def _lay_out(sizes: Mapping[str, int], kind: type[np.generic]) -> tuple[dict[str, slice], int]:
    """Places of arrays in one flat buffer, each aligned, and the buffer's length; all in elements."""
    step = _ALIGNMENT // np.dtype(kind).itemsize
    places: dict[str, slice] = {}
    length = 0
    for name, size in sizes.items():
        places[name] = slice(length, length + size)
        length += -(-size // step) * step
    return places, length
