"""What Triton's Python backend gives to a model, and an ensemble carried out step by step without Triton."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from support.written_module import import_file

__all__ = ["Ensemble", "TritonError", "backend_utils"]

Tensors = dict[str, NDArray[Any]]


class Tensor:
    """A named array."""

    def __init__(self, name: str, array: NDArray[Any]) -> None:
        self.name, self._array = name, array

    def as_numpy(self) -> NDArray[Any]:
        return self._array


class TritonError(Exception):
    """An error that a model returns for a request."""


class InferenceResponse:
    """Output tensors, or an error."""

    def __init__(self, output_tensors: list[Tensor], error: TritonError | None = None) -> None:
        self.tensors, self.error = output_tensors, error


def backend_utils() -> ModuleType:
    """The module ``triton_python_backend_utils``, as far as our models use it."""
    module = ModuleType("triton_python_backend_utils")
    given = {
        "Tensor": Tensor,
        "TritonError": TritonError,
        "InferenceResponse": InferenceResponse,
        "get_input_tensor_by_name": lambda request, name: Tensor(name, request[name]),
    }
    for name, value in given.items():
        setattr(module, name, value)
    return module


class Ensemble:
    """The models of a repository, called in the order of the ensemble's steps.

    Args:
        repository: The folder of all models.
        label: The ensemble's name.
    """

    def __init__(self, repository: Path, label: str) -> None:
        import onnxruntime

        assert "triton_python_backend_utils" in sys.modules
        self._parts = {}
        for part in ("encode", "decode"):
            folder = repository / f"{label}-{part}"
            model = import_file(folder / "1" / "model.py").TritonPythonModel()
            model.initialize({"model_repository": str(folder), "model_version": "1"})
            self._parts[part] = model
        self._graph = onnxruntime.InferenceSession(str(repository / f"{label}-graph" / "1" / "model.onnx"))
        config = (repository / f"{label}-graph" / "config.pbtxt").read_text()
        self._inputs = re.findall(r'^input \{ name: "(\w+)"', config, re.MULTILINE)
        self._largest = int(re.findall(r"^max_batch_size: (\d+)", config, re.MULTILINE)[0])

    def ask(self, *questions: tuple[str, str]) -> list[Tensors]:
        """Send requests at once; windows of equal length share a run, as dynamic batching has it."""
        requests = [
            {
                name: np.array([text.encode()], np.object_)
                for name, text in zip(("question", "context"), pair, strict=True)
            }
            for pair in questions
        ]
        encoded = self._run("encode", requests)
        alike: dict[int, list[int]] = {}
        for index, inputs in enumerate(encoded):
            alike.setdefault(inputs["input_ids"].shape[1], []).append(index)
        logits: dict[int, Tensors] = {}
        for members in alike.values():
            counts = [len(encoded[index]["input_ids"]) for index in members]
            assert max(counts) <= self._largest
            feeds = {name: np.concatenate([encoded[i][name] for i in members]) for name in self._inputs}
            found = self._graph.run(["start_logits", "end_logits"], feeds)
            ends = np.cumsum(counts)[:-1]
            starts, stops = (np.split(array, ends) for array in found)
            for index, start, stop in zip(members, starts, stops, strict=True):
                logits[index] = {"start_logits": start, "end_logits": stop}
        return self._run("decode", [{**request, **logits[i]} for i, request in enumerate(requests)])

    def _run(self, part: str, requests: list[Tensors]) -> list[Tensors]:
        responses = self._parts[part].execute(requests)
        for response in responses:
            if response.error is not None:
                raise response.error
        return [{each.name: each.as_numpy() for each in response.tensors} for response in responses]
