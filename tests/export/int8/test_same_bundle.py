"""How many threads an export computes with never shows in what it writes."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np

from fastspan.export.int8.kernel_graph import kernel_graph
from fastspan.export.int8.kernel_layers import quantize_for_kernels
from fastspan.export.int8.observation import observe_inputs
from fastspan.export.int8.recipe import Int8Recipe
from fastspan.text.encoder import Window
from support.models.kernel_graphs import random_encoder

# Wide enough for products to be shared out among threads, in ONNX Runtime and in numpy.
_SCRIPT = """
import hashlib, sys
import test_same_bundle
print(hashlib.sha256(test_same_bundle.graphs(int(sys.argv[1]))).hexdigest())
"""


def graphs(threads: int) -> bytes:
    """Both int8 graphs' weights, as bytes."""
    encoder = random_encoder(hidden=256, inner=512)
    rng = np.random.default_rng(0)
    windows = []
    for length in (32, 21, 32, 17, 30):
        ids = rng.integers(3, 60, length)
        windows.append(Window(ids, ids % 2, 1, length - 2, 0))
    seen = observe_inputs(encoder, windows, threads)
    _, plain = Int8Recipe().quantize(encoder, seen)
    kernels = kernel_graph(*quantize_for_kernels(encoder, seen)).SerializeToString()
    return b"".join([kernels, *(layer.weight.tobytes() + layer.scale.tobytes() for layer in plain.values())])


def test_threads_do_not_show_in_the_weights():
    found = [
        subprocess.run(
            [sys.executable, "-c", _SCRIPT, threads],
            env={
                **os.environ,
                "OPENBLAS_NUM_THREADS": threads,
                "OMP_NUM_THREADS": threads,
                # Waiting threads sleep at once: they may be more than the cores.
                "OPENBLAS_THREAD_TIMEOUT": "4",
                "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path]),
            },
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in ("1", "2", "3")
    ]
    assert len(set(found)) == 1
