"""An encoder description to an ONNX graph: the skeleton that all targets share.

What differs between targets is how a linear layer is multiplied, how attention is computed and
which normalization and activation operators a runtime does best. Those are the methods that a
target overrides; the order of the computation is here, once.

Rows: unless said otherwise, hidden states are kept flat, (batch × length, hidden), so that every
linear layer is one GEMM with its bias inside.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from fastspan.bundle.variants import Layout
from fastspan.export.graphs.builder import GraphBuilder, WeightFile
from fastspan.export.graphs.model import EncoderModel, Layer, Linear, Norm

__all__ = ["Lowering"]


class Lowering:
    """Lowers one encoder to one graph of standard operators: fp32, padded batches, a mask.

    This base class is itself the interchange target: what it emits loads in any runtime.

    Args:
        encoder: The model.
        weights: Where large tensors go; None puts them inside the graph.
    """

    dtype: type[np.floating] = np.float32
    masked = True
    axes: tuple[str, ...] = ("batch", "length")
    index_type: int = TensorProto.INT64

    def __init__(self, encoder: EncoderModel, weights: WeightFile | None = None) -> None:
        self.encoder = encoder
        self.graph = GraphBuilder(weights)
        self.heads = encoder.heads
        self.head_size = encoder.hidden_size // encoder.heads
        self.float_type = TensorProto.FLOAT16 if self.dtype is np.float16 else TensorProto.FLOAT

    @property
    def layout(self) -> Layout:
        """How windows come into the graph; see ``fastspan.bundle.variants.Graph``."""
        return "padded" if self.masked else "exact"

    def lower(self) -> onnx.ModelProto:
        """Emit the whole graph.

        Inputs ``input_ids``, ``attention_mask`` where masked and ``token_type_ids`` where the model
        takes them, int64 of (batch, length); outputs ``start_logits`` and ``end_logits``, float32 of
        (batch, length).
        """
        graph = self.graph
        self.ids = graph.input("input_ids", self.axes, self.index_type)
        if self.masked:
            self.mask_bias = self.mask(graph.input("attention_mask", self.axes, self.index_type))
        segments = None
        if self.encoder.takes_segment_ids:
            segments = graph.input("token_type_ids", self.axes, self.index_type)
        hidden = self.embed(segments)
        for number, layer in enumerate(self.encoder.layers):
            hidden = self.layer(f"layer.{number}", layer, hidden)
        self.answer_logits(hidden)
        return graph.model(
            "question_answering",
            {"architecture": self.encoder.model_type, "target": type(self).__name__},
        )

    # The parts, in the order of the computation.

    def embed(self, segments: str | None) -> str:
        """Sum the embeddings, normalize, and flatten to rows."""
        graph, encoder = self.graph, self.encoder
        total = graph.add("Add", self.words(), self.positions(), name="embeddings.words_positions")
        if segments is not None and encoder.segments is not None:
            table = graph.constant("embeddings.segments", self.cast(encoder.segments))
            total = graph.add("Add", total, graph.add("Gather", table, segments), name="embeddings.sum")
        elif encoder.segments is not None:
            row = graph.constant("embeddings.segment", self.cast(encoder.segments[0]))
            total = graph.add("Add", total, row, name="embeddings.sum")
        rows = graph.add("Reshape", total, graph.integers(-1, encoder.words.shape[1]), name="embeddings.rows")
        hidden = self.norm("embeddings.norm", encoder.embedding_norm, rows)
        if encoder.projection is not None:
            hidden = self.linear("embeddings.projection", encoder.projection, hidden)
        return hidden

    def words(self) -> str:
        """Token embeddings, (batch, length, width)."""
        table = self.graph.constant("embeddings.words", self.cast(self.encoder.words))
        return self.graph.add("Gather", table, self.ids, name="embeddings.word")

    def positions(self) -> str:
        """Position embeddings: (length, width), or (batch, length, width) where they skip padding."""
        graph, encoder = self.graph, self.encoder
        table = graph.constant("embeddings.positions", self.cast(encoder.positions))
        if encoder.padding_id is None:
            length = graph.add("Shape", self.ids, name="length", start=1, end=2)
            return graph.add(
                "Slice", table, graph.integers(0), length, graph.integers(0), name="embeddings.position"
            )
        # RoBERTa counts tokens other than padding, from padding_id + 1; padding itself keeps padding_id.
        padding = graph.constant("padding_id", np.array(encoder.padding_id, np.int64))
        real = graph.add(
            "Cast", graph.add("Not", graph.add("Equal", self.ids, padding)), to=TensorProto.INT64
        )
        count = graph.add("CumSum", real, graph.constant("length_axis", np.array(1, np.int64)))
        numbers = graph.add("Add", graph.add("Mul", count, real), padding, name="position_ids")
        return graph.add("Gather", table, numbers, name="embeddings.position")

    def layer(self, name: str, layer: Layer, hidden: str) -> str:
        """One transformer layer over rows."""
        context = self.attention(f"{name}.attention", layer, hidden)
        attended = self.linear(f"{name}.attention_output", layer.attention_output, context)
        hidden = self.add_norm(f"{name}.attention_norm", layer.attention_norm, attended, hidden)
        inner = self.activation(
            f"{name}.activation", self.linear(f"{name}.intermediate", layer.intermediate, hidden)
        )
        outer = self.linear(f"{name}.output", layer.output, inner)
        return self.add_norm(f"{name}.output_norm", layer.output_norm, outer, hidden)

    def attention(self, name: str, layer: Layer, hidden: str) -> str:
        """Scaled dot-product attention; rows in, rows out, before the output projection."""
        graph = self.graph
        # The query is scaled rather than the scores: length × hidden multiplications instead of
        # heads × length². Scaling the weights would be free, but they may be shared with other graphs.
        scale = graph.constant("attention_scale", np.array(self.head_size**-0.5, self.dtype))
        query = graph.add("Mul", self.linear(f"{name}.query", layer.query, hidden), scale)
        query = self.split_heads(f"{name}.query_heads", query, (0, 2, 1, 3))
        key = self.split_heads(
            f"{name}.key_heads", self.linear(f"{name}.key", layer.key, hidden), (0, 2, 3, 1)
        )
        value = self.split_heads(
            f"{name}.value_heads", self.linear(f"{name}.value", layer.value, hidden), (0, 2, 1, 3)
        )
        scores = self.softmax(f"{name}.probabilities", graph.add("MatMul", query, key, name=f"{name}.scores"))
        context = graph.add("MatMul", scores, value, name=f"{name}.context")
        context = graph.add("Transpose", context, perm=[0, 2, 1, 3])
        return graph.add(
            "Reshape", context, graph.integers(-1, self.encoder.hidden_size), name=f"{name}.rows"
        )

    def softmax(self, name: str, scores: str) -> str:
        """Probabilities over keys; masked where batches are padded."""
        if self.masked:
            scores = self.graph.add("Add", scores, self.mask_bias, name=f"{name}.masked")
        return self.graph.add("Softmax", scores, axis=-1, name=name)

    def mask(self, mask: str) -> str:
        """(batch, length) of ones and zeros to a bias of (batch, 1, 1, length) on the scores."""
        graph = self.graph
        real = graph.add("Cast", mask, to=TensorProto.FLOAT)
        absent = graph.add("Sub", graph.constant("one", np.array(1, np.float32)), real)
        bias = graph.add("Mul", absent, graph.constant("masked_score", np.array(-1e30, np.float32)))
        return graph.add("Unsqueeze", bias, graph.integers(1, 2), name="mask_bias")

    def answer_logits(self, hidden: str) -> None:
        """The QA head, in fp32, and the two outputs."""
        graph, head = self.graph, self.encoder.head
        if self.dtype is not np.float32:
            hidden = graph.add("Cast", hidden, to=TensorProto.FLOAT)
        weight, bias = graph.constant("head.weight", head.weight), graph.constant("head.bias", head.bias)
        logits = self.gemm("head", hidden, weight, bias)
        for output, column in zip(
            ("start_logits", "end_logits"), graph.add_many("Split", logits, axis=1, outputs=2), strict=True
        ):
            graph.output(
                output,
                graph.add("Reshape", column, self.batch_and_length),
                self.axes,
                TensorProto.FLOAT,
            )

    # What targets override.

    def cast(self, array: npt.NDArray[np.float32]) -> npt.NDArray[np.floating]:
        """A weight in the graph's own precision."""
        return array.astype(self.dtype, copy=False)

    def linear(self, name: str, linear: Linear, rows: str) -> str:
        """``rows @ weight + bias``."""
        weight = self.graph.constant(f"{name}.weight", self.cast(linear.weight))
        bias = self.graph.constant(f"{name}.bias", self.cast(linear.bias))
        return self.gemm(name, rows, weight, bias)

    def gemm(self, name: str, rows: str, weight: str, bias: str) -> str:
        """The product of rows and a weight, plus a bias."""
        return self.graph.add("Gemm", rows, weight, bias, name=name)

    def norm(self, name: str, norm: Norm, rows: str) -> str:
        """Layer normalization, accumulated in fp32 in every precision (the operator's stash type)."""
        return self.graph.add(
            "LayerNormalization",
            rows,
            self.graph.constant(f"{name}.weight", self.cast(norm.weight)),
            self.graph.constant(f"{name}.bias", self.cast(norm.bias)),
            name=name,
            axis=-1,
            epsilon=norm.epsilon,
        )

    def add_norm(self, name: str, norm: Norm, rows: str, residual: str) -> str:
        """The residual sum, normalized."""
        return self.norm(name, norm, self.graph.add("Add", rows, residual, name=f"{name}.sum"))

    def activation(self, name: str, rows: str) -> str:
        """The feed-forward activation, from standard operators."""
        graph = self.graph
        if self.encoder.activation == "relu":
            return graph.add("Relu", rows, name=name)

        def number(label: str, value: float) -> str:
            """A constant of no dimension, of the graph's float type."""
            return graph.constant(label, np.array(value, self.dtype))

        if self.encoder.activation == "gelu":  # x · ½ (1 + erf(x / √2))
            inside = graph.add("Erf", graph.add("Div", rows, number("sqrt_2", 2**0.5)))
        else:  # x · ½ (1 + tanh(√(2/π) (x + 0.044715 x³)))
            cube = graph.add("Mul", rows, graph.add("Mul", rows, rows))
            sum_ = graph.add("Add", rows, graph.add("Mul", cube, number("gelu_cubic", 0.044715)))
            inside = graph.add("Tanh", graph.add("Mul", sum_, number("gelu_scale", (2 / np.pi) ** 0.5)))
        gate = graph.add("Add", inside, number("one_unit", 1.0))
        return graph.add("Mul", graph.add("Mul", rows, gate), number("half", 0.5), name=name)

    def split_heads(self, name: str, rows: str, order: tuple[int, int, int, int]) -> str:
        """Rows to (batch, length, heads, head size), transposed by ``order``."""
        split = self.graph.add("Reshape", rows, self.heads_shape, name=f"{name}.split")
        return self.graph.add("Transpose", split, perm=list(order), name=name)

    # Shapes, computed once for all layers.

    @cached_property
    def batch_and_length(self) -> str:
        """The shape (batch, length)."""
        return self.graph.add("Shape", self.ids, name="batch_and_length")

    @cached_property
    def heads_shape(self) -> str:
        """The shape (batch, length, heads, head size)."""
        sizes = self.graph.integers(self.heads, self.head_size)
        return self.graph.add("Concat", self.batch_and_length, sizes, axis=0, name="heads_shape")

    @cached_property
    def hidden_shape(self) -> str:
        """The shape (batch, length, hidden)."""
        size = self.graph.integers(self.encoder.hidden_size)
        return self.graph.add("Concat", self.batch_and_length, size, axis=0, name="hidden_shape")
