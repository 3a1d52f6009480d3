"""How fast the int8 kernels are on each instruction set that this CPU has, and where their time goes.

``python -m fastspan.benchmarks.studies.kernels.paths`` writes ``kernel_paths.md`` into the results of this
kind of CPU. Every path is measured in turns with the plain int8 graph and the fp32 graph, in one process.
ONNX Runtime chooses the instructions of these two by itself and cannot be told to take older ones: on a CPU
with VNNI their times are VNNI's, whatever path stands beside them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from fastspan.benchmarks.paths import ROOT
from fastspan.benchmarks.reporting.document import NONE, Block, Heading, Paragraph, Table, markdown
from fastspan.benchmarks.reporting.files import write_text
from fastspan.benchmarks.reporting.machine import describe_machine
from fastspan.benchmarks.speed.interleaving import balanced_order
from fastspan.benchmarks.speed.machine.environment import results_folder
from fastspan.benchmarks.speed.models.measured import SpeedModel, bundled_model, random_model
from fastspan.benchmarks.studies.kernels.stages import STAGES, CountingKernels, counting_kernels
from fastspan.bundle.folder import Bundle
from fastspan.bundle.variants import Graph
from fastspan.errors import FastSpanError, MissingDependency
from fastspan.kernels import paths, unavailable_reason
from fastspan.machine.cpu import usable_cores
from fastspan.options import AnswerOptions
from fastspan.runtime.graph_inputs import join
from fastspan.runtime.kernel_session import KernelSession
from fastspan.runtime.session import OnnxSession, SessionSettings
from fastspan.text.encoder import Encoder, Window
from fastspan.tuning.sample_texts import questions_of

__all__ = ["in_turns", "main", "path_table", "stage_table"]

_LENGTHS = (32, 128, 384)
_PLAIN, _FP32 = "plain int8 graph", "fp32 graph"


def in_turns(calls: Mapping[str, Callable[[], object]], rounds: int, runs: int = 3) -> dict[str, float]:
    """Return the median seconds of each call, all called in turns; a turn's first run does not count."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for number in range(rounds):
        for place in balanced_order(len(names), number):
            calls[names[place]]()
            for _ in range(runs):
                began = time.perf_counter()
                calls[names[place]]()
                taken[names[place]].append(time.perf_counter() - began)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def path_table(
    by_length: Mapping[int, Mapping[str, float]], operations: Mapping[int, float], peaks: Mapping[str, float]
) -> Table:
    """One row a path or graph: milliseconds, how many times as fast as the two graphs, share of its peak.

    Args:
        by_length: Tokens → name → seconds.
        operations: Tokens → operations of a run.
        peaks: Path → operations a second; a path without a peak has no share.
    """
    names = list(next(iter(by_length.values())))
    rows = []
    for name in names:
        cells = [name]
        for length, seconds in by_length.items():
            own = seconds[name]
            is_path = name not in (_PLAIN, _FP32)
            cells += [
                f"{1e3 * own:.2f}",
                f"{seconds[_PLAIN] / own:.2f}" if is_path else NONE,
                f"{seconds[_FP32] / own:.2f}",
                f"{operations[length] / own / peaks[name]:.0%}" if peaks.get(name) else NONE,
            ]
        rows.append(cells)
    headers = ["path"]
    for length in by_length:
        headers += [f"{length} tokens, ms", "plain int8 ÷ it", "fp32 ÷ it", "of its peak"]
    return Table(headers, rows)


def stage_table(shares: Mapping[tuple[str, int], Mapping[str, float]]) -> Table:
    """One row a stage, one column a path and length: the stage's share of the time."""
    rows = [[stage, *(f"{of[stage]:.1%}" for of in shares.values())] for stage in STAGES]
    return Table(("stage", *(f"{path}, {length}" for path, length in shares)), rows)


def _sessions(folder: Path, threads: int) -> dict[str, OnnxSession]:
    variants = Bundle.open(folder).manifest.variants
    settings = SessionSettings(provider="CPUExecutionProvider", threads=threads, spinning=False)
    kernels_graph = _kernels_graph(folder)
    made: dict[str, OnnxSession] = {}
    for name in paths()[:-1] or paths():  # the portable path, which is last, is there to be compared with
        made[name] = KernelSession(folder, kernels_graph, settings, path=name)
    made[_PLAIN] = OnnxSession(folder, variants["int8"].graph_for("cpu"), settings)
    made[_FP32] = OnnxSession(folder, variants["fp32"].graph_for("cpu"), settings)
    return made


