"""What each choice in the CPU graphs gives: the shipped graph against itself with one choice undone.

``python -m fastspan.benchmarks.studies.graphs.ablation`` writes ``ablation.md`` into the results of this kind
of CPU. All graphs of a precision are sampled in turns, so that what slows the machine slows them alike.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastspan.benchmarks.paths import ROOT
from fastspan.benchmarks.reporting.document import Block, Heading, Paragraph, Table, markdown
from fastspan.benchmarks.reporting.files import write_text
from fastspan.benchmarks.reporting.machine import describe_machine
from fastspan.benchmarks.speed.interleaving import balanced_order
from fastspan.benchmarks.speed.machine.environment import results_folder
from fastspan.benchmarks.speed.spread import ratio_spread
from fastspan.benchmarks.studies.graphs.ablation_graphs import UndoneChoice, fp32_choices, int8_choices
from fastspan.errors import FastSpanError
from fastspan.export.checkpoint.reader import read_checkpoint
from fastspan.export.checkpoint.source import resolve_source
from fastspan.export.graphs.builder import WeightFile
from fastspan.export.graphs.families import describe
from fastspan.machine.cpu import cpu_features, usable_cores
from fastspan.runtime.providers import import_onnxruntime

__all__ = ["compared", "main"]

_LENGTHS = (32, 128, 384)


def compared(choices: Sequence[UndoneChoice], *, threads: int, rounds: int, folder: Path) -> Table:
    """Run the graphs in turns and say how many times as long each takes as the first.

    Args:
        choices: The shipped graph, then the others.
        threads: Threads of a run.
        rounds: Rounds of every length.
        folder: Where weights may be written.
    """
    sessions = [session_of(choice, threads, folder / str(place)) for place, choice in enumerate(choices)]
    rows: list[list[str]] = [[choice.name] for choice in choices]
    for length in _LENGTHS:
        taken: list[dict[int, list[float]]] = [{} for _ in choices]
        for number in range(-1, rounds):  # the first is for the caches
            for place in balanced_order(len(choices), max(number, 0)):
                found = _times(sessions[place], length)
                if number >= 0:
                    taken[place][number] = found
        shipped = float(np.median([time for times in taken[0].values() for time in times]))
        rows[0].append(f"{shipped * 1e3:.2f} ms")
        for place in range(1, len(choices)):
            ratio = ratio_spread(taken[place], taken[0])
            rows[place].append(f"{ratio.estimate:.2f}× [{ratio.low:.2f}, {ratio.high:.2f}]")
    return Table(("graph", *(f"{length} tokens" for length in _LENGTHS)), rows)


def session_of(choice: UndoneChoice, threads: int, folder: Path) -> Any:
    folder.mkdir()
    with WeightFile(folder / "weights") as weights:
        model = choice.lower(weights).lower()
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads that spin after a run would take the cores from the next graph's.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return ort.InferenceSession(
        str(folder / "model.onnx"),
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=None if choice.fused_norms else ["SkipLayerNormFusion"],
    )


def _times(session: Any, length: int) -> list[float]:
    ids: npt.NDArray[np.int64] = np.random.default_rng(length).integers(5, 100, (1, length))
    values = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    feeds = {
        given.name: values[given.name].astype(np.int32 if "int32" in given.type else np.int64)
        for given in session.get_inputs()
    }
    found = []
    for number in range(4):
        began = time.perf_counter()
        session.run(None, feeds)
        if number:  # the first run finds another graph's weights in the caches
            found.append(time.perf_counter() - began)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the page."""
    description = (__doc__ or "").replace("`", "")
    parser = argparse.ArgumentParser(
        prog="python -m fastspan.benchmarks.studies.graphs.ablation", description=description
    )
    add = parser.add_argument
    add(
        "--checkpoint",
        default=str(ROOT / "models" / "minilm-l6-squad2"),
        help="a checkpoint's folder or hub id (default: the bundled one)",
    )
    add("--rounds", type=int, default=21, help="how often each graph's turn comes (default: %(default)s)")
    add(
        "--out",
        type=Path,
        default=results_folder(ROOT / "benchmarks" / "results", "cpu"),
        help="folder for ablation.md (default: that of this kind of CPU in benchmarks/results)",
    )
    options = parser.parse_args(arguments)
    try:
        page = options.out / "ablation.md"
        write_text(page, markdown(_page(options.checkpoint, options.rounds)))
    except FastSpanError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(page)
    return 0


def _page(source: str, rounds: int) -> list[Block]:
    from fastspan.export.int8.recipe import Int8Recipe
    from fastspan.text.encoder import Encoder as TextEncoder

    threads = usable_cores()
    checkpoint = read_checkpoint(resolve_source(source, None))
    encoder = describe(checkpoint.config, checkpoint.weights)
    texts = TextEncoder.from_folder(
        Path(source), segment_ids=encoder.takes_segment_ids, max_positions=encoder.max_positions
    )
    recipe = Int8Recipe()
    moved, quantized = recipe.quantize(encoder, recipe.observe(encoder, texts, threads))
    twice = [name for name, layer in quantized.items() if layer.passes == 2]
    unsigned = [name for name, layer in quantized.items() if not layer.paired]
    tables = []
    dot_product = cpu_features().int8_dot_product is not None
    for choices in (fp32_choices(encoder), int8_choices(moved, quantized, dot_product=dot_product)):
        with tempfile.TemporaryDirectory() as name:
            tables.append(compared(choices, threads=threads, rounds=rounds, folder=Path(name)))
    return [
        Heading(1, f"What each choice gives: {checkpoint.source}"),
        Paragraph(
            "The graph as shipped in milliseconds of `session.run`, the others as multiples of it, with 95% "
            f"bootstrap intervals over {rounds} rounds; one window, {threads} threads. Above 1: the choice "
            "pays. Written by `python -m fastspan.benchmarks.studies.graphs.ablation`."
        ),
        Heading(2, "fp32"),
        tables[0],
        Heading(2, "int8"),
        Paragraph(
            f"Of {len(quantized)} layers, second passes: {', '.join(twice) or 'none'}; weights as u8: "
            f"{', '.join(unsigned) or 'none'}. What is faster here and not shipped loses answers: see "
            "docs/performance.md."
        ),
        tables[1],
        Heading(2, "Environment"),
        Table(("", ""), list(describe_machine(("fastspan", "onnxruntime", "numpy")).items()), texts=2),
    ]


if __name__ == "__main__":
    sys.exit(main())
