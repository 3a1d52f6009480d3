"""How much memory a session on the CPU holds, and whether it grows, with ONNX Runtime's choices undone.

``python -m fastspan.benchmarks.studies.memory`` asks fp32, plain int8 and the int8 kernels questions of
random lengths, with ONNX Runtime's arena and its memory patterns on and off. Each has a process of its own;
they run in turns, and the others are stopped meanwhile. It writes ``memory.md`` and ``memory.json`` into
the results of this kind of CPU.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from fastspan.benchmarks.paths import ROOT
from fastspan.benchmarks.reporting.document import Block, Heading, Paragraph, Table, markdown
from fastspan.benchmarks.reporting.files import write_text
from fastspan.benchmarks.reporting.machine import describe_machine
from fastspan.benchmarks.speed.interleaving import balanced_order
from fastspan.benchmarks.speed.machine.environment import results_folder
from fastspan.benchmarks.speed.models.measured import bundled_model
from fastspan.benchmarks.speed.peer_process import PeerProcess
from fastspan.bundle.folder import Bundle
from fastspan.bundle.variants import Variant, VariantName
from fastspan.errors import FastSpanError, InputError
from fastspan.kernels import unavailable_reason
from fastspan.machine.cpu import usable_cores

__all__ = ["Memory", "main", "measured", "memory_table"]

_WORKER = "fastspan.benchmarks.studies.memory_worker"
_TURNS = 20
_MB = 1e6
# The graphs, as variant and whether FastSpan's own kernels run it.
_GRAPHS: tuple[tuple[str, VariantName, bool], ...] = (
    ("fp32", "fp32", False),
    ("int8, plain", "int8", False),
    ("int8, kernels", "int8", True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What one process held.

    Attributes:
        graph: What ran, for people.
        arena: Whether ONNX Runtime kept the memory of its runs for later ones.
        patterns: Whether it took the memory of a run in one piece where it knew the shapes.
        requests: Questions asked after the warm-up.
        warm: Resident bytes after the warm-up, which asked every length.
        end: Resident bytes after the last question.
        peak: The most resident bytes at any time, loading included.
        seconds: Median seconds of a question.
    """

    graph: str
    arena: bool
    patterns: bool
    requests: int
    warm: int
    end: int
    peak: int
    seconds: float