def _kernels_graph(folder: Path) -> Graph:
    graph = Bundle.open(folder).manifest.variants["int8"].graph_for("cpu", kernels=True)
    if graph.target != "cpu-kernels":
        raise MissingDependency(f"{folder} has no graph for the int8 kernels: export it again.")
    return graph


def _window(folder: Path, length: int) -> Window:
    bundle = Bundle.open(folder)
    encoder, max_length = Encoder.of_bundle(bundle), bundle.manifest.max_length
    ((question, context),) = questions_of(encoder, [length], max_length)
    (pair,) = encoder.encode([question], [context], AnswerOptions(max_length=max_length, overlap=0))
    return pair.windows[0]


def _blocks(
    model: SpeedModel, rounds: int, threads: int, counting: CountingKernels | None, peaks: Mapping[str, float]
) -> list[Block]:
    sessions = _sessions(model.bundle, threads)
    windows = {length: _window(model.bundle, length) for length in _LENGTHS}
    by_length = {
        length: in_turns({name: partial(session.run, [window]) for name, session in sessions.items()}, rounds)
        for length, window in windows.items()
    }
    operations = {length: model.flops([len(window.input_ids)]) for length, window in windows.items()}
    blocks: list[Block] = [Heading(2, model.name), path_table(by_length, operations, peaks)]
    if counting is None:
        return blocks
    graph = _kernels_graph(model.bundle)
    shares = {
        (path, length): counting.shares(
            model.bundle / graph.file, join([window], graph.inputs), path, threads=threads, runs=rounds
        )
        for path in sessions
        if path not in (_PLAIN, _FP32)
        for length, window in windows.items()
    }
    return [*blocks, stage_table(shares)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m fastspan.benchmarks.studies.kernels.paths",
        description=(__doc__ or "").replace("`", ""),
    )
    add = parser.add_argument
    add("--rounds", type=int, default=15, help="how often each path's turn comes (default: %(default)s)")
    add("--threads", type=int, default=usable_cores(), help="threads of a run (default: %(default)s)")
    add("--bundled", action="store_true", help="measure the bundled model alone")
    add(
        "--out",
        type=Path,
        default=results_folder(ROOT / "benchmarks" / "results", "cpu"),
        help="folder for kernel_paths.md (default: that of this kind of CPU in benchmarks/results)",
    )
    options = parser.parse_args(arguments)
    try:
        if (reason := unavailable_reason()) is not None:
            raise MissingDependency(f"Nothing to measure: {reason}.")
        models = [bundled_model()] if options.bundled else [bundled_model(), random_model(("fp32", "int8"))]
        page = options.out / "kernel_paths.md"
        write_text(page, markdown(_page(models, options.rounds, options.threads)))
    except FastSpanError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(page)
    return 0


def _page(models: Sequence[SpeedModel], rounds: int, threads: int) -> list[Block]:
    try:
        counting = counting_kernels()
    except MissingDependency as error:
        print(f"without peaks and stages: {error}", file=sys.stderr)
        counting = None
    peaks = {} if counting is None else {path: counting.peak(path, threads) for path in paths()}
    blocks: list[Block] = [
        Heading(1, "The int8 kernels, path by path"),
        Paragraph(
            f"Median milliseconds of a session's run of one window, {threads} threads, {rounds} rounds "
            "of turns of all rows; above 1 the kernels are faster. ONNX Runtime chooses the "
            "instructions of the two graphs by itself: on a CPU with VNNI the plain int8 graph uses "
            "them, so that a path without them is compared with more than a CPU without them has. A "
            "path's peak is what its own product reaches, on as many threads, where nothing waits for "
            "memory. Written by `python -m fastspan.benchmarks.studies.kernels.paths`."
        ),
        Table(
            ("path", "peak, 10⁹ operations a second"),
            [(path, f"{rate / 1e9:.0f}") for path, rate in peaks.items()],
        ),
        Paragraph(
            "Shares by stage are those of all threads' time, counted in a build of the kernels made for "
            "it. Counting costs time of its own, more the shorter what is counted. On AMX the floats of a "
            "product are made inside it."
        ),
    ]
    for model in models:
        blocks += _blocks(model, rounds, threads, counting, peaks)
    machine = describe_machine(("fastspan", "onnxruntime", "numpy"))
    return [*blocks, Heading(2, "Environment"), Table(("", ""), list(machine.items()), texts=2)]


if __name__ == "__main__":
    sys.exit(main())
