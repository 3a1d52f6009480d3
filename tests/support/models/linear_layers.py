"""A linear layer with inputs that a few loud channels stand out of."""

from __future__ import annotations

import numpy as np

from fastspan.export.graphs.model import Linear

__all__ = ["linear_and_inputs", "product"]


def linear_and_inputs(size_in, size_out, rows=400, seed=0):
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((size_in, size_in)).astype(np.float32) / size_in**0.5
    inputs = (rng.standard_normal((rows, size_in)).astype(np.float32) @ mixing).astype(np.float32)
    weight = rng.standard_normal((size_in, size_out)).astype(np.float32)
    return Linear(weight, rng.standard_normal(size_out).astype(np.float32)), inputs


def product(quantized, inputs):
    shared = inputs[:, quantized.order] / quantized.copies
    extended = np.concatenate([shared, shared[:, quantized.extra]], axis=1)
    return extended @ (quantized.weight * quantized.scale) + quantized.bias
