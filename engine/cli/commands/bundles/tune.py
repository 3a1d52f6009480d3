"""``fastspan tune``: measures how this machine runs a bundle fastest, and keeps it for the next load."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import TYPE_CHECKING

from fastspan.cli.argument_types import number
from fastspan.cli.arguments import (
    bundle_argument,
    copy_option,
    json_option,
    revision_option,
    variant_option,
)
from fastspan.cli.copied_bundle import copied, own_bundle
from fastspan.cli.parsing import CommandParser
from fastspan.cli.terminal import Style, labelled, say, table, write, write_json

if TYPE_CHECKING:
    from fastspan.bundle.beside.machine_profile import Cost, RunSettings
    from fastspan.tuning.results import OtherVariant, Trial, Tuning

NAME = "tune"
HELP = "measure how this machine's CPU runs a bundle fastest, and keep that beside it"
EXAMPLES = (
    "fastspan tune models/exported/minilm-l6-squad2",
    "fastspan tune bert-squad2 --variant fp32 --seconds 90",
    "fastspan tune bert-squad2 --save-cpu",
)


def parents() -> list[CommandParser]:
    """Return the parsers of the arguments that ``fastspan tune`` shares with other commands."""
    tuned = variant_option("auto", "the precision to tune", "the one that auto takes on this CPU")
    return [bundle_argument(), revision_option(), tuned, copy_option("the profile beside it"), json_option()]


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments of ``fastspan tune``."""
    parser.add_argument(
        "--seconds",
        type=_seconds,
        default=45.0,
        metavar="N",
        help="about how long to measure (default: 45)",
    )
    parser.add_argument(
        "--save-cpu",
        action="store_true",
        help="keep also what takes much less processor time and is hardly slower",
    )


def run(arguments: Namespace) -> int:
    """Measure, write the profile, and show what was tried."""
    from fastspan.tuning.search import refuse_busy_machine, tune

    bundle = own_bundle(arguments.bundle, arguments.revision, arguments.copy_to)
    if arguments.copy_to is not None:
        refuse_busy_machine()
        bundle = copied(bundle, arguments.copy_to)
    tuning = tune(
        bundle.folder,
        variant=arguments.variant,
        seconds=arguments.seconds,
        save_cpu=arguments.save_cpu,
        say=say,
    )
    if arguments.json:
        write_json(tuning.to_dict(), indent=2)
    else:
        _show(tuning)
    return 0


def _seconds(text: str) -> float:
    value = number(text)
    if not 0 < value <= 3600:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds above 0 and at most 3600")
    return value


def _show(tuning: Tuning) -> None:
    style = Style(sys.stdout)
    header = ("for", "tried", "ms a question", "before", "change", "CPU ms", "before", "change", "turns", "")
    write(table(header, [_row(trial) for trial in tuning.trials], style))
    write()
    write(labelled("variant", [tuning.reason]))
    write(labelled("latency", [_settings(tuning.tuned.latency, tuning.tuned.latency_cost)]))
    write(labelled("throughput", [_settings(tuning.tuned.throughput, tuning.tuned.throughput_cost)]))
    savings = [_saving(trial) for trial in tuning.trials if trial.thrifty and not trial.kept]
    if savings:
        write(labelled("saves CPU", savings))
    for name, other in tuning.other_variants.items():
        write(labelled(name, [_comparison(tuning.variant, name, other)]))
    if tuning.left_out:
        changes = "change was" if tuning.left_out == 1 else "changes were"
        write(labelled("left out", [f"{tuning.left_out} {changes} not tried: --seconds gives more time"]))
    write(labelled("written", [f"{tuning.file}; the next load uses it"]))


def _row(trial: Trial) -> tuple[str, ...]:
    return (
        trial.mode,
        trial.what,
        f"{1e3 * trial.seconds:.2f}",
        f"{1e3 * trial.before:.2f}",
        f"{trial.seconds / trial.before - 1:+.1%}",
        f"{1e3 * trial.cpu_seconds:.2f}",
        f"{1e3 * trial.cpu_before:.2f}",
        f"{trial.cpu_seconds / trial.cpu_before - 1:+.1%}",
        str(trial.turns),
        "kept" if trial.kept else "saves CPU" if trial.thrifty else "",
    )


def _settings(settings: RunSettings, cost: Cost | None) -> str:
    spinning = "on" if settings.spinning else "off"
    if settings.spinning and settings.spin_duration_us is not None:
        spinning = f"at most {settings.spin_duration_us} µs"
    costs = "" if cost is None else f": {1e3 * cost.seconds:.2f} ms, {1e3 * cost.cpu_seconds:.2f} ms of CPU"
    return (
        f"threads {settings.threads}, workers {settings.workers}, spinning {spinning}, "
        f"block_base {settings.block_base}, batch_tokens {settings.batch_tokens}{costs}"
    )


def _saving(trial: Trial) -> str:
    return (
        f"{trial.what} for {trial.mode}: {1 - trial.cpu_seconds / trial.cpu_before:.0%} less CPU time, "
        f"{trial.seconds / trial.before - 1:+.1%} time; --save-cpu keeps such changes"
    )


def _comparison(tuned: str, name: str, other: OtherVariant) -> str:
    ours, its = (f"{1e3 * seconds:.2f} ms" for seconds in (other.tuned, other.seconds))
    figures = f"{its} for one question, {tuned} {ours}, in {other.turns} turns"
    if other.faster:
        return f"{figures}; variant={name!r} is faster here, and it is for you to choose: answers may differ"
    return figures if other.seconds >= other.tuned else f"{figures}: not clearly faster"
