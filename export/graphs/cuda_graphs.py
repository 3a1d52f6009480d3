"""The fp16 graphs for ONNX Runtime's CUDA provider: fused operators, and no bias that costs a kernel.

On CUDA a ``Gemm`` with a bias is two kernels, one of which only fills the output with the bias. So biases
go where they are free: into ``SkipLayerNormalization`` and ``BiasGelu``. Attention takes none at all, for
with one its operator first copies query, key and value:

- A bias of the keys shifts all scores of a query by the same amount, which the softmax takes out again.
- Probabilities add up to 1, so a bias b of the values comes out of attention as it went in. Behind the output
  projection W it is b·W: a constant, added to that projection's own bias.
- The bias of the queries stays.

Query, key and value are three products, not one. Joined they would be one kernel instead of three, but the
flash kernels read them apart, and ONNX Runtime sends a joined tensor there from 513 tokens on only. Apart,
they are also the very tensors of the standard fp16 graph, so all three graphs read one file.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from onnx import TensorProto

from fastspan.bundle.variants import Layout
from fastspan.export.graphs.builder import MICROSOFT
from fastspan.export.graphs.encoder_graph import Lowering
from fastspan.export.graphs.model import Layer, Linear, Norm

__all__ = ["CudaLowering", "PackedCudaLowering"]


class CudaLowering(Lowering):
    """fp16 for windows of equal length: no padding, no mask, (batch, length) in and out.

    Softmax and normalization accumulate in fp32 inside their operators; the QA head is fp32.
    """

    masked = False
    dtype: type[np.floating] = np.float16

    def layer(self, name: str, layer: Layer, hidden: str) -> str:
        """One transformer layer over rows, each bias inside the operator that follows its product."""
        context = self.attention(f"{name}.attention", layer, hidden)
        attended = self.product(f"{name}.attention_output", layer.attention_output, context)
        bias = layer.attention_output.bias + layer.value.bias @ layer.attention_output.weight
        hidden = self.biased_add_norm(
            f"{name}.attention_norm",
            layer.attention_norm,
            attended,
            hidden,
            self.graph.constant(f"{name}.attention_output.bias_with_value", self.cast(bias)),
        )
        outer = self.product(f"{name}.output", layer.output, self.inner(name, layer, hidden))
        bias_of_output = self.graph.constant(f"{name}.output.bias", self.cast(layer.output.bias))
        return self.biased_add_norm(f"{name}.output_norm", layer.output_norm, outer, hidden, bias_of_output)

    def inner(self, name: str, layer: Layer, hidden: str) -> str:
        """The feed-forward layer's first half: product, bias and activation."""
        fused = {"gelu": "BiasGelu", "gelu_tanh": "FastGelu"}.get(self.encoder.activation)
        if fused is None:
            rows = self.linear(f"{name}.intermediate", layer.intermediate, hidden)
            return self.activation(f"{name}.activation", rows)
        return self.graph.add(
            fused,
            self.product(f"{name}.intermediate", layer.intermediate, hidden),
            self.graph.constant(f"{name}.intermediate.bias", self.cast(layer.intermediate.bias)),
            domain=MICROSOFT,
            name=f"{name}.activation",
        )

    def attention(self, name: str, layer: Layer, hidden: str) -> str:
        """Fused attention over (batch, length, hidden), in rows and out of rows."""
        query, key, value = (
            self.graph.add("Reshape", rows, self.hidden_shape)
            for rows in self.projections(name, layer, hidden)
        )
        context = self.graph.add(
            "MultiHeadAttention", query, key, value, domain=MICROSOFT, name=name, num_heads=self.heads
        )
        shape = self.graph.integers(-1, self.encoder.hidden_size)
        return self.graph.add("Reshape", context, shape, name=f"{name}.rows")

    def projections(self, name: str, layer: Layer, hidden: str) -> tuple[str, str, str]:
        """Query rows with their bias, key and value rows without."""
        return (
            self.linear(f"{name}.query", layer.query, hidden),
            self.product(f"{name}.key", layer.key, hidden),
            self.product(f"{name}.value", layer.value, hidden),
        )

    def product(self, name: str, linear: Linear, rows: str) -> str:
        """``rows @ weight``, the bias left to what follows."""
        weight = self.graph.constant(f"{name}.weight", self.cast(linear.weight))
        return self.graph.add("MatMul", rows, weight, name=name)

    def biased_add_norm(self, name: str, norm: Norm, rows: str, residual: str, bias: str) -> str:
        """``rows + bias + residual``, normalized, in one operator."""
        return self.graph.add(
            "SkipLayerNormalization",
            rows,
            residual,
            self.graph.constant(f"{name}.weight", self.cast(norm.weight)),
            self.graph.constant(f"{name}.bias", self.cast(norm.bias)),
            bias,
            domain=MICROSOFT,
            name=name,
            epsilon=norm.epsilon,
        )


