"""Published models of BERT's kin: their geometry, and what a lowering of our own would take."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["KIN", "Family"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A model that is made with random weights.

    Attributes:
        name: The published model whose geometry it has.
        model_type: As transformers has it.
        settings: Where its configuration differs from transformers' default for the type.
        lacks: What a lowering of our own would have to do, which the traced graph does not.
    """

    name: str
    model_type: str
    settings: dict[str, Any] = field(default_factory=dict)
    lacks: str


# The default of the type is the geometry of the second version's extra large model.
_DEBERTA_V3 = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "vocab_size": 128100,
    "type_vocab_size": 0,
    "relative_attention": True,
    "position_buckets": 256,
    "max_relative_positions": -1,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "layer_norm_eps": 1e-7,
}
_ALBERT_BASE = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}

KIN = (
    Family(
        name="mobilebert-uncased",
        model_type="mobilebert",
        lacks="bottlenecks, stacked feed-forward layers and norms without a mean in the description of an "
        "encoder, and in the int8 kernels",
    ),
    Family(
        name="albert-base-v2",
        model_type="albert",
        settings=_ALBERT_BASE,
        lacks="one layer's weights shared by all in the description of an encoder; the kernels could stay",
    ),
    Family(
        name="deberta-v3-base",
        model_type="deberta-v2",
        settings=_DEBERTA_V3,
        lacks="attention with relative positions, in the description and as a part of the int8 kernels",
    ),
    Family(
        name="mpnet-base",
        model_type="mpnet",
        settings={"vocab_size": 30527, "max_position_embeddings": 514},
        lacks="a bias of attention by bucketed distance, added once for all layers",
    ),
    Family(
        name="bert-large-uncased",
        model_type="bert",
        settings={
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "intermediate_size": 4096,
        },
        lacks="nothing: an export takes our own lowering; this row is the traced route's",
    ),
)
"""What is measured. Settings that are not given are the default of transformers' configuration."""
