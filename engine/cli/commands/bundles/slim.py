"""``fastspan slim``: a bundle with fewer variants."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import get_args

from fastspan.bundle.variants import VariantName
from fastspan.cli.argument_types import new_path
from fastspan.cli.arguments import FOLDERS, completed_with, json_option, revision_option
from fastspan.cli.parsing import CommandParser
from fastspan.cli.terminal import megabytes, one_line, write, write_json

NAME = "slim"
HELP = "copy a bundle with some of its variants"
EXAMPLES = (
    "fastspan slim models/exported/minilm-l6-squad2 small --variants int8",
    "fastspan slim models/exported/minilm-l6-squad2 cpu --variants fp32,int8 --json",
)


def parents() -> list[CommandParser]:
    """Return the parsers of the arguments that ``fastspan slim`` shares with other commands."""
    return [revision_option(), json_option()]


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the bundle, where its copy goes, and what that keeps."""
    # Not the shared argument: the bundle stands before the copy.
    bundle = parser.add_argument(
        "bundle", metavar="BUNDLE", help="the folder that fastspan export wrote, or a hub id"
    )
    out = parser.add_argument("out", metavar="OUT", type=new_path, help="the smaller bundle's folder")
    completed_with(bundle, FOLDERS)
    completed_with(out, FOLDERS)
    parser.add_argument(
        "--variants",
        required=True,
        type=lambda text: text.split(","),
        metavar="V[,V]",
        help=f"what to keep, of {', '.join(get_args(VariantName))}",
    )


def run(arguments: Namespace) -> int:
    """Write the smaller bundle and say how large it is."""
    from fastspan.export.publishing.slim import slim

    bundle = slim(arguments.bundle, arguments.out, arguments.variants, revision=arguments.revision)
    size = sum(record.bytes for record in bundle.manifest.files.values())
    if arguments.json:
        write_json({"folder": str(bundle.folder), "variants": list(bundle.manifest.variants), "bytes": size})
    else:
        write(f"{one_line(str(bundle.folder))}: {', '.join(bundle.manifest.variants)} ({megabytes(size)})")
    return 0
