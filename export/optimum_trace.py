"""A checkpoint as transformers' own model, traced by optimum to a graph.

The weights are those that ``Checkpoint`` read, put into a model made from ``config.json`` alone. So nothing
in the checkpoint's folder is executed or unpickled, every format of weights is exported, and the graph holds
the weights whose checksums the manifest records.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastspan.errors import CheckpointError
from fastspan.export.checkpoint import Checkpoint
from fastspan.export.lowering.builder import OPSET
from fastspan.export.third_party import first_sentence

__all__ = ["load_model", "model_logits", "trace"]

_TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


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
            f"{checkpoint.folder} is of model_type {model_type!r}, for which transformers "
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


def trace(checkpoint: Checkpoint, model: Any, path: Path) -> str:
    """Let optimum write the model's graph, of standard operators, to ``path``.

    A trace records one run. What the architecture's code computed in Python from the sizes of that run's
    batch is a constant in it: compare the graph with the model on batches of other sizes.

    Returns:
        What made the graph, for people.

    Raises:
        CheckpointError: optimum cannot export the architecture, or not with the inputs that a question over
            a text has.
    """
    from optimum.exporters.onnx import export
    from optimum.exporters.tasks import TasksManager

    kind = model.config.model_type
    try:
        describe = TasksManager.get_exporter_config_constructor(
            "onnx", model, task="question-answering", library_name="transformers"
        )
        description = describe(model.config)
        foreign = set(description.inputs) - set(_TEXT_INPUTS)
        if not foreign:
            export(model, _for_texts(description, model.config), path, opset=OPSET)
    except Exception as error:
        # optimum's own refusals are KeyError, ValueError and more, and a trace runs the model's code.
        raise CheckpointError(
            f"{checkpoint.folder} is a {kind} model, which optimum cannot export: {first_sentence(error)}. "
            "Give a checkpoint of another architecture."
        ) from error
    if foreign:
        raise CheckpointError(
            f"{checkpoint.folder} is a {kind} model, which optimum can export only with the input "
            f"{' and '.join(sorted(foreign))}, and a question over a text has none: give a checkpoint of "
            "another architecture."
        )
    return f"{kind} traced by optimum-onnx {version('optimum-onnx')}"


def _fill(checkpoint: Checkpoint, model: Any) -> None:
    """Copy the checkpoint's weights into the model, one at a time."""
    import torch

    weights = checkpoint.weights
    filled = set()
    for name, tensor in model.state_dict().items():
        if name not in weights:
            continue
        if weights.shape(name) != tuple(tensor.shape):
            raise CheckpointError(
                f"Tensor {name!r} of {checkpoint.folder} has the shape {weights.shape(name)}, but its "
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
            f"describes, such as {missing[0]!r}: copy or download the checkpoint again."
        )


def _for_texts(description: Any, config: Any) -> Any:
    """Leave segment ids out of optimum's description of a model that has one segment only.

    Its table has one row, so the ids of a second segment would lie outside.
    """
    if getattr(config, "type_vocab_size", 2) > 1:
        return description
    inputs = {name: axes for name, axes in description.inputs.items() if name != "token_type_ids"}
    kind = type(description)
    description.__class__ = type(kind.__name__, (kind,), {"inputs": property(lambda _: inputs)})
    return description
