"""The sizes of a model whose architecture only transformers knows."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from fastspan.bundle.manifest import Model

__all__ = ["traced_model"]

# RoBERTa's relatives number positions from behind the padding id.
_COUNTS_POSITIONS_BEHIND_PADDING = {
    "mpnet",
    "longformer",
    "xlm-roberta-xl",
    "roberta-prelayernorm",
    "data2vec-text",
}


def traced_model(config: Mapping[str, Any], *, segment_ids: bool) -> Model:
    """Describe a model by the common names that transformers gives to every architecture's sizes.

    Args:
        config: ``config.json``.
        segment_ids: Whether its graphs take ``token_type_ids``.
    """
    from transformers import CONFIG_MAPPING

    # from_dict may change what it is given, and fills in what config.json leaves at its default.
    described = CONFIG_MAPPING[str(config.get("model_type"))].from_dict(copy.deepcopy(dict(config)))

    def size(name: str) -> int:
        """A whole number of the configuration; 0 where it is missing or null."""
        return int(getattr(described, name, None) or 0)

    # -1 marks relative positions.
    positions = size("max_position_embeddings") or 512
    if config.get("model_type") in _COUNTS_POSITIONS_BEHIND_PADDING:
        positions -= (1 if described.pad_token_id is None else int(described.pad_token_id)) + 1
    return Model(
        model_type=str(config.get("model_type")),
        route="optimum",
        max_positions=positions if positions > 0 else 512,
        segment_ids=segment_ids,
        hidden_size=size("hidden_size"),
        layers=size("num_hidden_layers"),
        heads=size("num_attention_heads"),
        vocab_size=size("vocab_size"),
    )
