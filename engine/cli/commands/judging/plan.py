"""``fastspan plan``: machines and cost, from what one machine was measured to do."""

from __future__ import annotations

import argparse
import math
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from typing import TYPE_CHECKING

from fastspan.cli.argument_types import number, path
from fastspan.cli.arguments import FILES, completed_with, json_option
from fastspan.cli.extras import extra
from fastspan.cli.parsing import CommandParser
from fastspan.cli.terminal import labelled, one_line, write, write_json

if TYPE_CHECKING:
    from fastspan.benchmarks.planning.capacity import Bulk, Machine, Service

NAME = "plan"
HELP = "say how many machines a task takes, and what they cost"
EXAMPLES = (
    "fastspan plan benchmarks/results/intel-avx512-vnni-amx/speed-cpu.json --price 0.09",
    "fastspan plan speed-cpu.json --price 0.09 --passages 2e8 --within 6 --rate 500 --p99 50",
)


def parents() -> list[CommandParser]:
    """Return the parsers of the arguments that ``fastspan plan`` shares with other commands."""
    return [json_option()]


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments of ``fastspan plan``."""
    record = parser.add_argument(
        "record",
        metavar="RECORD",
        type=path,
        help="speed-cpu.json or speed-cuda.json of make bench",
    )
    completed_with(record, FILES)
    add = parser.add_argument
    add("--price", type=_amount, required=True, metavar="X", help="of a machine and hour, in any currency")
    add("--passages", type=_amount, default=1e9, metavar="N", help="passages to answer (default: 1e9)")
    add("--within", type=_amount, default=24.0, metavar="HOURS", help="in so many hours (default: 24)")
    add("--tokens", type=_amount, metavar="N", help="tokens of question and passage (default: as measured)")
    add("--rate", type=_amount, default=1e4, metavar="N", help="questions a second (default: 10000)")
    add("--p99", type=_amount, default=100.0, metavar="MS", help="in time, 99 of 100 (default: 100)")
    add(
        "--workload",
        default="single-128",
        metavar="NAME",
        help="what is asked (default: single-128)",
    )
    add("--model", metavar="NAME", help="the model (default: the record's first)")
    add("--system", metavar="NAME", help="what runs it (default: FastSpan, as it runs there by default)")


def run(arguments: Namespace) -> int:
    """Show both plans, with the figures that they rest on."""
    with extra("bench", "plan"):
        from fastspan.benchmarks.planning.capacity import plan_bulk, plan_service, read_machine

    machine = read_machine(
        arguments.record, model=arguments.model, system=arguments.system, workload=arguments.workload
    )
    bulk = plan_bulk(machine, arguments.passages, arguments.within, arguments.price, arguments.tokens)
    service = plan_service(machine, arguments.rate, arguments.p99 / 1000, arguments.price)
    if arguments.json:
        write_json(
            {
                "cpu": machine.cpu,
                "model": machine.model,
                "system": machine.system,
                "bulk": asdict(bulk),
                "service": asdict(service),
            }
        )
    else:
        _show(arguments, machine, bulk, service)
    return 0


def _show(arguments: Namespace, machine: Machine, bulk: Bulk, service: Service) -> None:
    tokens = arguments.tokens or machine.tokens
    quick = "; a quick measurement" if machine.quick else ""
    write(labelled("measured", [f"{one_line(machine.model)}, {machine.system}, on {machine.cpu}{quick}"]))
    write(
        labelled(
            "bulk",
            [
                f"{arguments.passages:,.0f} passages of {tokens:.0f} tokens, {bulk.rate:,.0f} a second and "
                "machine",
                f"{bulk.machine_hours:,.0f} machine hours: {bulk.machines:,} machines for "
                f"{arguments.within:g} hours, cost {bulk.cost:,.2f}",
            ],
        )
    )
    mean = 1000 * math.fsum(machine.single_seconds) / len(machine.single_seconds)
    write(
        labelled(
            "service",
            [
                f"{arguments.rate:,.0f} questions a second of {machine.single.tokens} tokens, {mean:.2f} ms "
                f"each, 99% within {arguments.p99:g} ms",
                f"{service.rate:,.0f} a second and machine, busy {service.busy:.0%} of the time",
                f"{service.machines:,} machines, cost {service.hourly_cost:,.2f} an hour",
            ],
        )
    )


def _amount(text: str) -> float:
    """The type of a number above 0 that is finite."""
    value = number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value