def measured(
    folder: Path, *, requests: int, threads: int, graphs: Sequence[tuple[str, VariantName, bool]] = _GRAPHS
) -> list[Memory]:
    """Ask a bundle's graphs so many questions each, with arena and memory patterns on and off.

    Args:
        folder: The bundle.
        requests: Questions for each.
        threads: Threads of a run.
        graphs: Name, variant, and whether the kernels run it.

    Raises:
        PeerError: A process fails.
        InputError: ``requests`` is not above 0.
    """
    if requests < 1:
        raise InputError(f"requests must be at least 1, not {requests}.")
    # The last turn is as long as the others or shorter.
    of_a_turn = -(-requests // _TURNS)
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        processes: list[PeerProcess] = []
        found: list[tuple[str, bool, bool]] = []
        for graph, variant, kernels in graphs:
            for arena, patterns in ((True, True), (True, False), (False, True), (False, False)):
                job = {
                    "bundle": str(folder),
                    "threads": threads,
                    "variant": variant,
                    "kernels": kernels,
                    "arena": arena,
                    "patterns": patterns,
                }
                process = PeerProcess(
                    f"{graph}, arena {arena}, patterns {patterns}",
                    python=sys.executable,
                    module="",
                    job=job,
                    log=logs / f"{len(processes)}.log",
                    worker=_WORKER,
                )
                processes.append(stack.enter_context(process))
                found.append((graph, arena, patterns))
        warm = [process.ask("run", times=0)["resident"] for process in processes]
        seconds: list[list[float]] = [[] for _ in processes]
        end = list(warm)
        for turn, begun in enumerate(range(0, requests, of_a_turn)):
            for place in balanced_order(len(processes), turn):
                reply = processes[place].ask("run", times=min(of_a_turn, requests - begun))
                seconds[place] += reply["seconds"]
                end[place] = reply["resident"]
        return [
            Memory(
                graph=graph,
                arena=arena,
                patterns=patterns,
                requests=requests,
                warm=warm[place],
                end=end[place],
                peak=processes[place].memory(),
                seconds=float(np.median(seconds[place])),
            )
            for place, (graph, arena, patterns) in enumerate(found)
        ]


def memory_table(found: Sequence[Memory]) -> Table:
    """One row a process."""
    return Table(
        ("graph", "arena", "patterns", "warm, MB", "end, MB", "growth", "peak, MB", "ms a question"),
        [
            (
                each.graph,
                "on" if each.arena else "off",
                "on" if each.patterns else "off",
                f"{each.warm / _MB:.0f}",
                f"{each.end / _MB:.0f}",
                f"{each.end / each.warm - 1:+.1%}",
                f"{each.peak / _MB:.0f}",
                f"{1e3 * each.seconds:.2f}",
            )
            for each in found
        ],
        texts=3,
    )


def main(arguments: Sequence[str] | None = None, *, measure: Callable[..., list[Memory]] = measured) -> int:
    """Measure and write the page.

    Args:
        arguments: The command line without the program's name; None: the process's.
        measure: Measures, given what ``measured`` is.
    """
    description = (__doc__ or "").replace("`", "")
    parser = argparse.ArgumentParser(
        prog="python -m fastspan.benchmarks.studies.memory", description=description
    )
    add = parser.add_argument
    add("bundle", nargs="?", type=Path, help="a bundle's folder (default: the bundled model's)")
    add("--requests", type=int, default=10_000, help="questions for each process (default: %(default)s)")
    add("--threads", type=int, help="threads of a run (default: the cores this process may use)")
    add(
        "--out",
        type=Path,
        default=results_folder(ROOT / "benchmarks" / "results", "cpu"),
        help="folder for memory.md (default: that of this kind of CPU in benchmarks/results)",
    )
    options = parser.parse_args(arguments)
    try:
        folder = options.bundle or bundled_model().bundle
        threads = options.threads or usable_cores()
        manifest = Bundle.open(folder).manifest
        graphs = [each for each in _GRAPHS if _runs(manifest.variants, each[1], each[2])]
        found = measure(folder, requests=options.requests, threads=threads, graphs=graphs)
        machine = describe_machine(("fastspan", "onnxruntime", "numpy"))
        record = {
            "bundle": manifest.name,
            "threads": threads,
            "machine": machine,
            "processes": [asdict(each) for each in found],
        }
        write_text(options.out / "memory.json", f"{json.dumps(record, indent=2)}\n")
        page = options.out / "memory.md"
        write_text(page, markdown(_page(manifest.name, found, threads, machine)))
    except FastSpanError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(page)
    return 0


def _runs(variants: Mapping[str, Variant], name: VariantName, kernels: bool) -> bool:
    """Whether a bundle has a graph of the variant that runs here."""
    if name not in variants or not variants[name].runs_on("cpu"):
        return False
    made_for_them = any(graph.target == "cpu-kernels" for graph in variants[name].graphs)
    return not kernels or (made_for_them and unavailable_reason() is None)


def _page(name: str, found: Sequence[Memory], threads: int, machine: Mapping[str, str]) -> list[Block]:
    return [
        Heading(1, f"Memory of a session on the CPU: {name}"),
        Paragraph(
            f"{found[0].requests:,} questions of random lengths up to a whole window for each row, one at a "
            f"time, {threads} threads. Resident memory of the process, with Python and the tokenizer: after "
            "a warm-up that asked every length twice, after the last question, and the most it ever was, "
            "loading included. The first row of a graph is what FastSpan runs. Written by "
            "`python -m fastspan.benchmarks.studies.memory`."
        ),
        memory_table(found),
        Heading(2, "Environment"),
        Table(("", ""), list(machine.items()), texts=2),
    ]


if __name__ == "__main__":
    sys.exit(main())
