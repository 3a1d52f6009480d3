"""What NNCF makes of a bundle's graph, with and without its worst layers: run in OpenVINO's environment.

``python -m fastspan.benchmarks.studies.graphs.nncf_models TASK RESULT`` reads a task as JSON and writes what
it found as JSON. ``openvino_accuracy`` runs it.
"""

from __future__ import annotations

import itertools
import json
import re
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastspan.benchmarks.peers.systems.openvino_peer import OPTIONS, calibration_feeds, feeds, logits
from fastspan.benchmarks.speed.interleaving import balanced_order
from fastspan.bundle.folder import Bundle
from fastspan.decoding.squad import decode_squad
from fastspan.text.encoder import EncodedPair, Encoder

__all__ = ["found_in", "main"]

Feeds = dict[str, NDArray[np.int64]]
Pairs = Sequence[EncodedPair]
_WINDOWS_OF_A_TURN = 12
# Ranking needs one model a layer, so each is observed on few windows.
_RANKING_WINDOWS = 16


class _Runner:
    """A compiled model that answers encoded questions, window by window."""

    def __init__(self, core: Any, model: Any, threads: int) -> None:
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self._request = core.compile_model(model, "CPU", settings).create_infer_request()
        self.inputs = {name for port in model.inputs for name in port.names}

    def answers(self, pairs: Pairs) -> list[str]:
        """The answers' texts, ``""`` for none, at threshold 0."""
        starts: list[list[NDArray[np.float32]]] = []
        ends: list[list[NDArray[np.float32]]] = []
        for pair in pairs:
            found = [self.run(feeds(window, self.inputs)) for window in pair.windows]
            starts.append([start for start, _ in found])
            ends.append([end for _, end in found])
        return _texts(pairs, starts, ends)

    def logits(self, pairs: Pairs) -> NDArray[np.float32]:
        """All logits of the pairs' windows, one behind the other."""
        windows = (window for pair in pairs for window in pair.windows)
        return np.concatenate([np.concatenate(self.run(feeds(window, self.inputs))) for window in windows])

    def run(self, given: Feeds) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Start and end logits of one window. *Shape:* ``(length,)`` each."""
        self._request.infer(given, share_inputs=True)
        return logits(self._request)


def found_in(task: Mapping[str, Any]) -> dict[str, Any]:
    """Quantize a bundle's interchange graph in each way, and compare each with fp32.

    Args:
        task: ``bundle``, its folder; ``threads``; ``ignored``, how many of its worst layers stay fp32, one
            model for each number; ``control`` and ``judged``, pairs of question and context: what layers are
            ranked on, and what every model is judged on; ``rounds`` of the timing.

    Returns:
        ``versions``, ``control`` and ``judged``, how many questions these are, and ``models``: for each its
        ``name``, the share of ``equal`` answers on the judged questions, the ``float`` layers that it leaves
        in fp32, of how many ``layers``, and ``rounds``, round → seconds of each of its runs.
    """
    import nncf
    import openvino

    folder = Path(task["bundle"])
    encoder = Encoder.of_bundle(Bundle.open(folder))
    core = openvino.Core()

    def graph() -> Any:
        return core.read_model(folder / "onnx" / "model.onnx")

    plain = graph()
    calibration = calibration_feeds(folder, encoder, plain)

    def quantized(ignored: Sequence[str], windows: int = len(calibration)) -> Any:
        return nncf.quantize(
            graph(),
            nncf.Dataset(calibration[:windows]),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=windows,
            ignored_scope=nncf.IgnoredScope(names=list(ignored)),
        )

    def runner(model: Any) -> _Runner:
        return _Runner(core, model, task["threads"])

    control, judged = (_encoded(encoder, task[name]) for name in ("control", "judged"))
    exact = runner(plain)
    expected = exact.logits(control)
    errors = {}
    groups = _groups(_linear_layers(plain))
    for number, group in enumerate(groups):
        _say(f"layer {number + 1} of {len(groups)}, left in fp32: {', '.join(group)}")
        found = runner(quantized(group, _RANKING_WINDOWS)).logits(control)
        errors[group] = float(np.square(found - expected).mean())
    worst = sorted(groups, key=errors.__getitem__)
    models = {"fp32": plain, "int8": quantized([])}
    for count in task["ignored"]:
        models[f"int8, the worst {count} in fp32"] = quantized(list(itertools.chain(*worst[:count])))
    layers = {name: _linear_layers(model) for name, model in models.items()}
    runners: dict[str, _Runner] = {}
    with tempfile.TemporaryDirectory() as place:
        for name, model in models.items():
            # Saved and read again, so that what is timed is what a user would deploy.
            path = Path(place) / f"{len(runners)}.xml"
            openvino.save_model(model, path, compress_to_fp16=False)
            runners[name] = runner(core.read_model(path))
        _say(f"answering {len(judged)} questions with each")
        answers = {name: each.answers(judged) for name, each in runners.items()}
        rounds = _timed(runners, judged, task["rounds"])
    return {
        "versions": {"openvino": openvino.__version__, "nncf": nncf.__version__},
        "control": len(control),
        "judged": len(judged),
        "models": [
            {
                "name": name,
                "equal": float(np.mean([a == b for a, b in zip(answers["fp32"], found, strict=True)])),
                "float": [layer for layer, rounded in layers[name].items() if not rounded],
                "layers": len(layers[name]),
                "rounds": rounds[name],
            }
            for name, found in answers.items()
        ],
    }


def _encoded(encoder: Encoder, pairs: Sequence[Sequence[str]]) -> Pairs:
    return encoder.encode([question for question, _ in pairs], [context for _, context in pairs], OPTIONS)


def _texts(
    pairs: Pairs, starts: list[list[NDArray[np.float32]]], ends: list[list[NDArray[np.float32]]]
) -> list[str]:
    found = decode_squad(pairs, starts, ends, OPTIONS, threshold=0.0)
    return ["" if each.answer is None else each.answer.text for each in found]


def _groups(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Layers that are left in fp32 together: query, key and value share their input, and so its rounding."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(re.sub(r"\.(query|key|value)\b.*", "", name), []).append(name)
    return [tuple(group) for group in found.values()]


def _linear_layers(model: Any) -> dict[str, bool]:
    """Name of each product with weights → whether both of its factors come rounded."""
    found = {}
    for node in model.get_ops():
        if node.get_type_name() == "MatMul":
            sources = [node.input_value(side).get_node() for side in (0, 1)]
            if not _activations(sources[1]):
                rounded = [each.get_type_name() == "FakeQuantize" for each in sources]
                found[node.get_friendly_name()] = rounded[0]
    return found


def _activations(node: Any) -> bool:
    """Whether a value depends on the model's inputs."""
    return node.get_type_name() == "Parameter" or any(
        _activations(node.input_value(place).get_node()) for place in range(node.get_input_size())
    )


def _timed(runners: Mapping[str, _Runner], pairs: Pairs, rounds: int) -> dict[str, dict[int, list[float]]]:
    """Model → round → seconds of a few windows, the models in turns."""
    windows = [pair.windows[0] for pair in pairs[:_WINDOWS_OF_A_TURN]]
    names = list(runners)
    taken: dict[str, dict[int, list[float]]] = {name: {} for name in names}
    for number in range(-1, rounds):  # the first is for the caches
        for place in balanced_order(len(names), max(number, 0)):
            runner = runners[names[place]]
            given = [feeds(window, runner.inputs) for window in windows]
            runner.run(given[0])  # finds another model's weights in the caches
            began = time.perf_counter()
            for each in given:
                runner.run(each)
            if number >= 0:
                taken[names[place]][number] = [(time.perf_counter() - began) / len(given)]
    return taken


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str]) -> None:
    """Read the task, do it, and write the result."""
    task, result = (Path(argument) for argument in arguments)
    found = found_in(json.loads(task.read_text(encoding="utf-8")))
    result.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
