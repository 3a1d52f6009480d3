"""Where the time of a run goes, operator by operator, by ONNX Runtime's own profiler.

``python -m fastspan.benchmarks.studies.graphs.operators`` writes ``operators.md`` into the results of this
kind of CPU. The sessions are the engine's, with its options; the profiler adds some microseconds an operator,
so what counts are the shares.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastspan.benchmarks.paths import ROOT
from fastspan.benchmarks.reporting.document import Block, Heading, Paragraph, Table, markdown
from fastspan.benchmarks.reporting.files import write_text
from fastspan.benchmarks.reporting.machine import describe_machine
from fastspan.benchmarks.speed.machine.environment import results_folder
from fastspan.benchmarks.speed.models.measured import bundled_model, random_model
from fastspan.bundle.folder import Bundle
from fastspan.bundle.variants import VariantName
from fastspan.errors import DataError, FastSpanError, InputError
from fastspan.machine.cpu import cpu_features, usable_cores
from fastspan.options import AnswerOptions
from fastspan.runtime.session import OnnxSession, SessionSettings
from fastspan.text.encoder import Encoder
from fastspan.tuning.sample_texts import questions_of

__all__ = ["main", "operator_seconds", "operator_table", "profiled"]

_LENGTHS = (32, 128, 384)
_VARIANTS: tuple[VariantName, ...] = ("fp32", "int8")
_REST = "between operators"
# Operators below this share of every length's time are given together.
_WORTH_A_ROW = 0.01
_OTHERS = "others"


def _with_profiler(options: Any) -> None:
    options.enable_profiling = True
    options.profile_file_prefix = str(Path(tempfile.gettempdir()) / "fastspan-operators")


def _protocol(session: OnnxSession) -> list[dict[str, Any]]:
    """End a session's protocol of its runs and return its events."""
    path = Path(session.loaded.session().end_profiling())
    try:
        events: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    finally:
        path.unlink()
    return events


def profiled(folder: Path, variant: VariantName, length: int, *, runs: int, threads: int) -> dict[str, float]:
    """Run windows of one length through a bundle's variant on the CPU.

    Args:
        folder: The bundle.
        variant: Which variant.
        length: Tokens of the window, or a few less.
        runs: How many runs count; as many go before them.
        threads: Threads that a run computes with.

    Returns:
        As ``operator_seconds``.

    Raises:
        BundleError: The bundle cannot be used or has no graph of the variant for CPUs.
        InputError: ``runs`` is not above 0.
        InferenceError: ONNX Runtime cannot run it.
    """
    if runs < 1:
        raise InputError(f"runs must be at least 1, not {runs}.")
    bundle = Bundle.open(folder)
    graph = bundle.manifest.variants[variant].graph_for(
        "cpu", dot_product=cpu_features().int8_dot_product is not None
    )
    settings = SessionSettings(provider="CPUExecutionProvider", threads=threads, spinning=True)
    session = OnnxSession(bundle.folder, graph, settings, prepare=_with_profiler)
    encoder, max_length = Encoder.of_bundle(bundle), bundle.manifest.max_length
    ((question, context),) = questions_of(encoder, [length], max_length)
    (pair,) = encoder.encode([question], [context], AnswerOptions(max_length=max_length, overlap=0))
    for _ in range(2 * runs):
        session.run(pair.windows[:1])
    return operator_seconds(_protocol(session), runs)


