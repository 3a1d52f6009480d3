"""Where a bundle goes when nobody says where: a folder of its own for every model, revision and choice."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from fastspan.errors import FastSpanError, InputError
from fastspan.export.options import VARIANTS, ExportOptions

__all__ = ["EXPORTED", "default_destination"]

EXPORTED = Path("models/exported")
"""The folder of exported bundles, seen from the working directory."""

_BUNDLED = "models/minilm-l6-squad2"


def default_destination(source: str | os.PathLike[str], options: ExportOptions) -> Path:
    """Return the folder that a source is exported to by default.

    ``owner/name`` goes to ``models/exported/owner--name``, with the variants and the revision behind it where
    they are not the default ones. The checkpoint that comes with the project goes to
    ``models/exported/minilm-l6-squad2``, which no other one may take.

    Args:
        source: A folder or a hub id.
        options: ``variants`` and ``revision`` are used.

    Raises:
        InputError: The name that belongs to the source is that of the project's own bundle, or there is none.
    """
    bare = re.sub("/+", "/", os.fspath(source).replace("\\", "/").replace(" ", "_")).rstrip("/")
    special = options.revision is not None or tuple(options.variants) != VARIANTS
    if bare.removeprefix("./") == _BUNDLED and not special:
        return EXPORTED / Path(_BUNDLED).name
    if bare in ("", ".", "..") or bare.endswith(("/.", "/..")):
        bare = Path(os.path.realpath(source)).name
    name = bare.removeprefix("/").removeprefix("./").replace("../", "up--").replace("/", "--")
    name = name.replace("~", "home").replace(":", "")
    if tuple(options.variants) != VARIANTS:
        name += "-" + "-".join(options.variants)
    if options.revision is not None:
        name += "@" + options.revision.replace("/", "--").replace(" ", "_")
    if name in ("", Path(_BUNDLED).name):
        raise InputError(
            f"{os.fspath(source)!r} has no default destination, because {EXPORTED / Path(_BUNDLED).name} is "
            "kept for the checkpoint that comes with FastSpan: say where the bundle should go, with out."
        )
    return EXPORTED / name


def main(words: Sequence[str]) -> int:
    """Print the default destination of a source; the Makefile asks for it.

    Args:
        words: The source, the variants with commas, and a revision or an empty string.
    """
    source, variants, revision = words
    try:
        chosen = tuple(name for name in VARIANTS if name in variants.split(","))
        sys.stdout.write(
            f"{default_destination(source, ExportOptions(variants=chosen, revision=revision or None))}\n"
        )
    except FastSpanError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
