"""BERT, RoBERTa, ELECTRA and DistilBERT checkpoints mapped onto one encoder description.

The families are the same post-norm transformer encoder under different parameter names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastspan.errors import CheckpointError
from fastspan.export.checkpoint.soundness import refuse_leftovers
from fastspan.export.graphs.config_values import MEND, epsilon_of, require_text, whole
from fastspan.export.graphs.model import Activation, Array, EncoderModel, Layer, Linear, Norm
from fastspan.options import shown

__all__ = ["describe", "unsupported_reason"]

# transformers' names for what the graphs compute. gelu_fast and gelu_new are the same tanh formula.
_ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}


@dataclass(frozen=True, slots=True)
class _Names:
    """Where a family keeps its parameters; ``{}`` stands for the layer's number."""

    prefix: str
    layer: str
    query: str
    key: str
    value: str
    attention_output: str
    attention_norm: str
    intermediate: str
    output: str
    output_norm: str


_BERT_LAYER = (
    "encoder.layer.{}.",
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "attention.output.LayerNorm",
    "intermediate.dense",
    "output.dense",
    "output.LayerNorm",
)
_DISTILBERT_LAYER = (
    "transformer.layer.{}.",
    "attention.q_lin",
    "attention.k_lin",
    "attention.v_lin",
    "attention.out_lin",
    "sa_layer_norm",
    "ffn.lin1",
    "ffn.lin2",
    "output_layer_norm",
)

_FAMILIES: dict[str, _Names] = {
    "bert": _Names("bert.", *_BERT_LAYER),
    "roberta": _Names("roberta.", *_BERT_LAYER),
    "xlm-roberta": _Names("roberta.", *_BERT_LAYER),
    "camembert": _Names("roberta.", *_BERT_LAYER),
    "electra": _Names("electra.", *_BERT_LAYER),
    "distilbert": _Names("distilbert.", *_DISTILBERT_LAYER),
}
_COUNTS_POSITIONS_BEHIND_PADDING = {"roberta", "xlm-roberta", "camembert"}


def unsupported_reason(config: Mapping[str, Any]) -> str | None:
    """Say why a model of this configuration has no native lowering, or None where it has one.

    Raises:
        CheckpointError: The configuration names its architecture or its activation by something else than
            a text.
    """
    model_type = config.get("model_type")
    if model_type is not None:
        require_text("model_type", model_type)
    if model_type not in _FAMILIES:
        return f"model_type {shown(model_type)} has no native lowering"
    position_type = config.get("position_embedding_type") or "absolute"
    if position_type != "absolute":
        return f"position_embedding_type {shown(position_type)} has no native lowering"
    activation_key = "activation" if model_type == "distilbert" else "hidden_act"
    activation = config.get(activation_key, "gelu")
    require_text(activation_key, activation)
    if activation not in _ACTIVATIONS:
        return f"activation {shown(activation)} has no native lowering"
    if config.get("pruned_heads"):
        return "pruned attention heads have no native lowering"
    return None


class _Reader:
    """Takes parameters by name, and says which one is missing or of the wrong shape."""

    def __init__(self, weights: Mapping[str, npt.NDArray[Any]], prefix: str) -> None:
        self._weights = weights
        self._prefix = prefix
        self._taken: set[str] = set()

    def left(self) -> list[str]:
        """The encoder's parameters that nothing has taken; extractive models have no use for a pooler."""
        return [
            name
            for name in self._weights
            if name.startswith(self._prefix)
            and name not in self._taken
            and not name.startswith(f"{self._prefix}pooler.")
        ]

    def has(self, name: str) -> bool:
        """Whether the checkpoint has a parameter of this name, the prefix added."""
        return self._prefix + name in self._weights

    def array(self, name: str, shape: tuple[int | None, ...], *, prefix: str | None = None) -> Array:
        """Return a parameter as contiguous float32 of this shape, in which None stands for any size."""
        full = (self._prefix if prefix is None else prefix) + name
        try:
            stored = self._weights[full]
            self._taken.add(full)
        except KeyError:
            raise CheckpointError(
                f"The checkpoint has no tensor {shown(full)}; it is not a question-answering model of the "
                "architecture that its config.json names: give a checkpoint of that kind, or copy or "
                "download it again."
            ) from None
        if len(stored.shape) != len(shape) or any(
            wanted is not None and wanted != got for wanted, got in zip(shape, stored.shape, strict=True)
        ):
            wanted_text = "×".join("?" if n is None else str(n) for n in shape)
            got_text = "×".join(map(str, stored.shape))
            raise CheckpointError(
                f"Tensor {shown(full)} is {got_text}, but config.json says {wanted_text}: {MEND}."
            )
        return np.ascontiguousarray(stored, dtype=np.float32)

    def linear(self, name: str, size_in: int, size_out: int, *, prefix: str | None = None) -> Linear:
        """Return a linear layer: weight (in, out), bias (out,)."""
        # PyTorch stores (out, in); transposed once here, it is never transposed again.
        weight = self.array(f"{name}.weight", (size_out, size_in), prefix=prefix)
        return Linear(np.ascontiguousarray(weight.T), self.array(f"{name}.bias", (size_out,), prefix=prefix))

    def norm(self, name: str, size: int, epsilon: float) -> Norm:
        """Return a layer normalization: weight and bias (size,)."""
        return Norm(self.array(f"{name}.weight", (size,)), self.array(f"{name}.bias", (size,)), epsilon)


