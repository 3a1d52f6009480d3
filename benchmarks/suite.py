"""``make bench``: measures FastSpan and its peers side by side and writes the reports."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fastspan.benchmarks.paths import ROOT
from fastspan.benchmarks.reporting.files import make_folder
from fastspan.benchmarks.speed.subjects import Subjects
from fastspan.benchmarks.speed.suite import SuiteRun
from fastspan.benchmarks.speed.suite_options import SuiteOptions
from fastspan.benchmarks.speed_report.report import (
    write_comparison,
    write_hardware_report,
    write_speed_reports,
)
from fastspan.errors import FastSpanError

__all__ = ["main"]

_RESULTS = ROOT / "benchmarks" / "results"


def main(arguments: Sequence[str] | None = None, subjects: Subjects | None = None) -> int:
    """Measure, write the record and the report, and say where they are.

    Args:
        arguments: The command line; None: the process's.
        subjects: What there is to measure; None: all of it.
    """
    options = _parser().parse_args(arguments)
    try:
        root = make_folder(options.out).resolve()
        if options.report_only:
            written = write_speed_reports(root, price_per_hour=options.price_per_hour)
        else:
            run = SuiteRun(_suite_options(options), root, subjects)
            run.measure()
            # The reports on other hardware stay as they are: nothing about them has changed.
            written = write_hardware_report(run.folder, price_per_hour=options.price_per_hour)
            written += write_comparison(root)
    except FastSpanError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            f"interrupted; what was measured until now is in {options.out}, and the same command with "
            "--report-only in place of --quick writes the report on it",
            file=sys.stderr,
        )
        return 130
    print("\n".join(str(path) for path in written))
    return 0


def _suite_options(options: argparse.Namespace) -> SuiteOptions:
    return SuiteOptions(
        quick=options.quick,
        device="gpu" if options.gpu else "cpu",
        data=options.data,
        threads=options.threads,
        peers=options.peers,
        models=options.models,
        workloads=options.workloads,
        rounds=options.rounds,
        parts=not options.no_parts,
    )


def _parser() -> argparse.ArgumentParser:
    description = (__doc__ or "").replace("`", "")
    parser = argparse.ArgumentParser(prog="python -m fastspan.benchmarks.suite", description=description)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--quick", action="store_true", help="ten minutes or so: fewer peers and repeats")
    kind.add_argument(
        "--report-only", action="store_true", help="write all reports from what was measured before"
    )
    add = parser.add_argument
    add("--gpu", action="store_true", help="measure on an NVIDIA GPU instead of the CPU")
    add("--data", type=Path, help="questions to ask, in SQuAD's format")
    add("--threads", type=int, help="threads of every peer (default: the usable cores)")
    add("--peers", default="", metavar="TEXT", help="only FastSpan and peers whose name holds TEXT")
    add("--models", default="", metavar="TEXT", help="only models whose name holds TEXT")
    add("--workloads", default="", metavar="TEXT", help="only workloads whose name holds TEXT")
    add("--rounds", type=int, help="rounds of every workload, at most")
    add("--no-parts", action="store_true", help="leave out the engine's parts on their own")
    add(
        "--price-per-hour",
        type=_price,
        metavar="PRICE",
        help="of this machine, in any currency, for the cost of a million questions (default: 0.1 with a "
        "CPU, 3 with a GPU)",
    )
    add(
        "--out",
        type=Path,
        default=_RESULTS,
        help="folder for the results, of each kind of hardware in a folder of its own (default: "
        "benchmarks/results)",
    )
    return parser


def _price(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no price: a number above 0")
    return value


if __name__ == "__main__":
    sys.exit(main())
