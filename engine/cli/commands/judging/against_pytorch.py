"""``fastspan verify --against pytorch``: every variant against the checkpoint itself, on real questions."""

from __future__ import annotations

import shlex
import sys
from argparse import ArgumentParser, Namespace

from fastspan.bundle.folder import Bundle
from fastspan.cli.argument_types import path
from fastspan.cli.arguments import FOLDERS, completed_with, provider_option, question_options
from fastspan.cli.commands import UsageError
from fastspan.cli.extras import extra
from fastspan.cli.outputs import ready_folder
from fastspan.cli.parsing import CommandParser
from fastspan.cli.terminal import one_line, write, write_json
from fastspan.errors import ParityError

__all__ = ["add_comparison_options", "compare", "comparison_parents", "refuse_comparison_options"]

_OPTIONS = ("data", "limit", "checkpoint", "variants", "provider", "out")


_GROUP = "with --against pytorch"


def comparison_parents() -> list[CommandParser]:
    """Return the parsers of the options that the comparison shares with other commands."""
    return [question_options(group=_GROUP), provider_option(None, _GROUP)]


def add_comparison_options(parser: ArgumentParser) -> None:
    """Add ``--against`` and what goes with it alone."""
    parser.add_argument(
        "--against",
        choices=("pytorch",),
        help="compare every variant with the checkpoint in PyTorch: logits, answers, exact match and F1",
    )
    group = parser.add_argument_group(_GROUP)
    checkpoint = group.add_argument(
        "--checkpoint",
        metavar="FOLDER",
        help="the checkpoint that was exported, a folder or a hub id (default: the one the bundle names)",
    )
    completed_with(checkpoint, FOLDERS)
    group.add_argument(
        "--variants", metavar="LIST", help="which variants to compare, with commas (default: all that run)"
    )
    out = group.add_argument(
        "--out",
        metavar="FOLDER",
        type=path,
        help="write the report there: parity-MODEL-DATA.md and parity-MODEL-DATA.json",
    )
    completed_with(out, FOLDERS)


def refuse_comparison_options(arguments: Namespace) -> None:
    """Refuse what has a meaning with ``--against`` only.

    Raises:
        UsageError: Such an option was given without it.
    """
    for name in _OPTIONS:
        if getattr(arguments, name) is not None:
            raise UsageError(f"--{name} goes with --against pytorch")


def compare(arguments: Namespace, bundle: Bundle) -> int:
    """Compare, show the summary, and write the report.

    Args:
        arguments: What was asked for.
        bundle: The bundle.

    Raises:
        ParityError: A variant missed its gate; the report is written nevertheless.
    """
    with extra("optimum", "verify --against pytorch"):
        from fastspan.benchmarks.parity.markdown import summary_table
        from fastspan.benchmarks.parity.report import compare_with_pytorch, save_parity_report
        from fastspan.benchmarks.questions.evaluation_set import open_data
        from fastspan.export.progress import progress_on

    if arguments.out is not None:
        ready_folder(arguments.out)
    data = open_data(arguments.data, arguments.limit)
    wanted = arguments.variants
    with progress_on(sys.stderr) as progress:
        report = compare_with_pytorch(
            bundle,
            data,
            checkpoint=arguments.checkpoint,
            variants=None if wanted is None else [name.strip() for name in wanted.split(",")],
            threads=arguments.threads,
            progress=progress,
            command=_command_line(arguments),
            provider=arguments.provider or "auto",
        )
    written = save_parity_report(report, arguments.out) if arguments.out is not None else ()
    if arguments.json:
        write_json(report.to_dict(), indent=2)
    else:
        write(summary_table(report))
        if report.unjudged:
            write(report.unjudged)
        for file in written:
            write(one_line(f"wrote {file}"))
    if report.missed:
        raise ParityError(f"{report.name} differs too much from its checkpoint ({'; '.join(report.missed)}).")
    return 0


def _command_line(arguments: Namespace) -> str:
    """The command line that gives these arguments, however they were given."""
    words = ["fastspan", "verify", str(arguments.bundle)]
    for name in ("revision", "against", *_OPTIONS, "threads"):
        value = getattr(arguments, name)
        if value is not None:
            words += [f"--{name}", str(value)]
    return shlex.join(words)
