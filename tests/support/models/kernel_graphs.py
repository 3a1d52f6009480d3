"""Random models that the int8 kernels can run, and the kernels' operator in float64, from docs/kernels.md."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from onnx import numpy_helper

from fastspan.export.graphs.model import EncoderModel, Layer, Linear, Norm
from fastspan.export.int8.rounding import word_codes

__all__ = ["attributes_of", "random_encoder", "run_operator", "with_its_layers"]


def random_encoder(
    *, hidden=64, inner=128, width=None, segments="given", padding_id=None, activation="gelu", seed=0
):
    """A random encoder of two layers, two heads and 60 tokens; ``segments``: given, one or none."""
    rng = np.random.default_rng(seed)

    def floats(*shape, scale=1.0, around=0.0):
        return (around + scale * rng.standard_normal(shape)).astype(np.float32)

    def linear(size_in, size_out):
        return Linear(floats(size_in, size_out, scale=size_in**-0.5), floats(size_out, scale=0.1))

    def norm(size):
        # A few channels are loud, and off zero: that is what centring and prescaling are for.
        weight, bias = floats(size, scale=0.1, around=1), floats(size, scale=0.1)
        weight[::23] *= 5
        bias[::17] += 3
        return Norm(weight, bias, 1e-6)

    def layer():
        return Layer(
            query=linear(hidden, hidden),
            key=linear(hidden, hidden),
            value=linear(hidden, hidden),
            attention_output=linear(hidden, hidden),
            attention_norm=norm(hidden),
            intermediate=linear(hidden, inner),
            output=linear(inner, hidden),
            output_norm=norm(hidden),
        )

    wide = width or hidden
    return EncoderModel(
        model_type="bert",
        words=floats(60, wide),
        positions=floats(40, wide, scale=0.3),
        segments=None if segments == "none" else floats(2 if segments == "given" else 1, wide, scale=0.3),
        takes_segment_ids=segments == "given",
        padding_id=padding_id,
        embedding_norm=norm(wide),
        projection=None if width is None else linear(width, hidden),
        layers=(layer(), layer()),
        heads=2,
        activation=activation,
        head=Linear(floats(hidden, 2, scale=hidden**-0.5), floats(2)),
        max_positions=32,
    )


def attributes_of(model):
    """The operator's attributes, as Python values."""
    (node,) = model.graph.node
    values = {each.name: each.s.decode() or each.f or each.i for each in node.attribute}
    return {**values, **{each.name: each.i for each in node.attribute if each.type == each.INT}}


def with_its_layers(encoder, layers):
    """The encoder whose weights are what the rounded ``layers`` stand for, in fp32."""

    def meant(name):
        layer = layers[name]
        steps = np.repeat(layer.scale, len(layer.weight) // len(layer.scale), axis=0)
        weight = layer.weight * steps
        if layer.prescale is not None:
            weight = weight * layer.prescale[:, None]
        return Linear(weight.astype(np.float32), layer.bias)

    changed = []
    for number, layer in enumerate(encoder.layers):
        name = f"layer.{number}"
        joined = meant(f"{name}.attention.projection")
        parts = zip(np.split(joined.weight, 3, axis=1), np.split(joined.bias, 3), strict=True)
        query, key, value = (Linear(np.ascontiguousarray(weight), bias) for weight, bias in parts)
        changed.append(
            replace(
                layer,
                query=query,
                key=key,
                value=value,
                attention_output=meant(f"{name}.attention_output"),
                intermediate=meant(f"{name}.intermediate"),
                output=meant(f"{name}.output"),
            )
        )
    projection = encoder.projection and meant("embeddings.projection")
    codes, scales = word_codes(encoder.words)
    return replace(encoder, words=codes * scales, layers=tuple(changed), projection=projection)


def run_operator(model, windows, types, *, rounding=True):
    """Logits of windows, (2, rows) float64, as ``docs/kernels.md`` defines the operator.

    Args:
        model: The graph, its weights inside.
        windows: Token ids of each window.
        types: Segment ids of each window.
        rounding: Whether activations are rounded; without, only weights are.
    """
    settings = attributes_of(model)
    stored = {each.name: numpy_helper.to_array(each).astype(np.float64) for each in model.graph.initializer}
    given = [each.name for each in model.graph.input]
    (node,) = model.graph.node
    assert list(node.input[: len(given)]) == given
    weights = iter([stored[name] for name in node.input[len(given) :]])
    ids, ends = np.concatenate(windows), np.cumsum([len(window) for window in windows])
    rows_of = np.split(np.arange(len(ids)), ends[:-1])
    numbers = np.concatenate([_positions(window, settings["padding_id"]) for window in windows])

    def norm(x):
        weight, bias = next(weights), next(weights)
        apart = x - x.mean(axis=1, keepdims=True)
        spread = np.sqrt((apart**2).mean(axis=1, keepdims=True) + settings["epsilon"])
        return apart / spread * weight + bias

    def linear(x, kind):
        weight, scale, bias = next(weights), next(weights), next(weights)
        if settings["prescaled"] & kind:
            x = x * next(weights)
        total = np.zeros((len(x), weight.shape[1]))
        groups = len(scale)
        for part, rows, step in zip(
            np.split(x, groups, axis=1), np.split(weight, groups), scale, strict=True
        ):
            total += _rounded(part, between=settings["asymmetric"] & kind, rounding=rounding) @ (rows * step)
        return total + bias

    codes, scales = next(weights), next(weights)
    x = codes[ids] * scales[ids] + next(weights)[numbers]
    if settings["segments"]:
        x = x + next(weights)[np.concatenate(types)]
    x = norm(x)
    # The head's rows tell the hidden size.
    if x.shape[1] != stored["head.weight"].shape[0]:
        x = linear(x, 16)
    for _ in range(settings["layers"]):
        query, key, value = np.split(linear(x, 1), 3, axis=1)
        context = np.zeros_like(query)
        for rows in rows_of:
            for head in np.split(np.arange(query.shape[1]), settings["heads"]):
                place = np.ix_(rows, head)
                scores = query[place] @ key[place].T / math.sqrt(len(head))
                shares = np.exp(scores - scores.max(axis=1, keepdims=True))
                context[place] = shares @ value[place] / shares.sum(axis=1, keepdims=True)
        x = norm(x + linear(context, 2))
        x = norm(x + linear(_activation(settings["activation"], linear(x, 4)), 8))
    logits = x @ next(weights) + next(weights)
    assert next(weights, None) is None
    return logits.T


def _positions(window, padding_id):
    if padding_id < 0:
        return np.arange(len(window))
    real = window != padding_id
    return np.cumsum(real) * real + padding_id


def _rounded(x, *, between, rounding):
    if not rounding:
        return x
    low, high = x.min(axis=1, keepdims=True), x.max(axis=1, keepdims=True)
    middle = (low + high) / 2 if between else np.zeros_like(low)
    step = np.abs(x - middle).max(axis=1, keepdims=True) / 127
    step[step == 0] = 1
    return np.rint((x - middle) / step) * step + middle


def _activation(name, x):
    if name == "relu":
        return np.maximum(x, 0)
    if name == "gelu_tanh":
        return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return x / 2 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
