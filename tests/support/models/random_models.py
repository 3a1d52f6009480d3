"""The one maker of random models: any family with a native lowering, of any size, with its PyTorch twin.

Weights come from numpy's ``RandomState``, whose stream never changes: references once computed hold.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np

from support.references.golden import Golden

__all__ = [
    "NATIVE",
    "VOCABULARY",
    "Sizes",
    "bert_config",
    "config_and_weights",
    "random_weights",
    "reference_logits",
    "torch_twin",
]

NATIVE = ("bert", "roberta", "xlm-roberta", "camembert", "electra", "electra-small", "distilbert")
VOCABULARY = 60

State = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What a model's shapes follow from. ``embedding``: width of the embeddings where that is another one."""

    vocabulary: int = VOCABULARY
    hidden: int = 32
    layers: int = 2
    heads: int = 4
    inner: int = 48
    positions: int = 66
    segments: int = 2
    embedding: int | None = None


# --- Configurations -------------------------------------------------------------------------------


def bert_config(sizes: Sizes, **others: Any) -> dict[str, Any]:
    """``config.json`` of a BERT."""
    return {
        "model_type": "bert",
        "architectures": ["BertForQuestionAnswering"],
        "vocab_size": sizes.vocabulary,
        "hidden_size": sizes.hidden,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "intermediate_size": sizes.inner,
        "hidden_act": "gelu",
        "max_position_embeddings": sizes.positions,
        "type_vocab_size": sizes.segments,
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
        **others,
    }


_ROBERTA = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
_KINDS: dict[str, tuple[str, Sizes, dict[str, Any]]] = {
    "bert": ("Bert", Sizes(), {}),
    "roberta": ("Roberta", Sizes(segments=1), _ROBERTA),
    "xlm-roberta": ("XLMRoberta", Sizes(segments=1), _ROBERTA),
    "camembert": ("Camembert", Sizes(segments=1), _ROBERTA),
    "electra": ("Electra", Sizes(embedding=32), {}),
    "electra-small": ("Electra", Sizes(embedding=16), {}),
    "distilbert": ("DistilBert", Sizes(segments=0), {}),
}


def _config(family: str, activation: str) -> dict[str, Any]:
    name, sizes, others = _KINDS[family]
    if family == "distilbert":
        return {
            "model_type": "distilbert",
            "architectures": ["DistilBertForQuestionAnswering"],
            "vocab_size": sizes.vocabulary,
            "dim": sizes.hidden,
            "n_layers": sizes.layers,
            "n_heads": sizes.heads,
            "hidden_dim": sizes.inner,
            "max_position_embeddings": sizes.positions,
            "activation": activation,
            "pad_token_id": 0,
        }
    kind = {"model_type": family.removesuffix("-small"), "architectures": [f"{name}ForQuestionAnswering"]}
    if sizes.embedding is not None:
        others = others | {"embedding_size": sizes.embedding}
    return bert_config(sizes, **kind, **others, hidden_act=activation)


# --- Weights --------------------------------------------------------------------------------------


def _bert_names(layer: int) -> dict[str, str]:
    at = f"encoder.layer.{layer}."
    return {
        **{part: f"{at}attention.self.{part}" for part in ("query", "key", "value")},
        "attention": f"{at}attention.output.dense",
        "attention norm": f"{at}attention.output.LayerNorm",
        "inner": f"{at}intermediate.dense",
        "output": f"{at}output.dense",
        "output norm": f"{at}output.LayerNorm",
    }


def _distilbert_names(layer: int) -> dict[str, str]:
    at = f"transformer.layer.{layer}."
    return {
        **{part: f"{at}attention.{part[0]}_lin" for part in ("query", "key", "value")},
        "attention": f"{at}attention.out_lin",
        "attention norm": f"{at}sa_layer_norm",
        "inner": f"{at}ffn.lin1",
        "output": f"{at}ffn.lin2",
        "output norm": f"{at}output_layer_norm",
    }


