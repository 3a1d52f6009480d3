"""``fastspan verify``: is a bundle whole, and do its variants agree?"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fastspan.bundle.folder import Bundle
from fastspan.bundle.source import open_bundle
from fastspan.cli.arguments import bundle_argument, json_option, revision_option, threads_option
from fastspan.cli.commands.judging.against_pytorch import (
    add_comparison_options,
    compare,
    comparison_parents,
    refuse_comparison_options,
)
from fastspan.cli.extras import extra
from fastspan.cli.parsing import CommandParser
from fastspan.cli.terminal import Style, megabytes, table, write, write_json
from fastspan.cli.variants_table import COLUMNS
from fastspan.errors import ParityError

if TYPE_CHECKING:
    from fastspan.export.verification.graph_check import GraphCheck

NAME = "verify"
HELP = "check that a bundle is whole and that its variants agree"
EXAMPLES = (
    "fastspan verify models/exported/minilm-l6-squad2",
    "fastspan verify bert-squad2 --threads 4",
    "fastspan verify bert-squad2 --against pytorch --checkpoint deepset/bert-base-cased-squad2 --out reports",
)


def parents() -> list[CommandParser]:
    """Return the parsers of the arguments that ``fastspan verify`` shares with other commands."""
    return [bundle_argument(), revision_option(), json_option(), threads_option(), *comparison_parents()]


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments of ``fastspan verify``."""
    add_comparison_options(parser)


def run(arguments: Namespace) -> int:
    """Check the files, then every graph that runs here against the fp32 graph, or against PyTorch.

    Raises:
        ParityError: A variant misses its gate, and its loss was not accepted when it was exported.
    """
    if arguments.against is not None:
        return compare(arguments, open_bundle(arguments.bundle, arguments.revision))
    refuse_comparison_options(arguments)
    bundle = open_bundle(arguments.bundle, arguments.revision)
    with extra("export", NAME):
        from fastspan.export.progress import progress_on
        from fastspan.export.verification.checks import verify_bundle

    with progress_on(sys.stderr) as progress:
        checks = verify_bundle(bundle, threads=arguments.threads, progress=progress)
    accepted = {
        name
        for name, variant in bundle.manifest.variants.items()
        if variant.parity is not None and variant.parity.accepted_loss
    }
    if arguments.json:
        write_json(_as_json(bundle, checks, accepted), indent=2)
    else:
        _show(bundle, checks, accepted)
    missed = [check for check in checks if not check.passed and check.variant not in accepted]
    if missed:
        raise ParityError(
            f"{', '.join(check.graph.file for check in missed)} in {bundle.folder}: the difference from the "
            "fp32 graph is larger than the gate allows; export the checkpoint again on this machine, or use "
            "another variant."
        )
    return 0


def _as_json(bundle: Bundle, checks: Sequence[GraphCheck], accepted: set[str]) -> dict[str, Any]:
    """The same as ``_show`` shows; ``comparison`` is null where nothing was compared."""
    return {
        "folder": str(bundle.folder),
        "passed": all(check.passed or check.variant in accepted for check in checks),
        "files": len(bundle.manifest.files),
        "bytes": sum(record.bytes for record in bundle.manifest.files.values()),
        "graphs": [
            {
                "variant": check.variant,
                "file": check.graph.file,
                "runs_here": check.runs_here,
                "passed": check.passed,
                "loss_accepted": check.variant in accepted,
                "comparison": None if check.comparison is None else asdict(check.comparison),
            }
            for check in checks
        ],
    }


def _show(bundle: Bundle, checks: Sequence[GraphCheck], accepted: set[str]) -> None:
    style = Style(sys.stdout)
    files = bundle.manifest.files
    size = megabytes(sum(record.bytes for record in files.values()))
    write(f"{len(files)} files, {size}: {style.good('byte for byte as exported')}")
    write()
    header = ("variant", "graph", "Δ logit", "equal", "verdict")
    write(table(header, [_row(check, accepted) for check in checks], style))
    compared = [check.comparison for check in checks if check.comparison is not None]
    if compared:
        write()
        counts = sorted({(found.questions, found.windows) for found in compared})
        questions = " and ".join(f"{count} questions ({windows} windows)" for count, windows in counts)
        write(f"Compared with the bundle's fp32 graph on {questions}, on the CPU.")
        write(COLUMNS)
    if not all(check.runs_here for check in checks):
        write("Not run: this CPU is not what these graphs are made for.")


def _row(check: GraphCheck, accepted: set[str]) -> tuple[str, ...]:
    found = check.comparison
    if found is None:
        verdict = "runs; the reference" if check.runs_here else "not run"
        return (check.variant, check.graph.file, "–", "–", verdict)
    verdict = "passed"
    if not check.passed:
        verdict = "missed, loss accepted at export" if check.variant in accepted else "MISSED"
    return (
        check.variant,
        check.graph.file,
        f"{found.largest_difference:.2g}",
        f"{found.equal_answers:.1%}",
        verdict,
    )
