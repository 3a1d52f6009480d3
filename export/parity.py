"""Does an exported graph answer as its checkpoint does? Measured on real questions before publishing."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastspan.decoding.squad import decode_squad
from fastspan.export.checkpoint import read_checkpoint
from fastspan.export.optimum_trace import load_model
from fastspan.export.third_party import undisturbed
from fastspan.options import AnswerOptions
from fastspan.runtime.batching import plan_equal_lengths
from fastspan.runtime.session import Session
from fastspan.runtime.workers import by_pair
from fastspan.text.encoder import EncodedPair, Encoder, Window

__all__ = [
    "FEWEST_QUESTIONS",
    "GATES",
    "Comparison",
    "Gate",
    "Logits",
    "compare",
    "encode",
    "has_pytorch",
    "logits_of",
    "questions",
    "torch_logits",
]

FEWEST_QUESTIONS = 24
_OLDEST_TRANSFORMERS = (4, 56)  # the first that knows the argument ``dtype``
_SHORT_CONTEXT = 1200  # characters; such a context and its question fit into one window

Logits = list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]


@dataclass(frozen=True, slots=True)
class Gate:
    """What a variant must reach to be published.

    Attributes:
        largest_difference: Largest allowed difference of a logit, None where it is not asked.
        equal_answers: Smallest allowed share of questions with the same answer, None where it is not asked.
    """

    largest_difference: float | None
    equal_answers: float | None

    def passed(self, comparison: Comparison) -> bool:
        """Whether the comparison meets the gate."""
        if self.largest_difference is not None and not (
            comparison.largest_difference <= self.largest_difference
        ):
            return False
        return self.equal_answers is None or comparison.equal_answers >= self.equal_answers

    def __str__(self) -> str:
        demands = []
        if self.largest_difference is not None:
            demands.append(f"logits within {self.largest_difference:g}")
        if self.equal_answers is not None:
            demands.append(f"at least {self.equal_answers:.1%} equal answers")
        return ", ".join(demands)


# Of two spans that tie within fp32's last digits an exact export may pick the other one, so fp32 is held
# to its logits alone.
GATES = {"fp32": Gate(1e-4, None), "fp16": Gate(None, 0.995), "int8": Gate(None, 0.95)}


@dataclass(frozen=True, slots=True)
class Comparison:
    """How one graph differs from its reference.

    Attributes:
        largest_difference: Largest absolute difference of a logit.
        equal_answers: Share of the questions with the same answer, in [0, 1].
        windows: Windows compared.
        questions: Questions compared.
    """

    largest_difference: float
    equal_answers: float
    windows: int
    questions: int


def questions() -> list[tuple[str, str]]:
    """The project's own evaluation questions with their contexts.

    The first question of every passage comes first, then the second …; but one question whose context
    needs several windows leads, and the others of that kind come last.
    """
    file = resources.files("fastspan.benchmarks") / "data" / "fastspan-eval.json"
    passages = [
        [(qa["question"], paragraph["context"]) for qa in paragraph["qas"]]
        for article in json.loads(file.read_text(encoding="utf-8"))["data"]
        for paragraph in article["paragraphs"]
    ]
    rounds = range(max(map(len, passages)))
    spread = [passage[turn] for turn in rounds for passage in passages if turn < len(passage)]
    short = [pair for pair in spread if len(pair[1]) <= _SHORT_CONTEXT]
    long = [pair for pair in spread if len(pair[1]) > _SHORT_CONTEXT]
    return [*long[:1], *short, *long[1:]]


def logits_of(session: Session, pairs: Sequence[EncodedPair], step: Callable[[], None]) -> Logits:
    """Run every window of ``pairs``, one at a time, as the engine runs them alone.

    Args:
        session: The graph.
        pairs: Encoded questions.
        step: Called after each window.
    """
    found = []
    for window in _windows(pairs):
        start, end = session.run([window])
        found.append((start[0], end[0]))
        step()
    return found


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
) -> Logits:
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
) -> Logits:
    import torch

    windows = list(_windows(pairs))
    found: Logits = [(np.empty(0, np.float32), np.empty(0, np.float32))] * len(windows)
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


def compare(pairs: Sequence[EncodedPair], reference: Logits, found: Logits) -> Comparison:
    """Compare two sets of logits over the same windows, and the answers they decode to."""
    largest = 0.0
    for one, other in zip(reference, found, strict=True):
        for a, b in zip(one, other, strict=True):
            difference = float(np.abs(a - b).max())
            # max() would drop a NaN; a graph that yields one must fail every gate.
            largest = difference if np.isnan(difference) else max(largest, difference)
            if np.isnan(largest):
                return Comparison(float("nan"), 0.0, len(reference), len(pairs))
    equal = [
        one == other for one, other in zip(_answers(pairs, reference), _answers(pairs, found), strict=True)
    ]
    return Comparison(largest, float(np.mean(equal)), len(reference), len(pairs))


def encode(
    encoder: Encoder, tokens: int, max_length: int, overlap: int, *, fewest: int = FEWEST_QUESTIONS
) -> list[EncodedPair]:
    """Encode verification questions.

    Args:
        encoder: The bundle's.
        tokens: About how many tokens the windows may hold together.
        max_length: Longest window.
        overlap: Context tokens that neighbouring windows share.
        fewest: Never fewer questions than these are taken, however many tokens they have.
    """
    texts = questions()
    options = AnswerOptions(max_length=max_length, overlap=overlap, truncate_question=True)
    pairs = encoder.encode([question for question, _ in texts], [context for _, context in texts], options)
    sizes = [sum(len(window.input_ids) for window in pair.windows) for pair in pairs]
    affordable = int(np.searchsorted(np.cumsum(sizes), tokens, side="right"))
    return pairs[: max(fewest, affordable)]


def _windows(pairs: Sequence[EncodedPair]) -> Iterable[Window]:
    return (window for pair in pairs for window in pair.windows)


def _answers(pairs: Sequence[EncodedPair], logits: Logits) -> list[tuple[int, int] | None]:
    """Where each question's answer stands, None for none, at threshold 0."""
    starts, ends = (by_pair(pairs, [window[side] for window in logits]) for side in (0, 1))
    predictions = decode_squad(pairs, starts, ends, AnswerOptions(), threshold=0.0)
    return [(p.answer.start, p.answer.end) if p.answer else None for p in predictions]