def random_weights(
    sizes: Sizes,
    seed: int,
    *,
    prefix: str = "bert.",
    names: Callable[[int], dict[str, str]] = _bert_names,
    deviation: float = 0.3,
    bias: float = 0.1,
) -> State:
    """Weights large enough that answers differ, biases that are not 0 and norms that are not 1.

    A graph that forgot a bias would show; positions weigh twice as much as the rest.
    """
    draw = np.random.RandomState(seed)

    def normal(scale: float, *shape: int) -> np.ndarray:
        return (scale * draw.standard_normal(shape)).astype(np.float32)

    def linear(name: str, inputs: int, outputs: int) -> Iterator[tuple[str, np.ndarray]]:
        yield f"{name}.weight", normal(deviation, outputs, inputs)
        yield f"{name}.bias", normal(bias, outputs)

    def norm(name: str, width: int) -> Iterator[tuple[str, np.ndarray]]:
        yield f"{name}.weight", 1 + normal(bias, width)
        yield f"{name}.bias", normal(bias, width)

    def encoder() -> Iterator[tuple[str, np.ndarray]]:
        hidden, width = sizes.hidden, sizes.embedding or sizes.hidden
        rows = {"word": sizes.vocabulary, "position": sizes.positions, "token_type": sizes.segments}
        for kind, count in rows.items():
            if count:
                scale = 2 * deviation if kind == "position" else deviation
                yield f"embeddings.{kind}_embeddings.weight", normal(scale, count, width)
        yield from norm("embeddings.LayerNorm", width)
        if width != hidden:
            yield from linear("embeddings_project", width, hidden)
        for layer in range(sizes.layers):
            named = names(layer)
            for part in ("query", "key", "value", "attention"):
                yield from linear(named[part], hidden, hidden)
            yield from norm(named["attention norm"], hidden)
            yield from linear(named["inner"], hidden, sizes.inner)
            yield from linear(named["output"], sizes.inner, hidden)
            yield from norm(named["output norm"], hidden)

    weights = {prefix + name: array for name, array in encoder()}
    return weights | dict(linear("qa_outputs", sizes.hidden, 2))


def config_and_weights(family: str, activation: str = "gelu") -> tuple[dict[str, Any], State]:
    """A small random model of a family: its ``config.json`` and its weights."""
    _, sizes, _ = _KINDS[family]
    prefix = {"electra-small": "electra", "xlm-roberta": "roberta", "camembert": "roberta"}.get(
        family, family
    )
    names = _distilbert_names if family == "distilbert" else _bert_names
    weights = random_weights(sizes, 1 + sum(map(ord, family)), prefix=f"{prefix}.", names=names)
    return _config(family, activation), weights


# --- What PyTorch makes of them -------------------------------------------------------------------


@functools.cache
def torch_twin(family: str, activation: str = "gelu") -> Any:
    """The same model in PyTorch, every parameter filled."""
    import torch
    import transformers

    config, weights = config_and_weights(family, activation)
    name, _, _ = _KINDS[family]
    settings = getattr(transformers, f"{name}Config").from_dict(config)
    model = getattr(transformers, f"{name}ForQuestionAnswering")(settings).eval()
    state = {key: torch.from_numpy(array) for key, array in weights.items()}
    lacking, unknown = model.load_state_dict(state, strict=False)
    assert not unknown
    assert not set(lacking) & {key for key, _ in model.named_parameters()}
    return model


def reference_logits(
    golden: Golden,
    family: str,
    ids: np.ndarray,
    *,
    segments: np.ndarray | None = None,
    activation: str = "gelu",
) -> tuple[np.ndarray, np.ndarray]:
    """PyTorch's start and end logits of a small random model, each (batch, length) float32, to 5 decimals."""
    given = json.dumps([ids.tolist(), None if segments is None else segments.tolist()])
    key = f"{family}, {activation}, {'×'.join(map(str, ids.shape))}, {sha256(given.encode()).hexdigest()[:8]}"

    def compute() -> list[Any]:
        import torch

        inputs = {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.ones(ids.shape, dtype=torch.int64),
        }
        if segments is not None:
            inputs["token_type_ids"] = torch.from_numpy(segments)
        with torch.inference_mode():
            output = torch_twin(family, activation)(**inputs)
        logits = np.stack([output.start_logits.numpy(), output.end_logits.numpy()])
        return np.round(logits.astype(np.float64), 5).tolist()

    start, end = np.array(golden.value(key, compute, within=3e-5), dtype=np.float32)
    return start, end
