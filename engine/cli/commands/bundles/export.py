"""``fastspan export``: checkpoint to bundle."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from fastspan.bundle.variants import VariantName
from fastspan.cli.argument_types import new_path, path, share
from fastspan.cli.arguments import FILES, FOLDERS, completed_with, json_option, threads_option
from fastspan.cli.extras import extra
from fastspan.cli.parsing import CommandParser
from fastspan.cli.terminal import Style, one_line, write, write_json
from fastspan.cli.variants_table import variants_table

if TYPE_CHECKING:
    from fastspan.export.exporter import ExportReport
    from fastspan.export.int8.sensitivity import Sensitivity

NAME = "export"
HELP = "export a checkpoint to a bundle that fastspan runs"
EXAMPLES = (
    "fastspan export models/minilm-l6-squad2 --out models/exported/minilm-l6-squad2",
    "fastspan export deepset/bert-base-cased-squad2 --out bert-squad2 --variants fp32,int8",
)

_VARIANTS = get_args(VariantName)


def parents() -> list[CommandParser]:
    """Return the parsers of the arguments that ``fastspan export`` shares with other commands."""
    return [threads_option(), json_option()]


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments of ``fastspan export``."""
    source = parser.add_argument("source", metavar="SOURCE", help="a checkpoint's folder, or a hub id")
    completed_with(source, FOLDERS)
    out = parser.add_argument(
        "--out",
        metavar="FOLDER",
        type=new_path,
        help="the bundle's folder; a bundle that lies there is replaced once the new one is whole "
        "(default: a folder of its own in models/exported)",
    )
    completed_with(out, FOLDERS)
    parser.add_argument(
        "--variants",
        type=_variants,
        metavar="LIST",
        default=_VARIANTS,
        help=f"which precisions to make, with commas; fp32 is always made (default: {','.join(_VARIANTS)})",
    )
    parser.add_argument("--revision", metavar="R", help="with a hub id: branch, tag or commit")
    parser.add_argument(
        "--allow-parity-loss",
        action="store_true",
        help="publish variants that differ more from the checkpoint than their gate allows",
    )
    texts = parser.add_argument(
        "--calibration",
        metavar="FILE",
        type=path,
        help='JSON lines of "question" and "context" to quantize with (default: the project\'s own texts)',
    )
    completed_with(texts, FILES)
    parser.add_argument(
        "--second-passes",
        type=share,
        metavar="SHARE",
        help="int8: how many more multiplications may be spent on layers that lose most by rounding their "
        "input; 0 makes the fastest graph (default: 0.35)",
    )
    parser.add_argument(
        "--int8-report",
        action="store_true",
        help="after the export, quantize one layer at a time and show what each costs in accuracy",
    )


def run(arguments: Namespace) -> int:
    """Export, and show what was made and how close it is to the checkpoint."""
    with extra("export", NAME):
        from fastspan.export.exporter import ExportOptions, export
        from fastspan.export.int8.recipe import Int8Recipe
        from fastspan.export.int8.sensitivity import int8_sensitivity
        from fastspan.export.progress import progress_on

    recipe = Int8Recipe(texts=arguments.calibration)
    if arguments.second_passes is not None:
        recipe = replace(recipe, second_pass_share=arguments.second_passes)
    options = ExportOptions(
        variants=arguments.variants,
        revision=arguments.revision,
        allow_parity_loss=arguments.allow_parity_loss,
        int8=recipe,
        threads=arguments.threads,
    )
    with progress_on(sys.stderr) as progress:
        report = export(arguments.source, arguments.out, options, progress=progress)
    out = arguments.out or Path(os.path.relpath(report.bundle.folder))
    if not arguments.json:
        show(report, out)
    costs: list[Sensitivity] = []
    if arguments.int8_report:
        with progress_on(sys.stderr) as progress:
            costs = int8_sensitivity(
                arguments.source,
                progress=progress,
                revision=arguments.revision,
                recipe=recipe,
                threads=arguments.threads,
            )
        if not arguments.json:
            _show_sensitivity(costs)
    if arguments.json:
        write_json(_as_json(report, out, costs), indent=2)
    return 0


def _variants(text: str) -> tuple[VariantName, ...]:
    asked = [name.strip() for name in text.split(",")]
    unknown = [name for name in asked if name not in _VARIANTS]
    if unknown:
        raise ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(_VARIANTS)}")
    return tuple(name for name in _VARIANTS if name in asked)


def _as_json(report: ExportReport, out: Path, costs: list[Sensitivity]) -> dict[str, Any]:
    """The same as is shown; ``int8_report`` is empty where none was asked for."""
    manifest = report.bundle.manifest
    return {
        "folder": str(out),
        "name": manifest.name,
        "route": report.route,
        "route_reason": report.route_reason,
        "seconds": report.seconds,
        "variants": {name: asdict(variant) for name, variant in manifest.variants.items()},
        "not_compared": list(report.not_run),
        "notes": list(report.notes),
        "int8_report": [asdict(layer) for layer in costs],
    }


def show(report: ExportReport, out: Path) -> None:
    """Write what was exported, and what to run next."""
    style = Style(sys.stdout)
    write(variants_table(list(report.bundle.manifest.variants.values()), style))
    write()
    write(one_line(f"{report.route} route: {report.route_reason}. {report.seconds:.1f} s."))
    if report.not_run:
        write(f"Not compared, being made for other machines than this one: {', '.join(report.not_run)}.")
    for note in report.notes:
        write(one_line(f"Tokenizer: {note}."))
    write(one_line(f"The bundle lies in {out}. Try it:"))
    words = f'{program()} answer "Who wrote it?" FILE --bundle {shlex.quote(str(out))}'
    write(style.strong(f"  {words}"))


def program() -> str:
    """Return how this program can be called again from here, ready to be pasted into a shell."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return shlex.join([sys.executable, "-m", "fastspan"])
    on_path = shutil.which("fastspan")
    if called.stem != "fastspan" or (on_path is not None and called.resolve() == Path(on_path).resolve()):
        return "fastspan"
    return shlex.quote(sys.argv[0])


def _show_sensitivity(found: list[Sensitivity]) -> None:
    write()
    write("What int8 costs, one layer quantized at a time and the rest fp32, the most costly first:")
    heads = (
        f"{'rms Δ logit':>12} {'largest':>9} {'equal answers':>14} {'splits':>7} {'passes':>7} {'weights':>8}"
    )
    write(f"  {'layer':34} {heads}")
    for each in found:
        write(
            f"  {each.layer:34} {each.rms:12.4f} {each.largest:9.3f} {each.equal_answers:14.1%} "
            f"{each.splits:7} {each.passes:7} {each.weights:>8}"
        )
