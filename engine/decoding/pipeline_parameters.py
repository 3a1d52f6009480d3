"""The parameters of transformers 4.57's question-answering pipeline, and the options they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fastspan.options import AnswerOptions

__all__ = ["PIPELINE_NAMES", "in_pipeline_names", "pipeline_options"]

PIPELINE_NAMES = {
    "top_k": "top_k",
    "doc_stride": "overlap",
    "max_answer_len": "max_answer_length",
    "max_seq_len": "max_length",
    "max_question_len": "max_question_length",
    "handle_impossible_answer": "handle_impossible_answer",
    "align_to_words": "align_to_words",
}
"""Names of the pipeline's parameters, and of the options they are. Its ``doc_stride`` is an overlap."""


def pipeline_options(window: int, given: Mapping[str, Any]) -> AnswerOptions:
    """Return the options that the pipeline's parameters are.

    Args:
        window: The bundle's window in tokens, which ``max_length`` is where it is not given.
        given: Options by their own names; an ``overlap`` that is missing is half the window, at most 128.

    Raises:
        InputError: An option is unusable; ``in_pipeline_names`` makes the message the caller's.
    """
    # The window is checked on its own first: half of what is no number could not be taken.
    base = AnswerOptions(decoding="pipeline", overlap=0, max_length=given.get("max_length", window))
    max_length, _ = base.window
    return base.override({"overlap": min(max_length // 2, 128), **given})


def in_pipeline_names(message: str) -> str:
    """Say ``doc_stride`` where the engine says ``overlap``, and so on: the caller knows no other names."""
    for theirs, ours in PIPELINE_NAMES.items():
        # "windows that overlap" is no option.
        message = re.sub(rf"(?<!that )\b{ours}\b", theirs, message)
    return message
