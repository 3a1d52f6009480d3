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
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from fastspan.benchmarks.paths import ROOT
from fastspan.benchmarks.reporting.document import markdown
from fastspan.benchmarks.reporting.files import write_text
from fastspan.benchmarks.reporting.machine import describe_machine
from fastspan.benchmarks.speed.machine.environment import results_folder
from fastspan.benchmarks.studies.kin.families import KIN
from fastspan.benchmarks.studies.kin.measuring import measure
from fastspan.benchmarks.studies.kin.page import page
from fastspan.errors import FastSpanError
from fastspan.machine.cpu import usable_cores

__all__ = ["main"]


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
                        say=_tell,
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
    report = options.out / "kin.md"
    write_text(report, markdown(page(found, options.length, options.layers, threads, machine)))
    print(report)
    return 0


def _tell(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
