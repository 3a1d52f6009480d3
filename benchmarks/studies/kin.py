"""Architectures of the same kin as BERT: how near their exports are to PyTorch, and how fast they run.

``python -m fastspan.benchmarks.studies.kin`` writes ``kin.md`` into the results of this kind of CPU. Each has
the true geometry of a published model and random weights, which change neither speed nor whether a graph is
the model. All go through the traced route (optimum); BERT-large has a lowering of our own too. PyTorch and
the graphs run in turns, in one process, on the same window of random tokens.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastspan.benchmarks.paths import ROOT
from fastspan.benchmarks.reporting.document import NONE, Block, Heading, Paragraph, Table, markdown
from fastspan.benchmarks.reporting.files import write_text
from fastspan.benchmarks.reporting.machine import describe_machine
from fastspan.benchmarks.speed.machine.environment import results_folder
from fastspan.bundle.variants import Graph, Variant
from fastspan.errors import FastSpanError, MissingDependency
from fastspan.export.checkpoint.reader import read_checkpoint
from fastspan.export.traced.route import lower_with_optimum
from fastspan.export.verification.pytorch_reference import load_model, model_logits
from fastspan.machine.cpu import cpu_features, usable_cores
from fastspan.runtime.providers import import_onnxruntime

__all__ = ["KIN", "Family", "Measured", "main", "measure", "table"]

_SEED = 7
_WINDOWS = 3
_FEWEST_ROUNDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A model that is made with random weights.

    Attributes:
        name: The published model whose geometry it has.
        model_type: As transformers has it.
        settings: Where its configuration differs from transformers' default for the type.
        lacks: What a lowering of our own would have to do, which the traced graph does not.
    """

    name: str
    model_type: str
    settings: dict[str, Any] = field(default_factory=dict)
    lacks: str


_DEBERTA_V3 = {
    "vocab_size": 128100,
    "type_vocab_size": 0,
    "relative_attention": True,
    "position_buckets": 256,
    "max_relative_positions": -1,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "layer_norm_eps": 1e-7,
}
_ALBERT_BASE = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}

KIN = (
    Family(
        name="mobilebert-uncased",
        model_type="mobilebert",
        lacks="bottlenecks, stacked feed-forward layers and norms without a mean in the description of an "
        "encoder, and in the int8 kernels",
    ),
    Family(
        name="albert-base-v2",
        model_type="albert",
        settings=_ALBERT_BASE,
        lacks="one layer's weights shared by all in the description of an encoder; the kernels could stay",
    ),
    Family(
        name="deberta-v3-base",
        model_type="deberta-v2",
        settings=_DEBERTA_V3,
        lacks="attention with relative positions, in the description and as a part of the int8 kernels",
    ),
    Family(
        name="mpnet-base",
        model_type="mpnet",
        settings={"vocab_size": 30527, "max_position_embeddings": 514},
        lacks="a bias of attention by bucketed distance, added once for all layers",
    ),
    Family(
        name="bert-large-uncased",
        model_type="bert",
        settings={
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "intermediate_size": 4096,
        },
        lacks="nothing: an export takes our own lowering; this row is the traced route's",
    ),
)
"""What is measured. Settings that are not given are the default of transformers' configuration."""


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


def measure(family: Family, *, layers: int | None, length: int, seconds: float, threads: int) -> Measured:
    """Make a model, export it, compare it with PyTorch and time both in turns.

    Args:
        family: What to make.
        layers: How many layers; None: as many as the published model.
        length: Tokens of a window.
        seconds: How long to time.
        threads: Threads to compute with.
    """
    with tempfile.TemporaryDirectory(prefix="fastspan-kin-") as name:
        folder = Path(name)
        parameters = _save(family, folder / "checkpoint", layers)
        try:
            checkpoint = read_checkpoint(folder / "checkpoint")
            variants = lower_with_optimum(
                checkpoint, folder / "onnx", ("fp32", "int8"), lambda step: _tell(f"  {step}")
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
    import torch
    import transformers

    settings = family.settings | ({} if layers is None else {"num_hidden_layers": layers})
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.manual_seed(_SEED)
        config = transformers.CONFIG_MAPPING[family.model_type].from_dict(dict(settings))
        model = transformers.AutoModelForQuestionAnswering.from_config(config, attn_implementation="eager")
        model.save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())


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


