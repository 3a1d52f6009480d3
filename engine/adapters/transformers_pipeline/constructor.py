"""The arguments of transformers' ``pipeline``: each is taken, or refused with a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastspan.adapters.devices import load_options_for
from fastspan.errors import InputError
from fastspan.options import shown

__all__ = ["check_task", "load_options", "refuse_unusable"]

_LOG_IN = "huggingface_hub reads it from HF_TOKEN, or from `hf auth login`"

# Argument → values that ask for nothing else than what happens here → why another is refused.
_REFUSED: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "framework": ((None, "pt"), "FastSpan runs ONNX graphs made from PyTorch's weights"),
    "config": ((None,), "a bundle has its own configuration"),
    "feature_extractor": ((None,), "text needs none"),
    "image_processor": ((None,), "text needs none"),
    "processor": ((None,), "text needs none"),
    "modelcard": ((None,), "a bundle has its own card"),
    "args_parser": ((None,), "the call forms are fixed"),
    "pipeline_class": ((None,), "there is one pipeline"),
    "binary_output": ((None, False), "answers are dicts"),
    "use_fast": ((None, True), "windows are those of fast tokenizers"),
    "trust_remote_code": ((None, False), "FastSpan runs no code of a repository"),
    "token": ((None, True), _LOG_IN),
    "use_auth_token": ((None, True), _LOG_IN),
    "model_kwargs": ((None, {}), "they are for PyTorch's models; options=LoadOptions(...) says how to load"),
}

_PRECISIONS = {
    "float32": "fp32",
    "float": "fp32",
    "float16": "fp16",
    "half": "fp16",
}


def check_task(task: object) -> None:
    """Refuse any task but question answering.

    Raises:
        InputError: It is another one.
    """
    if task not in (None, "question-answering"):
        raise InputError(f"The task must be 'question-answering', the only one there is, not {shown(task)}.")


def refuse_unusable(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that are left once those that make no difference here are taken away.

    Raises:
        InputError: One of those asks for what FastSpan does not do.
    """
    left = dict(arguments)
    for name, (harmless, why) in _REFUSED.items():
        value = left.pop(name, None)
        if not any(type(value) is type(one) and value == one for one in harmless):
            asked = f"this {name}" if why is _LOG_IN else f"{name}={shown(value)}"
            raise InputError(f"{asked} cannot be used: {why}. Leave {name} out.")
    return left


def load_options(
    *, device: object, device_map: object, dtype: object, torch_dtype: object, variant: str | None
) -> dict[str, Any]:
    """Return the fields of ``LoadOptions`` that these arguments are.

    Args:
        device: See ``load_options_for``.
        device_map: ``"auto"`` or what ``device`` may be; not both.
        dtype: A precision of PyTorch's, or its name; None and ``"auto"`` say nothing.
        torch_dtype: The older name of ``dtype``.
        variant: FastSpan's own: which variant to run, which goes before a precision.

    Raises:
        InputError: One is unusable, or two contradict each other.
    """
    if device is not None and device_map is not None:
        raise InputError("device and device_map both say where to run: give one of them.")
    if isinstance(device_map, Mapping):
        raise InputError("device_map must be 'auto' or a device: a bundle runs on one device as a whole.")
    if dtype is not None and torch_dtype is not None and dtype != torch_dtype:
        raise InputError("dtype and torch_dtype name one thing and differ: give dtype.")
    where = device_map if device is None else device
    chosen = {} if where is None else load_options_for(where)
    precision = _variant(dtype if dtype is not None else torch_dtype, variant)
    return chosen if precision is None else {**chosen, "variant": precision}


def _variant(dtype: object, variant: str | None) -> str | None:
    name = "auto" if dtype is None else str(dtype).removeprefix("torch.")
    if name != "auto" and name not in _PRECISIONS:
        raise InputError(
            f"dtype must be 'auto', float32 or float16, not {shown(dtype)}: give variant='int8' for 8-bit "
            "weights."
        )
    if variant is None:
        return _PRECISIONS.get(name)
    if name != "auto":
        raise InputError("dtype and variant both choose a precision: give one of them.")
    return variant
