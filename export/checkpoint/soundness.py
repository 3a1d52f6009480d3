"""Is a checkpoint whole? Asked before any work begins, so that a fault is named as what it is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fastspan.bundle.strict_json import named
from fastspan.errors import CheckpointError
from fastspan.export.checkpoint.weights import Weights
from fastspan.options import shown

__all__ = ["refuse_leftovers", "require_finite"]


def require_finite(weights: Weights) -> None:
    """Refuse weights that hold NaN or infinity, as a training run that diverged leaves them.

    Raises:
        CheckpointError: A number of a tensor is not finite as float32; the message names the tensor and the
            place of the first.
    """
    for name in weights:
        # A float64 beyond float32's range becomes infinite here, as it would in a graph.
        with np.errstate(over="ignore"):
            array = weights[name]
        finite = np.isfinite(array)
        if not finite.all():
            place = ", ".join(str(index) for index in np.argwhere(~finite)[0])
            count = int(array.size - np.count_nonzero(finite))
            raise CheckpointError(
                f"Tensor {shown(name)} holds {count} of {array.size} numbers that are NaN or infinite, the "
                f"first at [{place}]: take a checkpoint from before the training diverged, or download it "
                "again."
            )


def refuse_leftovers(names: Iterable[str], config: Mapping[str, Any]) -> None:
    """Refuse tensors of the encoder that the configured model would leave unread.

    Such a model is not the one that was trained: ``num_hidden_layers`` may be smaller than what is stored, or
    adapters may lie beside the layers.

    Args:
        names: The tensors that are stored for the encoder and not read.
        config: ``config.json``.

    Raises:
        CheckpointError: There are any.
    """
    left = sorted(names, key=_in_order)
    if not left:
        return
    more = f" and {len(left) - 1} more" if len(left) > 1 else ""
    layers = config.get("num_hidden_layers", config.get("n_layers"))
    said = f" with {layers} layers" if isinstance(layers, int) else ""
    raise CheckpointError(
        f"The checkpoint stores {shown(left[0])}{more}, which a {named(str(config.get('model_type')))} "
        f"model{said}, as its config.json describes it, does not read: correct config.json (the number of "
        "layers), or merge adapters into the weights and save the checkpoint again."
    )


def _in_order(name: str) -> tuple[int, str]:
    number = re.search(r"\.(\d+)\.", name)
    return (int(number[1]) if number else -1, name)
