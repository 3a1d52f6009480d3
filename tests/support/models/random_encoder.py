"""Encoders of random weights: as tensors of the kernels' operator, as its graph, and computed by numpy."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

RUN_INPUTS = ("input_ids", "cumulative_sequence_length", "token_type_ids")


@dataclass
class RandomEncoder:
    """Sizes, and the weights drawn for them in the operator's order."""

    hidden: int = 64
    heads: int = 2
    inner: int = 128
    layers: int = 2
    width: int | None = None
    vocabulary: int = 50
    positions: int = 512
    segments: bool = True
    word_codes: bool = False
    padding_id: int = -1
    activation: str = "gelu"
    asymmetric: int = 0
    prescaled: int = 0
    group: int | None = None
    inner_group: int | None = None
    epsilon: float = 1e-12
    seed: int = 0
    tensors: dict[str, NDArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        draw = np.random.default_rng(self.seed)
        width = self.width or self.hidden
        hidden, inner, tensors = self.hidden, self.inner, self.tensors

        def floats(name: str, *shape: int, scale: float = 1.0, around: float = 0.0) -> None:
            tensors[name] = (draw.standard_normal(shape, np.float32) * scale + around).astype(np.float32)

        def norm(name: str, size: int) -> None:
            floats(f"{name}.weight", size, scale=0.1, around=1)
            floats(f"{name}.bias", size, scale=0.1)

        def linear(name: str, size_in: int, size_out: int, group: int | None, kind: int) -> None:
            groups = 1 if group is None else size_in // group
            tensors[f"{name}.weight"] = draw.integers(-127, 128, (size_in, size_out), np.int8)
            scale = draw.uniform(0.5, 1.5, (groups, size_out)) / (70 * math.sqrt(size_in))
            tensors[f"{name}.scale"] = scale.astype(np.float32)
            floats(f"{name}.bias", size_out, scale=0.1)
            if self.prescaled & kind:
                tensors[f"{name}.prescale"] = draw.uniform(0.5, 2, size_in).astype(np.float32)

        if self.word_codes:
            tensors["words"] = draw.integers(-127, 128, (self.vocabulary, width), np.int8)
            tensors["words.scale"] = draw.uniform(0.005, 0.01, (self.vocabulary, 1)).astype(np.float32)
        else:
            floats("words", self.vocabulary, width)
        floats("positions", self.positions, width)
        if self.segments:
            floats("segments", 2, width)
        norm("embedding_norm", width)
        if width != hidden:
            linear("projection", width, hidden, 64, 16)
        for i in range(self.layers):
            linear(f"{i}.qkv", hidden, 3 * hidden, self.group, 1)
            linear(f"{i}.attention_output", hidden, hidden, self.group, 2)
            norm(f"{i}.attention_norm", hidden)
            linear(f"{i}.intermediate", hidden, inner, self.group, 4)
            linear(f"{i}.output", inner, hidden, self.inner_group, 8)
            norm(f"{i}.output_norm", hidden)
        floats("head.weight", hidden, 2, scale=hidden**-0.5)
        floats("head.bias", 2)

    @property
    def run_inputs(self) -> tuple[str, ...]:
        """The graph's inputs."""
        return RUN_INPUTS if self.segments else RUN_INPUTS[:2]

    def graph(self, path: Path | None = None) -> bytes:
        """A graph of one operator; its weights go beside ``path`` where one is given."""
        node = helper.make_node(
            "Int8Encoder",
            [*self.run_inputs, *self.tensors],
            ["start_logits", "end_logits"],
            domain="fastspan",
            heads=self.heads,
            layers=self.layers,
            epsilon=self.epsilon,
            padding_id=self.padding_id,
            segments=int(self.segments),
            activation=self.activation,
            asymmetric=self.asymmetric,
            prescaled=self.prescaled,
        )
        graph = helper.make_graph(
            [node],
            "encoder",
            [
                helper.make_tensor_value_info(
                    name, TensorProto.INT32, ["windows_and_1" if name == RUN_INPUTS[1] else "rows"]
                )
                for name in self.run_inputs
            ],
            [
                helper.make_tensor_value_info(f"{side}_logits", TensorProto.FLOAT, ["rows"])
                for side in ("start", "end")
            ],
            [numpy_helper.from_array(value, name) for name, value in self.tensors.items()],
        )
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid("fastspan", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        if path is not None:
            onnx.save(
                model, path, save_as_external_data=True, location=path.name + ".data", size_threshold=1024
            )
        return model.SerializeToString() if path is None else b""

    def feeds(self, lengths: list[int], seed: int = 1) -> dict[str, NDArray[np.int32]]:
        """Random windows of these lengths."""
        draw = np.random.default_rng(seed)
        rows = sum(lengths)
        feeds = {
            "input_ids": draw.integers(0, self.vocabulary, rows, np.int32),
            "cumulative_sequence_length": np.cumsum([0, *lengths]).astype(np.int32),
            "token_type_ids": draw.integers(0, 2, rows, np.int32),
        }
        return {name: feeds[name] for name in self.run_inputs}

    def reference(self, feeds: dict[str, NDArray[np.int32]]) -> NDArray[np.float64]:
        """(2, rows) logits in float64, from docs/kernels.md alone."""
        w = {name: value.astype(np.float64) for name, value in self.tensors.items()}
        ends = feeds["cumulative_sequence_length"]
        windows = [np.arange(a, b) for a, b in itertools.pairwise(ends) if b > a]
        ids = feeds["input_ids"]
        numbers = np.zeros(len(ids), np.int64)
        for rows in windows:
            if self.padding_id < 0:
                numbers[rows] = np.arange(len(rows))
            else:
                real = ids[rows] != self.padding_id
                numbers[rows] = np.cumsum(real) * real + self.padding_id
        x = w["words"][ids] * (w["words.scale"][ids] if self.word_codes else 1) + w["positions"][numbers]
        if self.segments:
            x = x + w["segments"][feeds["token_type_ids"]]
        x = self._norm(x, w, "embedding_norm")
        if "projection.weight" in w:
            x = self._linear(x, w, "projection", 16)
        for i in range(self.layers):
            query, key, value = np.split(self._linear(x, w, f"{i}.qkv", 1), 3, axis=1)
            context = np.zeros_like(x)
            for rows in windows:
                for head in np.split(np.arange(self.hidden), self.heads):
                    part = np.ix_(rows, head)
                    context[part] = _attention(query[part], key[part], value[part])
            x = self._norm(x + self._linear(context, w, f"{i}.attention_output", 2), w, f"{i}.attention_norm")
            inner = self._act(self._linear(x, w, f"{i}.intermediate", 4))
            x = self._norm(x + self._linear(inner, w, f"{i}.output", 8), w, f"{i}.output_norm")
        return (x @ w["head.weight"] + w["head.bias"]).T

    def _norm(self, x: NDArray, w: dict[str, NDArray], name: str) -> NDArray:
        d = x - x.mean(1, keepdims=True)
        unit = d / np.sqrt((d**2).mean(1, keepdims=True) + self.epsilon)
        return unit * w[f"{name}.weight"] + w[f"{name}.bias"]

    def _linear(self, x: NDArray, w: dict[str, NDArray], name: str, kind: int) -> NDArray:
        weight, scale = w[f"{name}.weight"], w[f"{name}.scale"]
        if self.prescaled & kind:
            x = x * w[f"{name}.prescale"]
        parts = np.split(x, len(scale), axis=1)
        y = np.zeros((len(x), weight.shape[1]))
        for part, rows, by in zip(parts, np.split(weight, len(scale)), scale, strict=True):
            low, high = part.min(1, keepdims=True), part.max(1, keepdims=True)
            centre = (low + high) / 2 if self.asymmetric & kind else np.zeros_like(low)
            code, step = _round(part - centre, 127)
            y += (code @ rows) * step * by + centre * (rows.sum(0) * by)
        return y + w[f"{name}.bias"]

    def _act(self, x: NDArray) -> NDArray:
        if self.activation == "relu":
            return np.maximum(x, 0)
        if self.activation == "gelu_tanh":
            return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        return x / 2 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def _round(x: NDArray, most: int, axis: int = 1) -> tuple[NDArray, NDArray]:
    largest = np.abs(x).max(axis, keepdims=True)
    step = np.where(largest < 1e-30, 0, largest / most)
    return np.rint(x / np.where(step == 0, 1, step)), step


def _attention(query: NDArray, key: NDArray, value: NDArray) -> NDArray:
    q, q_step = _round(query, 127)
    k, k_step = _round(key - key.mean(0), 127)
    v, v_step = _round(value, 511, axis=0)
    scores = (q @ k.T) * k_step.T * q_step / math.sqrt(query.shape[1])
    p = np.rint(4095 * np.exp(scores - scores.max(1, keepdims=True)))
    return (p @ v) * v_step / p.sum(1, keepdims=True)