def describe(config: Mapping[str, Any], weights: Mapping[str, npt.NDArray[Any]]) -> EncoderModel:
    """Map a checkpoint onto an encoder description.

    Args:
        config: The checkpoint's ``config.json``.
        weights: Its parameters under PyTorch's names and layouts, any float type.

    Raises:
        CheckpointError: A parameter is missing, its shape contradicts the configuration, the encoder has
            parameters that the configuration leaves unread, or the configuration has no native lowering (see
            ``unsupported_reason``).
    """
    if (reason := unsupported_reason(config)) is not None:
        raise CheckpointError(
            f"This checkpoint cannot be lowered natively: {reason}; export it through optimum instead."
        )
    model_type = str(config["model_type"])
    names = _FAMILIES[model_type]
    distil = model_type == "distilbert"
    hidden = whole(config, "dim" if distil else "hidden_size")
    inner = whole(config, "hidden_dim" if distil else "intermediate_size")
    heads = whole(config, "n_heads" if distil else "num_attention_heads")
    depth = whole(config, "n_layers" if distil else "num_hidden_layers")
    if hidden % heads:
        raise CheckpointError(
            f"config.json: hidden size {hidden} cannot be split into {heads} heads: {MEND}."
        )
    epsilon = 1e-12 if distil else epsilon_of(config, "layer_norm_eps")
    reader = _Reader(weights, names.prefix)

    width = whole(config, "embedding_size", hidden) if model_type == "electra" else hidden
    rows = {
        key: whole(config, key) if key in config else None
        for key in ("vocab_size", "max_position_embeddings", "type_vocab_size")
    }
    words = reader.array("embeddings.word_embeddings.weight", (rows["vocab_size"], width))
    positions = reader.array(
        "embeddings.position_embeddings.weight", (rows["max_position_embeddings"], width)
    )
    segments = None
    if reader.has("embeddings.token_type_embeddings.weight"):
        segments = reader.array("embeddings.token_type_embeddings.weight", (rows["type_vocab_size"], width))
    padding_id = None
    max_positions = int(positions.shape[0])
    if model_type in _COUNTS_POSITIONS_BEHIND_PADDING:
        padding_id = whole(config, "pad_token_id", 1, least=0)
        max_positions -= padding_id + 1
        if max_positions < 1:
            raise CheckpointError(
                f"config.json: pad_token_id {padding_id} leaves none of the checkpoint's "
                f"{positions.shape[0]} positions, which are counted from behind it: {MEND}."
            )

    padding = config.get("pad_token_id")
    if isinstance(padding, int) and not 0 <= padding < words.shape[0]:
        raise CheckpointError(
            f"config.json: pad_token_id {padding} has no embedding, the model has {words.shape[0]}: {MEND}."
        )

    def layer(number: int) -> Layer:
        """The encoder layer of this number, counted from 0."""
        at = names.layer.format(number)
        return Layer(
            query=reader.linear(at + names.query, hidden, hidden),
            key=reader.linear(at + names.key, hidden, hidden),
            value=reader.linear(at + names.value, hidden, hidden),
            attention_output=reader.linear(at + names.attention_output, hidden, hidden),
            attention_norm=reader.norm(at + names.attention_norm, hidden, epsilon),
            intermediate=reader.linear(at + names.intermediate, hidden, inner),
            output=reader.linear(at + names.output, inner, hidden),
            output_norm=reader.norm(at + names.output_norm, hidden, epsilon),
        )

    described = EncoderModel(
        model_type=model_type,
        words=words,
        positions=positions,
        segments=segments,
        # With one row in the table the ids of a second segment would lie outside.
        takes_segment_ids=segments is not None
        and segments.shape[0] > 1
        and model_type in {"bert", "electra"},
        padding_id=padding_id,
        embedding_norm=reader.norm("embeddings.LayerNorm", width, epsilon),
        projection=reader.linear("embeddings_project", width, hidden) if width != hidden else None,
        layers=tuple(layer(number) for number in range(depth)),
        heads=heads,
        activation=_ACTIVATIONS[config.get("activation" if distil else "hidden_act", "gelu")],
        head=reader.linear("qa_outputs", hidden, 2, prefix=""),
        max_positions=max_positions,
    )
    refuse_leftovers(reader.left(), config)
    return described
