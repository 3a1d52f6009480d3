"""``fastspan package``: a bundle in the form that a hosting platform takes."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import get_args

from fastspan.bundle.variants import VariantName
from fastspan.cli.argument_types import new_path, path
from fastspan.cli.arguments import FILES, FOLDERS, completed_with, json_option
from fastspan.cli.parsing import CommandParser
from fastspan.cli.terminal import megabytes, write, write_json

NAME = "package"
HELP = "write a bundle in the form that a hosting platform takes"
EXAMPLES = (
    "fastspan package models/exported/minilm-l6-squad2 endpoint --for hf-endpoint --variants int8",
    "fastspan package models/exported/minilm-l6-squad2 image --for container --variants int8 --json",
)

_PLATFORMS = ("hf-endpoint", "sagemaker", "azureml", "vertex", "triton", "kserve", "container")


def parents() -> list[CommandParser]:
    """Return the parser of the argument that ``fastspan package`` shares with other commands."""
    return [json_option()]


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the bundle, where its package goes, and what for."""
    bundle = parser.add_argument(
        "bundle", metavar="BUNDLE", help="the folder that fastspan export wrote, or a hub id"
    )
    out = parser.add_argument("out", metavar="OUT", type=new_path, help="the package's folder")
    completed_with(bundle, FOLDERS)
    completed_with(out, FOLDERS)
    parser.add_argument(
        "--for", dest="platform", required=True, choices=_PLATFORMS, help="the platform that runs it"
    )
    parser.add_argument(
        "--variants",
        type=lambda text: text.split(","),
        metavar="V[,V]",
        help=f"which go along, of {', '.join(get_args(VariantName))} (default: all)",
    )
    wheel = parser.add_argument(
        "--wheel", type=path, metavar="FILE", help="FastSpan's wheel to install there (default: pip's index)"
    )
    completed_with(wheel, FILES)


def run(arguments: Namespace) -> int:
    """Write the package and say what to read next."""
    from fastspan.hosting.package import package

    written = package(
        arguments.bundle,
        arguments.out,
        arguments.platform,
        variants=arguments.variants,
        wheel=arguments.wheel,
    )
    if arguments.json:
        write_json(
            {
                "folder": str(written.folder),
                "platform": written.platform,
                "files": list(written.files),
                "bytes": written.bytes,
            }
        )
    else:
        size = megabytes(written.bytes)
        write(f"{written.folder}: for {written.platform}, {len(written.files)} files ({size})")
        write(written.advice)
    return 0