class PackedCudaLowering(CudaLowering):
    """The same for windows of any lengths, joined end to end: (tokens,) in and out, int32.

    Inputs beside ``input_ids`` and ``token_type_ids``, prepared by ``fastspan.runtime.graph_inputs``:

    - ``position_ids`` (tokens,): each token's number in its window, from 0.
    - ``token_offset`` (windows, longest): where the tokens would lie if the windows were padded to the
      longest, all real tokens first.
    - ``cumulative_sequence_length`` (windows + 1,): where each window begins, and the end of the last.

    The graph computes no shape on the host, so the provider can capture it as a CUDA graph. And it has no
    ``Gemm``: up to ONNX Runtime 1.30 that fills its output with the bias by way of a vector of ones, which a
    run of more rows than any before frees and makes anew. A captured run would go on reading the old one.
    """

    axes: tuple[str, ...] = ("tokens",)
    index_type: int = TensorProto.INT32

    @property
    def layout(self) -> Layout:
        """Joined end to end."""
        return "packed"

    def gemm(self, name: str, rows: str, weight: str, bias: str) -> str:
        """The product, then the sum. Of a ``MatMul`` and an ``Add`` ONNX Runtime would make a ``Gemm``."""
        product = self.graph.add("FusedMatMul", rows, weight, domain=MICROSOFT, name=f"{name}.product")
        return self.graph.add("Add", product, bias, name=name)

    def positions(self) -> str:
        """Position embeddings, (tokens, width)."""
        graph, encoder = self.graph, self.encoder
        numbers = graph.input("position_ids", self.axes, self.index_type)
        if encoder.padding_id is not None:
            numbers = self._numbers_behind_padding(numbers, encoder.padding_id)
        table = graph.constant("embeddings.positions", self.cast(encoder.positions))
        return graph.add("Gather", table, numbers, name="embeddings.position")

    def attention(self, name: str, layer: Layer, hidden: str) -> str:
        """Fused attention within each window of the packed rows."""
        query, key, value = self.projections(name, layer, hidden)
        return self.graph.add(
            "PackedMultiHeadAttention",
            query,
            key,
            value,
            "",
            self.token_offset,
            self.cumulative_length,
            domain=MICROSOFT,
            name=name,
            num_heads=self.heads,
        )

    @cached_property
    def token_offset(self) -> str:
        """Where each token would lie in a padded batch."""
        return self.graph.input("token_offset", ("windows", "longest"), TensorProto.INT32)

    @cached_property
    def cumulative_length(self) -> str:
        """Where each window begins among the tokens."""
        return self.graph.input("cumulative_sequence_length", ("windows_and_1",), TensorProto.INT32)

    @cached_property
    def batch_and_length(self) -> str:
        """The shape (tokens,)."""
        return self.graph.integers(-1)

    def _numbers_behind_padding(self, positions: str, padding_id: int) -> str:
        """RoBERTa's numbers: tokens but padding are counted from ``padding_id + 1``, padding keeps its id.

        A window's count is the count over all packed tokens less what it was before the window.
        """
        graph = self.graph

        def number(name: str, value: int) -> str:
            """A constant of no dimension, int32."""
            return graph.constant(name, np.array(value, np.int32))

        axis = graph.constant("token_axis", np.array(0, np.int64))
        padding = number("padding_id", padding_id)
        is_padding = graph.add("Equal", self.ids, padding)
        real = graph.add("Cast", graph.add("Not", is_padding), to=TensorProto.INT32)
        count = graph.add("CumSum", real, axis)
        before = graph.add("Sub", count, real)
        # 0, 1, 2 … over all tokens, less the number in the window: where the window begins.
        ones = graph.add("Cast", graph.add("Equal", self.ids, self.ids), to=TensorProto.INT32)
        places = graph.add("Sub", graph.add("CumSum", ones, axis), number("one_token", 1))
        begins = graph.add("Sub", places, positions)
        in_window = graph.add("Sub", count, graph.add("Gather", before, begins))
        return graph.add("Add", graph.add("Mul", in_window, real), padding, name="position_numbers")
