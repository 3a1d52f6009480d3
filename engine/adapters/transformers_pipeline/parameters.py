"""The parameters of a call, which the constructor may set for all calls."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastspan.decoding.pipeline_parameters import PIPELINE_NAMES, pipeline_options
from fastspan.errors import InputError
from fastspan.options import AnswerOptions, shown

__all__ = ["CALL_PARAMETERS", "Parameters", "read_parameters", "settle"]

_PADDINGS = (True, False, "longest", "max_length", "do_not_pad")
# What made the pipeline's batches. Here batches are made inside, and no answer depends on them.
_OF_BATCHES = ("batch_size", "num_workers")

CALL_PARAMETERS = (*PIPELINE_NAMES, "topk", "padding", *_OF_BATCHES, "corrected")
"""What a call takes beside its texts."""

# As the pipeline documented it; with a fast tokenizer it cut no question.
_DOCUMENTED_QUESTION_LENGTH = 64


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of a call.

    Attributes:
        options: What the engine is told.
        corrected: Whether the pipeline's faults are mended.
    """

    options: AnswerOptions
    corrected: bool


def read_parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """Check the parameters of the constructor or of a call. Those that are None were not given.

    Raises:
        InputError: A name is unknown, or a value that the options do not check is unusable.
    """
    for name in given:
        if name not in CALL_PARAMETERS:
            raise InputError(
                f"{name!r} is no parameter of the question-answering pipeline; they are "
                f"{', '.join(CALL_PARAMETERS)}."
            )
    found = {name: value for name, value in given.items() if value is not None}
    top_k = found.pop("topk", None)
    if top_k is not None and "top_k" not in found:
        warnings.warn("topk parameter is deprecated, use top_k instead", UserWarning, stacklevel=3)
        found["top_k"] = top_k
    padding = found.pop("padding", False)
    # A number is refused first, because 1 == True.
    if not isinstance(padding, bool | str) or padding not in _PADDINGS:
        raise InputError(f"padding must be one of {', '.join(map(repr, _PADDINGS))}, not {shown(padding)}.")
    for name, least in zip(_OF_BATCHES, (1, 0), strict=True):
        value = found.pop(name, least)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(f"{name} must be a whole number from {least} on, not {shown(value)}.")
    if not isinstance(found.get("corrected", False), bool):
        raise InputError(f"corrected must be True or False, not {shown(found['corrected'])}.")
    return found


def settle(window: int, given: Mapping[str, Any]) -> Parameters:
    """Return the parameters of a call with every default filled in.

    Args:
        window: The bundle's window in tokens.
        given: What ``read_parameters`` returned.

    Raises:
        InputError: A value is unusable.
    """
    corrected = given.get("corrected", False)
    named = {PIPELINE_NAMES[name]: value for name, value in given.items() if name in PIPELINE_NAMES}
    options = pipeline_options(window, named)
    length = options.max_question_length
    if corrected and length is None:
        length = _DOCUMENTED_QUESTION_LENGTH
    return Parameters(options.override({"max_question_length": length if corrected else None}), corrected)
