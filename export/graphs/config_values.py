"""Values of a checkpoint's ``config.json``, which may be anything that JSON can say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastspan.errors import CheckpointError
from fastspan.options import shown

__all__ = ["MEND", "epsilon_of", "require_text", "whole"]

MEND = "mend config.json, or copy or download the checkpoint again"
"""What to do about a configuration that makes no sense, for the end of a message."""


def require_text(key: str, value: object) -> None:
    """Refuse a value that is not a text. A list or an object could not even be looked up in a table.

    Raises:
        CheckpointError: It is none; the message names ``key``.
    """
    if not isinstance(value, str):
        raise CheckpointError(f"config.json: {key} must be a text, not {shown(value)}: {MEND}.")


def whole(config: Mapping[str, Any], key: str, default: int | None = None, *, least: int = 1) -> int:
    """Take a whole number from the configuration, written ``3`` or ``3.0``.

    Args:
        config: The configuration.
        key: Its key.
        default: What holds where the key is missing; None: it may not be missing.
        least: The smallest value that makes sense.

    Raises:
        CheckpointError: The key is missing, or its value is not a whole number of at least ``least``.
    """
    if key not in config and default is None:
        raise CheckpointError(f"config.json lacks {key}: {MEND}.")
    value = config.get(key, default)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise CheckpointError(
            f"config.json: {key} must be a whole number of at least {least}, not {shown(value)}: {MEND}."
        )
    return value


def epsilon_of(config: Mapping[str, Any], key: str) -> float:
    """Take what a layer normalization adds to the variance; 1e-12, BERT's, where the key is missing.

    Raises:
        CheckpointError: The value is not a number from 0 to below 1.
    """
    value = config.get(key, 1e-12)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < 1:
        raise CheckpointError(
            f"config.json: {key} must be a small number such as 1e-12, not {shown(value)}: {MEND}."
        )
    return float(value)
