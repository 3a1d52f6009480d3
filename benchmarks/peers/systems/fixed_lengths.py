"""A model's forward pass at few lengths: what is compiled or captured for one shape is used for many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["STEP", "FixedLengths"]

STEP = 64
"""Lengths are rounded up to a multiple of this many tokens."""


class FixedLengths:
    """Pads a batch to the next multiple of ``STEP`` tokens and cuts the logits back.

    Args:
        forward: A question-answering model's forward pass.
    """

    def __init__(self, forward: Callable[..., Any]) -> None:
        self._forward = forward

    def __call__(self, input_ids: Any, attention_mask: Any, token_type_ids: Any = None, **more: Any) -> Any:
        """Take and return what the model does, tensors of (batch, length)."""
        from torch.nn.functional import pad

        length = input_ids.shape[1]
        by = (0, -length % STEP)
        padded = {"input_ids": pad(input_ids, by), "attention_mask": pad(attention_mask, by)}
        if token_type_ids is not None:
            padded["token_type_ids"] = pad(token_type_ids, by)
        output = self._forward(**padded, **more)
        for name in ("start_logits", "end_logits"):
            # A captured graph writes its next output into the same memory.
            output[name] = output[name][:, :length].clone()
        return output
