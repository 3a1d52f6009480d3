"""A question-answering checkpoint on the disk: its configuration, its weights and where they came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastspan.bundle.strict_json import named
from fastspan.errors import CheckpointError
from fastspan.export.checkpoint.folder import CheckpointFolder
from fastspan.export.checkpoint.source import ResolvedSource, resolve_source
from fastspan.export.checkpoint.weights import WeightFormat, Weights, find_weights, read_weights

__all__ = ["Checkpoint", "read_checkpoint"]

# transformers' name for the layer that every extractive model with start and end logits ends in.
_HEAD = "qa_outputs"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Checkpoint:
    """A fine-tuned extractive question-answering model, as it was published.

    Attributes:
        files: The folder it lies in; the tokenizer's files are read through it.
        source: The hub id, or the folder's name.
        revision: The hub commit, 40 hexadecimal digits; None for a folder that is not from the hub.
        config: ``config.json``.
        weights: Every learned parameter under PyTorch's name, in PyTorch's layout, float32.
        stored_dtypes: The types the files store the weights in, such as ``("float16",)``.
        format: The format of the weight files.
        sha256: The name of each weight file and its SHA-256 in hexadecimal.
    """

    files: CheckpointFolder
    source: str
    revision: str | None
    config: dict[str, Any]
    weights: Weights
    stored_dtypes: tuple[str, ...]
    format: WeightFormat
    sha256: Mapping[str, str]

    @property
    def folder(self) -> Path:
        """The folder the checkpoint lies in."""
        return self.files.path

    @property
    def weight_files(self) -> tuple[str, ...]:
        """The names of the weight files."""
        return tuple(self.sha256)


def read_checkpoint(source: str | Path | ResolvedSource) -> Checkpoint:
    """Read the checkpoint in a folder.

    The weights stay on the disk until they are used (see ``Weights``), except for Flax files and
    PyTorch files older than 1.6, which are read whole.

    Args:
        source: A folder, or what ``resolve_source`` returned for a folder or a hub id. A string
            is always a folder here: nothing is downloaded.

    Raises:
        CheckpointError: The folder, its ``config.json`` or its weights are missing, damaged, unsafe to
            read or quantized, or the model has no question-answering head; the message names the file.
        MissingDependency: The weights' format needs a package that is not installed.
    """
    if not isinstance(source, ResolvedSource):
        source = resolve_source(Path(source))
    files = source.files
    if not files.has("config.json"):
        raise CheckpointError(f"{files.path} holds no config.json: give a transformers checkpoint's folder.")
    config = files.json("config.json")
    if config.get("quantization_config") is not None:
        raise CheckpointError(
            f"{files.path / 'config.json'} says that the weights are quantized: export the checkpoint "
            "they were made from, which FastSpan quantizes itself."
        )
    found = find_weights(files)
    weights = read_weights(files, found)
    _require_head(files.path, config, weights)
    return Checkpoint(
        files=files,
        source=source.id,
        revision=source.revision,
        config=config,
        weights=weights,
        stored_dtypes=weights.stored_dtypes,
        format=found.format,
        sha256={name: files.sha256(name) for name in found.names},
    )


def _require_head(folder: Path, config: Mapping[str, Any], weights: Weights) -> None:
    kind = config.get("architectures") or config.get("model_type") or "a model of unknown architecture"
    described = ", ".join(map(str, kind)) if isinstance(kind, list) else str(kind)
    for name in (f"{_HEAD}.weight", f"{_HEAD}.bias"):
        if name not in weights:
            raise CheckpointError(
                f"{folder} is not a question-answering model but {named(described)}: it has no {name}; "
                "give a checkpoint that was fine-tuned for extractive question answering."
            )
        if weights.shape(name)[0:1] != (2,):
            raise CheckpointError(
                f"{folder} is not an extractive question-answering model: its {name} has the shape "
                f"{weights.shape(name)} where a start and an end logit need two rows."
            )
