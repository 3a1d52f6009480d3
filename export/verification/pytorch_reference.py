"""The reference: the checkpoint itself in PyTorch, where that is installed."""

from __future__ import annotations

import copy
import importlib.util
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastspan.errors import CheckpointError
from fastspan.export.checkpoint.reader import Checkpoint, read_checkpoint
from fastspan.export.checkpoint.soundness import refuse_leftovers
from fastspan.export.third_party import first_sentence, undisturbed
from fastspan.export.verification.comparison import LogitPairs, windows_of
from fastspan.options import shown
from fastspan.runtime.batching import plan_equal_lengths
from fastspan.text.encoder import EncodedPair

__all__ = ["has_pytorch", "load_model", "model_logits", "torch_logits"]


_OLDEST_TRANSFORMERS = (4, 56)  # the first that knows the argument ``dtype``


def has_pytorch() -> bool:
    """Whether PyTorch and a transformers that is new enough are installed, to run the checkpoint itself."""
    if any(importlib.util.find_spec(name) is None for name in ("torch", "transformers")):
        return False
    try:
        numbers = re.match(r"(\d+)\.(\d+)", version("transformers"))
    except PackageNotFoundError:
        # A folder of that name, not the package.
        return False
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= _OLDEST_TRANSFORMERS


def torch_logits(
    folder: Path, pairs: Sequence[EncodedPair], *, segment_ids: bool, threads: int, step: Callable[[], None]
) -> LogitPairs:
    """Run the checkpoint itself in PyTorch, in fp32, on the same windows without padding.

    Args:
        folder: The checkpoint, its weights in any format that ``read_checkpoint`` reads.
        pairs: Encoded questions.
        segment_ids: Whether the model is given ``token_type_ids``.
        threads: Threads to compute with.
        step: Called after each window.

    Returns:
        Start and end logits of every window, each (length,) float32.

    Raises:
        CheckpointError: The checkpoint cannot be read, or transformers cannot make a model of it.
    """
    with undisturbed("torch", "transformers"):
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            return _run_torch(load_model(read_checkpoint(folder)), pairs, segment_ids, step)
        finally:
            torch.set_num_threads(before)


def _run_torch(
    model: Any, pairs: Sequence[EncodedPair], segment_ids: bool, step: Callable[[], None]
) -> LogitPairs:
    import torch

    windows = list(windows_of(pairs))
    found: LogitPairs = [(np.empty(0, np.float32), np.empty(0, np.float32))] * len(windows)
    with torch.inference_mode():
        # Windows of equal length share a run only where the product is small; no window is ever padded.
        for group in plan_equal_lengths([len(window.input_ids) for window in windows], 256):
            inputs = {"input_ids": torch.from_numpy(np.stack([windows[i].input_ids for i in group]))}
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            if segment_ids:
                inputs["token_type_ids"] = torch.from_numpy(np.stack([windows[i].type_ids for i in group]))
            output = model(**inputs)
            for row, index in enumerate(group):
                found[index] = (output.start_logits[row].numpy(), output.end_logits[row].numpy())
                step()
    return found


def load_model(checkpoint: Checkpoint) -> Any:
    """Return transformers' question-answering model with the checkpoint's weights, in fp32.

    Raises:
        CheckpointError: transformers has no such model, or the checkpoint's weights do not fill it.
    """
    import torch
    import transformers

    model_type = checkpoint.config.get("model_type")
    kinds, models = transformers.CONFIG_MAPPING, transformers.MODEL_FOR_QUESTION_ANSWERING_MAPPING
    if model_type not in kinds or kinds[model_type] not in models:
        raise CheckpointError(
            f"{checkpoint.folder} is of model_type {shown(model_type)}, for which transformers "
            f"{transformers.__version__} has no extractive question-answering model, and code that a "
            "checkpoint brings along is never executed: give a checkpoint of another architecture."
        )
    try:
        config = kinds[model_type].from_dict(copy.deepcopy(checkpoint.config))
        # config.json may say float16. Eager attention is what fusions recognize.
        model = transformers.AutoModelForQuestionAnswering.from_config(
            config, dtype=torch.float32, attn_implementation="eager", trust_remote_code=False
        )
    except Exception as error:
        # A configuration's faults surface as whatever the model's code stumbles over.
        raise CheckpointError(
            f"{checkpoint.folder / 'config.json'} describes no {model_type} model that transformers can make "
            f"({first_sentence(error)}): copy or download the checkpoint again."
        ) from error
    _fill(checkpoint, model)
    return model.eval()


def model_logits(model: Any, batch: Mapping[str, npt.NDArray[np.int64]]) -> npt.NDArray[np.float32]:
    """Run the PyTorch model.

    Args:
        model: What ``load_model`` returned.
        batch: Its inputs by name, each (batch, length).

    Returns:
        Start and end logits, (2, batch, length).
    """
    import torch

    with torch.inference_mode():
        found = model(**{name: torch.from_numpy(array) for name, array in batch.items()}, return_dict=True)
    return np.stack([found.start_logits.numpy(), found.end_logits.numpy()])


def _fill(checkpoint: Checkpoint, model: Any) -> None:
    """Copy the checkpoint's weights into the model, one at a time."""
    import torch

    weights = checkpoint.weights
    filled = set()
    state = model.state_dict()
    # Other heads than the one for question answering are left out, as transformers leaves them out.
    expected_left = [re.compile(pattern) for pattern in model._keys_to_ignore_on_load_unexpected or ()]
    refuse_leftovers(
        (
            name
            for name in weights
            if name not in state
            and name.startswith(f"{model.base_model_prefix}.")
            and re.search(r"\.\d+\.", name)
            and not any(pattern.search(name) for pattern in expected_left)
        ),
        checkpoint.config,
    )
    for name, tensor in state.items():
        if name not in weights:
            continue
        if weights.shape(name) != tuple(tensor.shape):
            raise CheckpointError(
                f"Tensor {shown(name)} of {checkpoint.folder} has the shape {weights.shape(name)}, but its "
                f"config.json says {tuple(tensor.shape)}: copy or download the checkpoint again."
            )
        tensor.copy_(torch.from_numpy(np.array(weights[name])))
        filled.add(tensor.data_ptr())
    # Tied parameters are stored once, under one of their names; computed tables need not be stored.
    missing = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.data_ptr() not in filled
    ]
    if missing:
        raise CheckpointError(
            f"{checkpoint.folder} lacks {len(missing)} of the tensors of the model that its config.json "
            f"describes, such as {shown(missing[0])}: copy or download the checkpoint again."
        )
