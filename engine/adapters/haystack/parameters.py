"""The reader's parameters: checked, and in the words of FastSpan's options."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from haystack.utils import ComponentDevice, Secret

from fastspan.adapters.devices import load_options_for
from fastspan.errors import InputError
from fastspan.options import LoadOptions, is_number, shown

__all__ = ["check", "check_for_good", "in_the_readers_names", "load_options", "require_known"]

_NAMES = {"max_length": "max_seq_length", "overlap": "stride"}


def check(parameters: Mapping[str, Any]) -> None:
    """Refuse what no run can use.

    Raises:
        InputError: A parameter that each run may change is unusable; the message names it.
    """
    for name, least in (("top_k", 1), ("max_seq_length", 1), ("stride", 0)):
        _check_whole(name, parameters[name], least)
    for name in ("max_batch_size", "answers_per_seq"):
        if parameters[name] is not None:
            _check_whole(name, parameters[name], 1)
    for name in ("score_threshold", "overlap_threshold"):
        if parameters[name] is not None and not is_number(parameters[name]):
            raise InputError(f"{name} must be a number or None, not {shown(parameters[name])}.")
    if not isinstance(parameters["no_answer"], bool):
        raise InputError(f"no_answer must be True or False, not {shown(parameters['no_answer'])}.")


def check_for_good(calibration_factor: float, segment_ids: bool) -> None:
    """Refuse what a reader cannot be made with.

    Raises:
        InputError: One of the two is unusable; the message names it.
    """
    if not is_number(calibration_factor) or not math.isfinite(calibration_factor):
        raise InputError(f"calibration_factor must be a number, not {shown(calibration_factor)}.")
    if not isinstance(segment_ids, bool):
        raise InputError(f"segment_ids must be True or False, not {shown(segment_ids)}.")


def load_options(device: ComponentDevice | None, fields: Mapping[str, Any]) -> LoadOptions:
    """Say how to load: where ``device`` is, and as ``model_kwargs`` has it.

    Raises:
        InputError: The device is several, or a field is unusable.
    """
    if device is None:
        return LoadOptions(variant="fp32").override(fields)
    try:
        name = device.to_torch_str()
    except ValueError as error:
        raise InputError("device must be a single device: a bundle runs on one as a whole.") from error
    return LoadOptions(variant="fp32").override({**load_options_for(name), **fields})


def require_known(token: Secret | None) -> None:
    """Refuse a token that huggingface_hub does not find by itself.

    Raises:
        InputError: It is such a one.
    """
    value = None if token is None else token.resolve_value()
    if value is None:
        return
    from huggingface_hub import get_token

    if value != get_token():
        raise InputError(
            "token must be the one in the environment's HF_TOKEN, where huggingface_hub reads it."
        )


def in_the_readers_names(message: str) -> str:
    """Return a message of FastSpan's about options with the names that the reader has for them."""
    for ours, theirs in _NAMES.items():
        message = re.sub(rf"(?<!that )\b{ours}\b", theirs, message)
    return re.sub(r"\bquestions\[\d+\]", "query", message)


def _check_whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} must be a whole number from {least} on, not {shown(value)}.")
