"""Small random models of every family with a native lowering, and their PyTorch twins."""

from __future__ import annotations

import functools
import json

import numpy as np
import pytest

NATIVE = ("bert", "roberta", "xlm-roberta", "camembert", "electra", "electra-small", "distilbert")
VOCABULARY = 60

_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 66,
    "type_vocab_size": 2,
}
_ROBERTA_SIZES = _SIZES | {"type_vocab_size": 1, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}


@functools.cache
def torch_model(family, activation="gelu"):
    """A random question-answering model in PyTorch, weights large enough that answers differ."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    kinds = {
        "bert": ("Bert", _SIZES),
        "roberta": ("Roberta", _ROBERTA_SIZES),
        "xlm-roberta": ("XLMRoberta", _ROBERTA_SIZES),
        "camembert": ("Camembert", _ROBERTA_SIZES),
        "electra": ("Electra", _SIZES | {"embedding_size": 32}),
        "electra-small": ("Electra", _SIZES | {"embedding_size": 16}),
        "distilbert": (
            "DistilBert",
            {
                "vocab_size": VOCABULARY,
                "dim": 32,
                "n_layers": 2,
                "n_heads": 4,
                "hidden_dim": 48,
                "max_position_embeddings": 66,
            },
        ),
    }
    name, sizes = kinds[family]
    act = {"activation": activation} if family == "distilbert" else {"hidden_act": activation}
    torch.manual_seed(sum(map(ord, family)))
    config = getattr(transformers, f"{name}Config")(**sizes, **act, initializer_range=0.3)
    model = getattr(transformers, f"{name}ForQuestionAnswering")(config).eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            # Zero biases and unit norms would hide a bias that the graph forgets.
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            elif "position" in parameter_name:
                parameter.mul_(2)
    return model


def config_and_weights(family, activation="gelu"):
    """The same model as ``config.json`` and arrays."""
    model = torch_model(family, activation)
    config = json.loads(model.config.to_json_string(use_diff=False))
    return config, {name: array.detach().numpy().copy() for name, array in model.named_parameters()}


def torch_logits(model, ids, *, segments=None, mask=None):
    """Start and end logits in PyTorch, float32."""
    import torch

    inputs = {"input_ids": torch.from_numpy(ids)}
    inputs["attention_mask"] = torch.from_numpy(np.ones_like(ids) if mask is None else mask)
    if segments is not None:
        inputs["token_type_ids"] = torch.from_numpy(segments)
    with torch.inference_mode():
        output = model(**inputs)
    return output.start_logits.numpy(), output.end_logits.numpy()
