"""Measures the service, itself without batching, and its engine in two other servers; writes the report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fastspan import QuestionAnswerer
from fastspan.benchmarks.paths import ROOT
from fastspan.benchmarks.reporting.cpu_kind import this_cpu_kind
from fastspan.benchmarks.reporting.files import make_folder
from fastspan.benchmarks.reporting.machine import describe_machine
from fastspan.benchmarks.serving.beside_engine import measure_beside
from fastspan.benchmarks.serving.measure import SHARES, Plan, bodies, measure
from fastspan.benchmarks.serving.record import Beside, ServingRecord, Target
from fastspan.benchmarks.serving.report import write_serving_report
from fastspan.benchmarks.serving.targets import OURS, TARGETS, started
from fastspan.errors import FastSpanError, InputError, MissingDependency

__all__ = ["main"]

_PACKAGES = ("fastspan", "onnxruntime", "numpy", "tokenizers", "starlette", "uvicorn", "fastapi", "aiohttp")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write record and report, and say where they are."""
    options = _parser().parse_args(arguments)
    try:
        folder = make_folder(options.out / this_cpu_kind())
        if not options.report_only:
            _measure(options, folder)
        written = write_serving_report(folder)
    except FastSpanError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join(map(str, written)))
    record = ServingRecord.read(folder)
    return int(any(point.books for target in record.targets for point in target.points))


def _measure(options: argparse.Namespace, folder: Path) -> None:
    plan = Plan(
        shares=options.shares, seconds=options.seconds, clients=options.clients, limit_ms=options.p99_ms
    )
    requests = bodies(options.data)
    # Who promises answers within a limit lets no request wait for most of it.
    wait_ms = max(1, round(options.p99_ms / 2))
    found: list[Target] = []
    for name in TARGETS:
        if options.services not in name:
            continue
        # All services are offered the same loads: shares of what the first one does.
        if found:
            plan = replace(plan, loads=tuple(point.offered for point in found[0].points))
        try:
            with started(name, options.bundle, options.threads, wait_ms) as address:
                found.append(measure(name, address, requests, plan, _say))
        except MissingDependency as error:
            _say(f"{name}: left out. {error}")
    if not found:
        raise InputError(f"No service was measured: no name holds {options.services!r}, or none could be.")
    ServingRecord(
        machine=describe_machine(_PACKAGES),
        limit_ms=options.p99_ms,
        questions=len(requests),
        targets=tuple(found),
        beside=_beside(options, requests, plan.clients) if options.services in OURS else None,
    ).write(folder)


def _beside(options: argparse.Namespace, requests: Sequence[bytes], clients: int) -> Beside:
    """Measure the service, with its own limits, beside its engine in this process."""
    with (
        started(OURS, options.bundle, options.threads) as address,
        QuestionAnswerer.load(options.bundle, threads=options.threads, optimize_for="throughput") as qa,
    ):
        return measure_beside(address, qa, requests, clients, _say)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fastspan.benchmarks.serving.suite", description=__doc__)
    add = parser.add_argument
    add("bundle", help="the bundle's folder")
    add("--seconds", type=float, default=10.0, help="how long each load is offered (default: %(default)s)")
    add("--p99-ms", type=float, default=250.0, help="the limit of latency (default: %(default)s)")
    add("--clients", type=int, default=16, help="clients that the capacity is measured with (default: 16)")
    add(
        "--shares",
        type=lambda text: tuple(map(float, text.split(","))),
        default=SHARES,
        metavar="LIST",
        help="loads as shares of the capacity, with commas (default: 0.25 to 2)",
    )
    add("--services", default="", metavar="TEXT", help="only those whose name holds TEXT")
    add("--threads", type=int, help="threads of every service (default: the usable cores)")
    add("--data", help="questions to ask (default: the project's own)")
    add("--report-only", action="store_true", help="write the report on what was measured before")
    add("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder for the results")
    return parser


if __name__ == "__main__":
    sys.exit(main())
