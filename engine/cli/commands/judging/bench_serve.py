"""``fastspan bench-serve``: a running service at one load after the other, up to twice its capacity."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import TYPE_CHECKING

from fastspan.cli.argument_types import number
from fastspan.cli.arguments import json_option
from fastspan.cli.parsing import CommandParser
from fastspan.cli.terminal import Style, labelled, say, table, write, write_json

if TYPE_CHECKING:
    from fastspan.benchmarks.serving.record import Target

NAME = "bench-serve"
HELP = "measure a running service under load"
EXAMPLES = (
    "fastspan bench-serve http://127.0.0.1:8080",
    "fastspan bench-serve http://127.0.0.1:8080 --loads 50,100,200 --seconds 10 --p99-ms 100",
)


def parents() -> list[CommandParser]:
    """Return the parsers of the arguments that ``fastspan bench-serve`` shares with other commands."""
    return [json_option()]


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments of ``fastspan bench-serve``."""
    parser.add_argument("url", metavar="URL", type=_address, help="the service's address, http://HOST:PORT")
    parser.add_argument(
        "--loads",
        type=_loads,
        default=(),
        metavar="LIST",
        help="requests a second, with commas (default: shares of the capacity, up to twice)",
    )
    parser.add_argument(
        "--seconds", type=_positive, default=6.0, metavar="N", help="how long each load lasts (default: 6)"
    )
    parser.add_argument(
        "--clients",
        type=_count,
        default=16,
        metavar="N",
        help="clients at once that the capacity is measured with (default: 16)",
    )
    parser.add_argument(
        "--p99-ms",
        type=_positive,
        default=250.0,
        metavar="MS",
        help="limit of latency that goodput is counted at (default: 250)",
    )
    parser.add_argument(
        "--data", metavar="FILE", help="questions to ask (default: the project's own questions)"
    )


def run(arguments: Namespace) -> int:
    """Measure and show; 1 where the service's metrics differ from what was counted here."""
    from fastspan.benchmarks.serving.measure import Plan, bodies, measure

    plan = Plan(
        loads=arguments.loads,
        seconds=arguments.seconds,
        clients=arguments.clients,
        limit_ms=arguments.p99_ms,
    )
    target = measure(arguments.url, arguments.url, bodies(arguments.data), plan, say)
    if arguments.json:
        from dataclasses import asdict

        write_json({**asdict(target), "limit_ms": plan.limit_ms}, indent=2)
    else:
        _show(target, plan.limit_ms)
    differing = [point.books for point in target.points if point.books]
    for books in differing:
        say(f"The service's metrics differ: {books}.")
    return int(bool(differing))


def _show(target: Target, limit_ms: float) -> None:
    rows = [
        [
            f"{point.offered:.1f}",
            *(str(count) for count in (point.sent, point.ok, point.rejected, point.expired, point.failed)),
            *("–" if value is None else f"{value:.1f}" for value in (point.p50_ms, point.p99_ms)),
            f"{point.goodput:.1f}",
        ]
        for point in target.points
    ]
    headers = ["offered/s", "sent", "ok", "rejected", "expired", "failed", "p50 ms", "p99 ms", "goodput/s"]
    write(table(headers, rows, Style(sys.stdout)))
    best = target.best(limit_ms)
    goodput = (
        f"none: no load's 99th percentile was within {limit_ms:g} ms"
        if best is None
        else f"{best.goodput:.1f} answers/s, at {best.offered:.1f}/s offered, within {limit_ms:g} ms"
    )
    write(labelled("capacity", [f"{target.capacity:.1f} answers/s"]))
    write(labelled("goodput", [goodput]))


def _address(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise ArgumentTypeError(f"{text!r} is not an address: http://HOST:PORT")
    return text.rstrip("/")


def _loads(text: str) -> tuple[float, ...]:
    return tuple(_positive(part) for part in text.split(","))


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text) <= 10_000):
        raise ArgumentTypeError(f"{text!r} is not a whole number from 1 to 10000")
    return int(text)


def _positive(text: str) -> float:
    value = number(text)
    if not 0 < value < float("inf"):
        raise ArgumentTypeError(f"{text!r} is not a number above 0")
    return value
