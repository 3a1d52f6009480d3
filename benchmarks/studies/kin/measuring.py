"""A model of random weights: made, exported through the traced route, compared with PyTorch, and timed."""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastspan.benchmarks.studies.kin.families import Family
from fastspan.bundle.variants import Graph, Variant
from fastspan.errors import FastSpanError, MissingDependency
from fastspan.export.checkpoint.reader import read_checkpoint
from fastspan.export.traced.route import lower_with_optimum
from fastspan.export.verification.pytorch_reference import load_model, model_logits
from fastspan.machine.cpu import cpu_features
from fastspan.runtime.providers import import_onnxruntime

__all__ = ["Measured", "measure", "random_model"]

_SEED = 7
_WINDOWS = 3
_FEWEST_ROUNDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A family's results.

    Attributes:
        name: The family.
        layers: How many layers it had here.
        parameters: How many numbers it is made of.
        differences: Variant → largest difference of a logit from PyTorch's, in standard deviations of these.
        seconds: System → median of its runs.
        fault: Why there is nothing of these; empty where there is.
    """

    name: str
    layers: int = 0
    parameters: int = 0
    differences: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    fault: str = ""


def measure(
    family: Family,
    *,
    layers: int | None,
    length: int,
    seconds: float,
    threads: int,
    say: Callable[[str], None],
) -> Measured:
    """Make a model, export it, compare it with PyTorch and time both in turns.

    Args:
        family: What to make.
        layers: How many layers; None: as many as the published model.
        length: Tokens of a window.
        seconds: How long to time.
        threads: Threads to compute with.
        say: Told how far the export is.
    """
    with tempfile.TemporaryDirectory(prefix="fastspan-kin-") as name:
        folder = Path(name)
        parameters = _save(family, folder / "checkpoint", layers)
        try:
            checkpoint = read_checkpoint(folder / "checkpoint")
            variants = lower_with_optimum(
                checkpoint, folder / "onnx", ("fp32", "int8"), lambda step: say(f"  {step}")
            )
            model = load_model(checkpoint)
        except MissingDependency:
            raise
        except FastSpanError as error:
            return Measured(name=family.name, parameters=parameters, fault=str(error))
        size, kept = int(checkpoint.config["vocab_size"]), int(checkpoint.config["num_hidden_layers"])
        windows = [_window(size, length, seed) for seed in range(_WINDOWS)]
        expected = [model_logits(model, _taken(model, window)) for window in windows]
        runs: dict[str, Callable[[], Any]] = {
            "PyTorch fp32": partial(model_logits, model, _taken(model, windows[0]))
        }
        differences: dict[str, float] = {}
        for variant in variants:
            run = _session(folder, variant, threads)
            differences[variant.name] = max(
                float(np.abs(run(window) - wanted).max() / wanted.std())
                for window, wanted in zip(windows, expected, strict=True)
            )
            runs[variant.name] = partial(run, windows[0])
        return Measured(
            name=family.name,
            layers=kept,
            parameters=parameters,
            differences=differences,
            seconds=_in_turns(runs, seconds),
        )


def _save(family: Family, folder: Path, layers: int | None) -> int:
    """Write a random checkpoint, and return how many parameters it has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = random_model(family, layers)
        model.save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())


def random_model(family: Family, layers: int | None) -> Any:
    """Return a PyTorch model of the family's geometry with random weights, the same ones each time.

    Args:
        family: Whose geometry.
        layers: How many layers; None: as published.
    """
    import torch
    import transformers

    settings = family.settings | ({} if layers is None else {"num_hidden_layers": layers})
    config = transformers.CONFIG_MAPPING[family.model_type].from_dict(dict(settings))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        return transformers.AutoModelForQuestionAnswering.from_config(config, attn_implementation="eager")


def _window(size: int, length: int, seed: int) -> dict[str, npt.NDArray[np.int64]]:
    draw = np.random.default_rng(seed)
    ids = draw.integers(5, size, (1, length))
    segments = (np.arange(length) >= length // 4).astype(np.int64)[None]
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": segments}


def _taken(model: Any, window: dict[str, Any]) -> dict[str, Any]:
    """Leave out what a model has no input for."""
    knows_segments = getattr(model.config, "type_vocab_size", 0) and model.config.model_type != "mpnet"
    return window if knows_segments else {k: v for k, v in window.items() if k != "token_type_ids"}


def _session(folder: Path, variant: Variant, threads: int) -> Callable[[dict[str, Any]], Any]:
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    dot_product = cpu_features().int8_dot_product is not None
    graph: Graph = variant.graph_for("cpu", dot_product=dot_product)
    session = runtime.InferenceSession(str(folder / graph.file), options, providers=["CPUExecutionProvider"])
    return lambda window: np.stack(
        session.run(["start_logits", "end_logits"], {name: window[name] for name in graph.inputs})
    )


def _in_turns(runs: dict[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    began = time.perf_counter()
    while len(times["fp32"]) < _FEWEST_ROUNDS or time.perf_counter() - began < seconds:
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken) for name, taken in times.items()}
