"""Triton's model repository: an ensemble of two Python models around the graph, each with its settings."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fastspan.bundle.folder import Bundle
from fastspan.bundle.manifest import MANIFEST
from fastspan.bundle.variants import OUTPUTS, Graph, VariantName
from fastspan.errors import BundleError
from fastspan.hosting.triton import MOST_WINDOWS

__all__ = ["write_models"]

_TEXTS = ("question", "context")
_ANSWER = {"answer": "TYPE_STRING", "start": "TYPE_INT32", "end": "TYPE_INT32", "prediction": "TYPE_STRING"}
# Long enough to gather what arrives together, short beside a run of the graph.
_QUEUE_DELAY_US = 2000
_QUEUE_SIZE = 512


def write_models(
    bundle: Bundle, folder: Path, label: str, variant: VariantName, scripts: Mapping[str, str]
) -> None:
    """Write the repository.

    Args:
        bundle: A bundle whose files were verified.
        folder: Where to; it is made.
        label: The ensemble's name, and the beginning of the others'.
        variant: Whose graph runs, ``fp32`` or ``fp16``.
        scripts: ``encode`` and ``decode`` → the text of its ``model.py``.

    Raises:
        BundleError: The variant has no graph for any runtime with a mask, without which windows of several
            requests cannot share a run.
    """
    graph = _padded(bundle, variant)
    names = {part: f"{label}-{part}" for part in ("encode", "graph", "decode")}
    for part in ("encode", "decode"):
        version = folder / names[part] / "1"
        version.mkdir(parents=True)
        (version / "model.py").write_text(scripts[part], encoding="utf-8", newline="\n")
        for path in (MANIFEST, *bundle.files_beside):
            shutil.copyfile(bundle.folder / path, version / path)
    version = folder / names["graph"] / "1"
    version.mkdir(parents=True)
    shutil.copyfile(bundle.folder / graph.file, version / "model.onnx")
    for path in graph.data:
        # The graph names its weights by the file's name alone, as they lie beside it.
        shutil.copyfile(bundle.folder / path, version / Path(path).name)
    (folder / label / "1").mkdir(parents=True)
    # An empty folder is nothing that every copier keeps.
    (folder / label / "1" / "README").write_text("An ensemble has no file of its own.\n", encoding="ascii")
    configs = {
        names["encode"]: _python(_texts("input"), _tensors("output", graph.inputs, "TYPE_INT64", "-1, -1")),
        names["graph"]: _graph(graph, gpu=variant == "fp16"),
        names["decode"]: _python(
            f"{_texts('input')}{_tensors('input', OUTPUTS, 'TYPE_FP32', '-1, -1')}", _answers()
        ),
        label: _ensemble(names, graph),
    }
    for name, text in configs.items():
        (folder / name / "config.pbtxt").write_text(f'name: "{name}"\n{text}', encoding="utf-8", newline="\n")


def _padded(bundle: Bundle, variant: VariantName) -> Graph:
    held = bundle.manifest.variants.get(variant)
    graphs = held.graphs if held is not None else ()
    for graph in graphs:
        if graph.target == "any" and graph.layout == "padded":
            return graph
    raise BundleError(
        f"Variant {variant} has no graph that Triton can batch (for any runtime, with a mask): choose fp32 "
        "or fp16, or export the checkpoint again with it."
    )


def _graph(graph: Graph, *, gpu: bool) -> str:
    """A batch of windows: its first axis is Triton's batch, which ``dims`` leave out."""
    return (
        f'backend: "onnxruntime"\nmax_batch_size: {MOST_WINDOWS}\n'
        f"{_tensors('input', graph.inputs, 'TYPE_INT64', '-1')}"
        f"{_tensors('output', OUTPUTS, 'TYPE_FP32', '-1')}"
        f"instance_group [ {{ count: 1 kind: {'KIND_GPU' if gpu else 'KIND_CPU'} }} ]\n"
        "dynamic_batching {\n"
        f"  max_queue_delay_microseconds: {_QUEUE_DELAY_US}\n"
        f"  default_queue_policy {{ max_queue_size: {_QUEUE_SIZE} }}\n"
        "}\n"
    )


def _python(inputs: str, outputs: str) -> str:
    group = "instance_group [ { count: 2 kind: KIND_CPU } ]"
    return f'backend: "python"\nmax_batch_size: 0\n{inputs}{outputs}{group}\n'


def _ensemble(names: Mapping[str, str], graph: Graph) -> str:
    """Without a batch of its own: one question a request, whose windows are the graph's batch."""
    texts = {name: name for name in _TEXTS}
    inputs, logits = {name: name for name in graph.inputs}, {name: name for name in OUTPUTS}
    steps = "".join(
        (
            _step(names["encode"], texts, inputs),
            _step(names["graph"], inputs, logits),
            _step(names["decode"], {**texts, **logits}, {name: name for name in _ANSWER}),
        )
    )
    return (
        f'platform: "ensemble"\nmax_batch_size: 0\n{_texts("input")}{_answers()}'
        f"ensemble_scheduling {{\n{steps}}}\n"
    )


def _step(model: str, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> str:
    return (
        f'  step {{\n    model_name: "{model}"\n    model_version: -1\n'
        f"{_mapped('input_map', inputs)}{_mapped('output_map', outputs)}  }}\n"
    )


def _mapped(kind: str, names: Mapping[str, str]) -> str:
    return "".join(f'    {kind} {{ key: "{key}" value: "{value}" }}\n' for key, value in names.items())


def _texts(kind: str) -> str:
    return _tensors(kind, _TEXTS, "TYPE_STRING", "1")


def _answers() -> str:
    return "".join(_tensors("output", (name,), kind, "1") for name, kind in _ANSWER.items())


def _tensors(kind: str, names: Iterable[str] | Sequence[str], data_type: str, dims: str) -> str:
    return "".join(f'{kind} {{ name: "{name}" data_type: {data_type} dims: [ {dims} ] }}\n' for name in names)
