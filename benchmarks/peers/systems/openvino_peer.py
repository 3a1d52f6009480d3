"""OpenVINO between FastSpan's own encoding and decoding, so that only the runtime differs."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastspan.benchmarks.peers.protocol import MAX_ANSWER_TOKENS, MAX_LENGTH, OVERLAP, Job
from fastspan.benchmarks.questions.workloads import Workload
from fastspan.bundle.folder import Bundle
from fastspan.bundle.manifest import Model
from fastspan.decoding.squad import decode_squad
from fastspan.options import AnswerOptions
from fastspan.text.encoder import Encoder, Window

__all__ = ["OPTIONS", "OpenVinoPeer", "calibration_feeds", "feeds", "load", "logits"]

OPTIONS = AnswerOptions(
    max_length=MAX_LENGTH, overlap=OVERLAP, max_answer_length=MAX_ANSWER_TOKENS, truncate_question=True
)
_CHUNK = 64
_CALIBRATION_TEXTS = "calibration.jsonl"


class OpenVinoPeer:
    """A compiled graph: windows one by one, each at its own length, or several at once."""

    def __init__(
        self, encoder: Encoder, compiled: Any, queue: Any, threshold: float, description: dict[str, str]
    ) -> None:
        self._encoder = encoder
        self._request = compiled.create_infer_request()
        self._inputs = {name for port in compiled.inputs for name in port.names}
        self._queue = queue
        self._threshold = threshold
        self._description = description

    def describe(self) -> dict[str, str]:
        """Say what runs."""
        return self._description

    def prepare(self, workload: Workload) -> str:
        """Nothing to choose: a batch of one window is the fastest on CPUs."""
        return "1" if self._queue is None else f"1 × {len(self._queue)} at once"

    def run(self, workload: Workload) -> list[str]:
        """Encode, run and decode, as many pairs at a time as FastSpan takes."""
        answers = []
        for begin in range(0, len(workload.pairs), _CHUNK):
            answers += self._chunk(workload.pairs[begin : begin + _CHUNK])
        return answers

    def _chunk(self, texts: tuple[tuple[str, str], ...]) -> list[str]:
        pairs = self._encoder.encode([q for q, _ in texts], [c for _, c in texts], OPTIONS)
        windows = [window for pair in pairs for window in pair.windows]
        results = iter(self._one_by_one(windows) if self._queue is None else self._at_once(windows))
        found = [[next(results) for _ in pair.windows] for pair in pairs]
        predictions = decode_squad(
            pairs,
            [[start for start, _ in pair] for pair in found],
            [[end for _, end in pair] for pair in found],
            OPTIONS,
            threshold=self._threshold,
        )
        return ["" if p.answer is None else p.answer.text for p in predictions]

    def _one_by_one(self, windows: list[Window]) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        for window in windows:
            self._request.infer(feeds(window, self._inputs), share_inputs=True)
            yield logits(self._request)

    def _at_once(self, windows: list[Window]) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        results: list[Any] = [None] * len(windows)

        def keep(request: Any, index: int) -> None:
            """Called in one of the queue's threads when the run of window ``index`` is over."""
            results[index] = logits(request)

        self._queue.set_callback(keep)
        # Longest first, so that no long window is left for one thread at the end.
        for index in sorted(range(len(windows)), key=lambda i: -len(windows[i].input_ids)):
            self._queue.start_async(feeds(windows[index], self._inputs), index)
        self._queue.wait_all()
        return results


def load(job: Job) -> OpenVinoPeer:
    """Compile the bundle's interchange graph, quantized with NNCF the first time where int8 is asked for."""
    import openvino

    precision, throughput = job.options["precision"], job.options["optimize_for"] == "throughput"
    bundle = Bundle.open(job.bundle)
    encoder = Encoder.of_bundle(bundle)
    core = openvino.Core()
    if precision == "int8":
        model = core.read_model(_quantized(job, encoder))
    else:
        model = core.read_model(job.bundle / "onnx" / "model.onnx")
    settings = {
        "PERFORMANCE_HINT": "THROUGHPUT" if throughput else "LATENCY",
        "INFERENCE_NUM_THREADS": job.threads,
        # int8's own layers aside, everything else in fp32: what is compared is 8-bit against 8-bit.
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
    }
    compiled = core.compile_model(model, "CPU", settings)
    description = {
        "openvino": openvino.__version__,
        "encoding and decoding": "FastSpan's",
        "device": str(core.get_property("CPU", "FULL_DEVICE_NAME")),
        "inference precision": str(compiled.get_property("INFERENCE_PRECISION_HINT")),
        "streams": str(compiled.get_property("NUM_STREAMS")),
        "threads": str(compiled.get_property("INFERENCE_NUM_THREADS")),
    }
    queue = openvino.AsyncInferQueue(compiled) if throughput else None
    return OpenVinoPeer(encoder, compiled, queue, bundle.manifest.no_answer.threshold, description)


def feeds(window: Window, inputs: set[str]) -> dict[str, NDArray[np.int64]]:
    """A window as a batch of one, for a graph with these inputs."""
    ids = window.input_ids[None]
    given = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    return {**given, "token_type_ids": window.type_ids[None]} if "token_type_ids" in inputs else given


def logits(request: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Copy a request's logits, which its next run overwrites. *Shape:* ``(length,)`` each."""
    start, end = (request.get_tensor(name).data[0].copy() for name in ("start_logits", "end_logits"))
    return start, end


def _quantized(job: Job, encoder: Encoder) -> Path:
    """NNCF's post-training quantization for transformers, calibrated on the project's own texts."""
    import nncf
    import openvino

    folder = job.cache / f"openvino-int8-nncf-{nncf.__version__}"
    if not folder.is_dir():
        model = openvino.Core().read_model(job.bundle / "onnx" / "model.onnx")
        windows = calibration_feeds(job.bundle, encoder, model)
        quantized = nncf.quantize(
            model, nncf.Dataset(windows), model_type=nncf.ModelType.TRANSFORMER, subset_size=len(windows)
        )
        draft = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
        draft.mkdir(parents=True)
        openvino.save_model(quantized, draft / "model.xml", compress_to_fp16=False)
        draft.rename(folder)
    return folder / "model.xml"


def calibration_feeds(folder: Path, encoder: Encoder, model: Any) -> list[dict[str, NDArray[np.int64]]]:
    """The windows that NNCF observes a model on: of the texts that FastSpan's exporter observes it on.

    Args:
        folder: The bundle.
        encoder: Its encoder.
        model: Its graph, as OpenVINO read it.
    """
    inputs = {name for port in model.inputs for name in port.names}
    texts = _texts_for(Bundle.open(folder).manifest.model)
    return [feeds(window, inputs) for window in _calibration_windows(encoder, texts)]


def _texts_for(model: Model) -> int:
    """How many texts are affordable: those that FastSpan's exporter observes a model of this size on."""
    parameters = 12 * model.layers * model.hidden_size**2
    return min(64, max(16, 700_000_000 // parameters))


def _calibration_windows(encoder: Encoder, texts: int) -> list[Window]:
    text = resources.files("fastspan.export").joinpath("data", _CALIBRATION_TEXTS).read_text(encoding="utf-8")
    records = [json.loads(line) for line in text.splitlines() if line.strip()][:texts]
    pairs = encoder.encode(
        [record["question"] for record in records], [record["context"] for record in records], OPTIONS
    )
    return [window for pair in pairs for window in pair.windows]
