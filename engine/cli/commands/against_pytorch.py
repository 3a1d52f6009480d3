"""``fastspan verify --against pytorch``: every variant against the checkpoint itself, on real questions."""

from __future__ import annotations

import shlex
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from fastspan.cli.arguments import positive
from fastspan.cli.commands import UsageError
from fastspan.cli.extras import extra
from fastspan.cli.terminal import write
from fastspan.errors import ParityError

__all__ = ["add_comparison_options", "compare", "refuse_comparison_options"]

_OPTIONS = ("data", "limit", "checkpoint", "variants", "provider", "out")


def add_comparison_options(parser: ArgumentParser) -> None:
    """Add ``--against`` and what goes with it."""
    parser.add_argument(
        "--against",
        choices=("pytorch",),
        help="compare every variant with the checkpoint in PyTorch: logits, answers, exact match and F1",
    )
    group = parser.add_argument_group("with --against pytorch")
    group.add_argument(
        "--data",
        metavar="FILE",
        help="SQuAD 1.1 or 2.0 as JSON, JSON lines, or a hub data set (default: the project's own questions)",
    )
    group.add_argument("--limit", type=positive, metavar="N", help="take the first N questions only")
    group.add_argument(
        "--checkpoint",
        metavar="FOLDER",
        help="the checkpoint that was exported, a folder or a hub id (default: the one the bundle names)",
    )
    group.add_argument(
        "--variants", metavar="LIST", help="which variants to compare, with commas (default: all that run)"
    )
    group.add_argument(
        "--provider", metavar="P", help="where to run the variants: cpu, cuda … (default: auto)"
    )
    group.add_argument(
        "--out",
        metavar="FOLDER",
        type=Path,
        help="write the report there: parity-MODEL-DATA.md and parity-MODEL-DATA.json",
    )


def refuse_comparison_options(arguments: Namespace) -> None:
    """Refuse what has a meaning with ``--against`` only.

    Raises:
        UsageError: Such an option was given without it.
    """
    for name in _OPTIONS:
        if getattr(arguments, name) is not None:
            raise UsageError(f"--{name} goes with --against pytorch")


def compare(arguments: Namespace) -> int:
    """Compare, show the summary, and write the report.

    Raises:
        ParityError: A variant missed its gate; the report is written nevertheless.
    """
    with extra("optimum", "verify --against pytorch"):
        from fastspan.benchmarks.parity.markdown import summary_table
        from fastspan.benchmarks.parity.report import compare_with_pytorch, write_report
        from fastspan.benchmarks.questions.evaluation_set import open_data
        from fastspan.benchmarks.reporting.files import make_folder
        from fastspan.export.progress import progress_on

    data = open_data(arguments.data, arguments.limit)
    if arguments.out is not None:
        make_folder(arguments.out)
    wanted = arguments.variants
    with progress_on(sys.stderr) as progress:
        report = compare_with_pytorch(
            Path(arguments.bundle),
            data,
            checkpoint=arguments.checkpoint,
            variants=None if wanted is None else [name.strip() for name in wanted.split(",")],
            threads=arguments.threads,
            progress=progress,
            command=_command_line(arguments),
            provider=arguments.provider or "auto",
        )
    write(summary_table(report))
    if report.unjudged:
        write(report.unjudged)
    if arguments.out is not None:
        for path in write_report(report, arguments.out):
            write(f"wrote {path}")
    if report.missed:
        raise ParityError(f"{report.name} differs too much from its checkpoint ({'; '.join(report.missed)}).")
    return 0


def _command_line(arguments: Namespace) -> str:
    """The command line that gives these arguments, however they were given."""
    words = ["fastspan", "verify", str(arguments.bundle)]
    for name in ("against", *_OPTIONS, "threads"):
        value = getattr(arguments, name)
        if value is not None:
            words += [f"--{name}", str(value)]
    return shlex.join(words)
