"""A question-answering encoder as the graphs see it, whatever family its checkpoint is of.

Every matrix is laid out as a graph multiplies it: ``hidden @ weight + bias``, so ``weight`` is (in, out).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = ["Activation", "Array", "EncoderModel", "Layer", "Linear", "Norm"]

Array = npt.NDArray[np.float32]
Activation = Literal["gelu", "gelu_tanh", "relu"]


@dataclass(frozen=True, slots=True)
class Linear:
    """``x @ weight + bias``; weight (in, out), bias (out,), float32."""

    weight: Array
    bias: Array


@dataclass(frozen=True, slots=True)
class Norm:
    """Layer normalization over the last axis; weight and bias (size,), float32."""

    weight: Array
    bias: Array
    epsilon: float


@dataclass(frozen=True, slots=True)
class Layer:
    """One post-norm transformer layer."""

    query: Linear
    key: Linear
    value: Linear
    attention_output: Linear
    attention_norm: Norm
    intermediate: Linear
    output: Linear
    output_norm: Norm


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderModel:
    """A question-answering encoder, independent of the family it came from.

    Attributes:
        model_type: The checkpoint's ``model_type``.
        words: Token embeddings, (vocabulary, width).
        positions: Position embeddings, (positions, width).
        segments: Segment embeddings, (types, width), or None where the model has none.
        takes_segment_ids: Whether callers pass segment ids (RoBERTa has one row and passes none).
        padding_id: For RoBERTa's numbering, where positions count tokens other than this id and
            start behind it; None where position n is simply the n-th token.
        embedding_norm: Normalizes the sum of the embeddings.
        projection: Embedding width to hidden size (small ELECTRA models), or None.
        layers: The transformer layers.
        heads: Attention heads in each layer.
        activation: The feed-forward activation.
        head: Hidden size to (start logit, end logit).
        max_positions: Longest window, in tokens.
    """

    model_type: str
    words: Array
    positions: Array
    segments: Array | None
    takes_segment_ids: bool
    padding_id: int | None
    embedding_norm: Norm
    projection: Linear | None
    layers: tuple[Layer, ...]
    heads: int
    activation: Activation
    head: Linear
    max_positions: int

    @property
    def hidden_size(self) -> int:
        """Width of the residual stream."""
        return int(self.head.weight.shape[0])
