"""NVIDIA Triton: the two Python models around the graph, and what they have of a bundle.

An ensemble passes a request through ``encode``, the graph in Triton's ONNX Runtime backend, and ``decode``.
Between them windows are the batch: Triton joins windows of equal length from several requests into one run of
the graph. So that lengths are often equal, windows are padded to a multiple of ``LENGTH_STEP`` tokens, which
the mask hides. ``decode`` encodes the texts once more, because offsets and special tokens do not fit into
tensors that a client would want to see.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastspan.bundle.manifest import MANIFEST
from fastspan.bundle.manifest_file import read_manifest
from fastspan.decoding.squad import decode_squad
from fastspan.errors import FastSpanError, InputError
from fastspan.options import AnswerOptions
from fastspan.runtime.graph_inputs import pad
from fastspan.text.encoder import EncodedPair, Encoder

__all__ = ["LENGTH_STEP", "MOST_WINDOWS", "Decode", "Encode", "QuestionPart"]

LENGTH_STEP = 32
"""Windows are padded to a multiple of this many tokens."""

MOST_WINDOWS = 64
"""The most windows of one question: the graph's largest batch, because Triton does not cut a request."""


class QuestionPart:
    """What a part of the ensemble reads of the bundle.

    Args:
        folder: Where the manifest, the configuration and the tokenizer lie.

    Raises:
        BundleError: One of them is missing or damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self.manifest = read_manifest(Path(folder) / MANIFEST)
        model = self.manifest.model
        self._encoder = Encoder.from_folder(
            folder, segment_ids=model.segment_ids, max_positions=model.max_positions
        )
        window = AnswerOptions(max_windows=MOST_WINDOWS, truncate_question=True)
        self.options = window.within(self.manifest.max_length, self.manifest.overlap)
        config = json.loads((Path(folder) / "config.json").read_bytes())
        padding_id = config.get("pad_token_id")
        self._padding_id = padding_id if type(padding_id) is int and 0 <= padding_id < model.vocab_size else 0

    @property
    def input_names(self) -> tuple[str, ...]:
        """The graph's inputs."""
        segments = ("token_type_ids",) if self.manifest.model.segment_ids else ()
        return ("input_ids", "attention_mask", *segments)

    def pair(self, question: str, context: str) -> EncodedPair:
        """Encode one question and its context.

        Raises:
            InputError: A text is unusable, or they make more than ``MOST_WINDOWS`` windows.
        """
        (pair,) = self._encoder.encode([question], [context], self.options)
        return pair

    def inputs(self, pair: EncodedPair) -> dict[str, NDArray[np.int64]]:
        """Lay a pair's windows out as the graph's inputs. *Shape:* ``(windows, length)`` each."""
        rows = pad(pair.windows, self.input_names, self._padding_id)
        longest = rows["input_ids"].shape[1]
        room = self.manifest.model.max_positions
        width = min(math.ceil(longest / LENGTH_STEP) * LENGTH_STEP, room) - longest
        filled = {"input_ids": self._padding_id}
        return {
            name: np.pad(array, ((0, 0), (0, width)), constant_values=filled.get(name, 0))
            for name, array in rows.items()
        }

    def answers(
        self, pair: EncodedPair, starts: NDArray[np.float32], ends: NDArray[np.float32]
    ) -> dict[str, Any]:
        """Decode the graph's logits, *shape* ``(windows, length)`` each, as ``Prediction.to_dict``."""
        lengths = [len(window.input_ids) for window in pair.windows]
        (prediction,) = decode_squad(
            [pair],
            [[row[:length] for row, length in zip(starts, lengths, strict=True)]],
            [[row[:length] for row, length in zip(ends, lengths, strict=True)]],
            self.options,
            threshold=self.manifest.no_answer.threshold,
            confidence=self.manifest.confidence,
        )
        return prediction.to_dict()


class _PythonModel(ABC):
    """The part of a Python model that both have: one request after the other, each with its own error."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read what lies beside ``model.py``."""
        import triton_python_backend_utils as pb_utils

        self._triton = pb_utils
        self._part = QuestionPart(Path(args["model_repository"]) / args["model_version"])

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer a batch of requests; one that is unusable gets an error and spoils no other."""
        return [self._answered(self._response, request) for request in requests]

    def _answered(self, respond: Callable[[Any], Sequence[Any]], request: Any) -> Any:
        triton = self._triton
        try:
            return triton.InferenceResponse(output_tensors=list(respond(request)))
        except FastSpanError as error:
            return triton.InferenceResponse(output_tensors=[], error=triton.TritonError(str(error)))

    @abstractmethod
    def _response(self, request: Any) -> Sequence[Any]:
        """Return the output tensors for a request."""

    def _array(self, request: Any, name: str) -> NDArray[Any]:
        found: NDArray[Any] = self._triton.get_input_tensor_by_name(request, name).as_numpy()
        return found

    def _pair(self, request: Any) -> EncodedPair:
        return self._part.pair(*(self._text(request, name) for name in ("question", "context")))

    def _text(self, request: Any, name: str) -> str:
        values = self._array(request, name).reshape(-1)
        if len(values) != 1:
            raise InputError(
                f"{name} must hold one text, not {len(values)}: send a request for each question."
            )
        value = values[0]
        try:
            return value.decode("utf-8") if isinstance(value, bytes) else str(value)
        except UnicodeDecodeError as error:
            raise InputError(f"{name} is not UTF-8 ({error}).") from error


class Encode(_PythonModel):
    """``question`` and ``context`` to the graph's inputs."""

    def _response(self, request: Any) -> Sequence[Any]:
        inputs = self._part.inputs(self._pair(request))
        return [self._triton.Tensor(name, array) for name, array in inputs.items()]


class Decode(_PythonModel):
    """The logits, with the texts, to an answer."""

    def _response(self, request: Any) -> Sequence[Any]:
        pair = self._pair(request)
        found = self._part.answers(
            pair, self._array(request, "start_logits"), self._array(request, "end_logits")
        )
        best = found["answer"]
        tensor = self._triton.Tensor
        return [
            tensor("answer", np.array([(best["text"] if best else "").encode()], np.object_)),
            tensor("start", np.array([best["start"] if best else -1], np.int32)),
            tensor("end", np.array([best["end"] if best else -1], np.int32)),
            tensor("prediction", np.array([json.dumps(found).encode()], np.object_)),
        ]
