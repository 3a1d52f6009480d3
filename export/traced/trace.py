"""A checkpoint as transformers' own model, traced by optimum to a graph.

The weights are those that ``Checkpoint`` read, put into a model made from ``config.json`` alone. So nothing
in the checkpoint's folder is executed or unpickled, every format of weights is exported, and the graph holds
the weights whose checksums the manifest records.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastspan.errors import CheckpointError
from fastspan.export.checkpoint.reader import Checkpoint
from fastspan.export.graphs.builder import OPSET
from fastspan.export.third_party import first_sentence

__all__ = ["trace"]

_TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


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