def table(found: Sequence[Measured]) -> Table:
    """Lay results out, a row a family."""
    lacks = {family.name: family.lacks for family in KIN}
    rows: list[tuple[str, ...]] = []
    for each in found:
        if each.fault:
            rows.append((each.name, NONE, NONE, NONE, NONE, NONE, NONE, each.fault))
            continue
        rows.append(
            (
                each.name,
                f"{each.parameters / 1e6:.0f} M, {each.layers} layers",
                *(f"{each.differences[name]:.1e}" for name in ("fp32", "int8")),
                *(f"{1000 * each.seconds[name]:.1f} ms" for name in ("PyTorch fp32", "fp32", "int8")),
                lacks[each.name],
            )
        )
    header = (
        *("model", "size", "fp32: difference", "int8: difference", "PyTorch fp32", "fp32", "int8"),
        "to be as fast as BERT it would need",
    )
    return Table(header, rows, texts=2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure every family and write the page; return 1 on an error."""
    parser = argparse.ArgumentParser(
        prog="python -m fastspan.benchmarks.studies.kin", description=(__doc__ or "").partition("\n")[0]
    )
    names = [family.name for family in KIN]
    add = parser.add_argument
    add("--families", default=",".join(names), help="which, with commas (default: all)")
    add("--layers", type=int, help="so many layers, for a trial (default: as published)")
    add("--length", type=int, default=128, help="tokens of a window (default: %(default)s)")
    add("--seconds", type=float, default=20.0, help="time each family so long (default: %(default)s)")
    add("--threads", type=int, help="threads to compute with (default: the cores this process may use)")
    add(
        "--out",
        type=Path,
        default=results_folder(ROOT / "benchmarks" / "results", "cpu"),
        help="folder for kin.md and kin.json (default: that of this kind of CPU in benchmarks/results)",
    )
    options = parser.parse_args(arguments)
    chosen = options.families.split(",")
    if unknown := set(chosen) - set(names):
        parser.error(f"no family {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    threads = options.threads or usable_cores()
    try:
        import torch

        torch.set_num_threads(threads)
        found = []
        for family in KIN:
            if family.name in chosen:
                _tell(family.name)
                found.append(
                    measure(
                        family,
                        layers=options.layers,
                        length=options.length,
                        seconds=options.seconds,
                        threads=threads,
                    )
                )
                gc.collect()
    except ImportError as error:
        _tell(f"error: {error}: run pip install 'fastspan[optimum]'")
        return 1
    except FastSpanError as error:
        _tell(f"error: {error}")
        return 1
    machine = describe_machine(("fastspan", "onnxruntime", "torch", "transformers", "optimum-onnx"))
    record = {"length": options.length, "machine": machine, "families": [asdict(each) for each in found]}
    write_text(options.out / "kin.json", f"{json.dumps(record, indent=2)}\n")
    page = options.out / "kin.md"
    write_text(page, markdown(_page(found, options.length, options.layers, threads, machine)))
    print(page)
    return 0


def _page(
    found: Sequence[Measured], length: int, layers: int | None, threads: int, machine: dict[str, str]
) -> list[Block]:
    cut = f" A trial: every model has {layers} layers only." if layers is not None else ""
    return [
        Heading(1, "Kin of BERT through the traced route"),
        Paragraph(
            f"Random weights, published models' geometry; one window of {length} tokens, {threads} "
            "threads, medians of runs in turns. A difference is the largest of a logit from PyTorch's, in "
            f"standard deviations of PyTorch's logits.{cut} Written by "
            "`python -m fastspan.benchmarks.studies.kin`."
        ),
        table(found),
        Heading(2, "Environment"),
        Table(("", ""), list(machine.items()), texts=2),
    ]


def _tell(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