def operator_seconds(events: Iterable[Mapping[str, Any]], runs: int) -> dict[str, float]:
    """Sum the operators' times of each run, and take the median over the last runs.

    Args:
        events: ONNX Runtime's protocol. An operator's event comes before that of the run it is part of.
        runs: How many runs, from the end, count.

    Returns:
        Operator → seconds of a run, the longest first; and what passed between operators.

    Raises:
        DataError: The protocol holds fewer runs.
    """
    found: list[dict[str, float]] = []
    current: dict[str, float] = {}
    for event in events:
        if event.get("cat") == "Node" and "op_name" in event.get("args", {}):
            name = event["args"]["op_name"]
            current[name] = current.get(name, 0.0) + event["dur"] / 1e6
        elif event.get("name") == "model_run":
            current[_REST] = max(0.0, event["dur"] / 1e6 - sum(current.values()))
            found.append(current)
            current = {}
    if len(found) < runs:
        raise DataError(f"ONNX Runtime's protocol holds {len(found)} runs, not {runs}.")
    names = {name for run in found[-runs:] for name in run}
    medians = {name: float(np.median([run.get(name, 0.0) for run in found[-runs:]])) for name in names}
    return dict(sorted(medians.items(), key=lambda item: (item[0] == _REST, -item[1])))


def operator_table(by_length: Mapping[int, Mapping[str, float]]) -> Table:
    """One row an operator, a column a length: milliseconds, and the share of the whole."""
    totals = {length: sum(seconds.values()) for length, seconds in by_length.items()}
    rows: dict[str, dict[int, float]] = {}
    for length, seconds in reversed(list(by_length.items())):
        for name, spent in seconds.items():
            worth = any(
                given.get(name, 0.0) >= _WORTH_A_ROW * totals[other] for other, given in by_length.items()
            )
            row = rows.setdefault(name if worth else _OTHERS, {})
            row[length] = row.get(length, 0.0) + spent
    return Table(
        headers=("operator", *(f"{length} tokens, ms" for length in by_length)),
        rows=[
            (
                name,
                *(
                    f"{1e3 * row.get(length, 0.0):.2f} ({row.get(length, 0.0) / totals[length]:.0%})"
                    for length in by_length
                ),
            )
            for name, row in sorted(rows.items(), key=lambda item: (item[0] == _REST, item[0] == _OTHERS))
        ]
        + [("all", *(f"{1e3 * totals[length]:.2f}" for length in by_length))],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Profile and write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m fastspan.benchmarks.studies.graphs.operators",
        description=(__doc__ or "").replace("`", ""),
    )
    add = parser.add_argument
    add("bundles", nargs="*", type=Path, help="bundles' folders (default: those that make bench measures)")
    add("--runs", type=int, default=15, help="runs that count, of each length (default: %(default)s)")
    add(
        "--out",
        type=Path,
        default=results_folder(ROOT / "benchmarks" / "results", "cpu"),
        help="folder for operators.md (default: that of this kind of CPU in benchmarks/results)",
    )
    options = parser.parse_args(arguments)
    try:
        if options.bundles:
            bundles = {Bundle.open(folder).manifest.name: folder for folder in options.bundles}
        else:
            bundles = {model.name: model.bundle for model in (bundled_model(), random_model(_VARIANTS))}
        page = options.out / "operators.md"
        write_text(page, markdown(_page(bundles, options.runs)))
    except FastSpanError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(page)
    return 0


def _page(bundles: Mapping[str, Path], runs: int) -> list[Block]:
    threads = usable_cores()
    blocks: list[Block] = [
        Heading(1, "Where the time of a run goes"),
        Paragraph(
            "Milliseconds of `session.run` by operator and their share of it, medians of "
            f"{runs} runs of one window, {threads} threads, by ONNX Runtime's profiler. Written by "
            "`python -m fastspan.benchmarks.studies.graphs.operators`."
        ),
    ]
    for name, folder in bundles.items():
        manifest = Bundle.open(folder).manifest
        for variant in _VARIANTS:
            if variant in manifest.variants:
                blocks.append(Heading(2, f"{name}, {variant}"))
                blocks.append(
                    operator_table(
                        {
                            length: profiled(folder, variant, length, runs=runs, threads=threads)
                            for length in _LENGTHS
                            if length <= manifest.max_length
                        }
                    )
                )
    machine = describe_machine(("fastspan", "onnxruntime", "numpy"))
    return [*blocks, Heading(2, "Environment"), Table(("", ""), list(machine.items()), texts=2)]


if __name__ == "__main__":
    sys.exit(main())
