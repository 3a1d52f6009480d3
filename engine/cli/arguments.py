"""Arguments that several commands take, and the types of arguments."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path

from fastspan.errors import BundleError

__all__ = ["add_bundle_option", "add_load_options", "bundle_of", "number", "positive"]

DEFAULT_BUNDLE = Path("models/exported/minilm-l6-squad2")
"""Where ``make export`` leaves the bundled model, seen from the project's folder."""

BUNDLE_VARIABLE = "FASTSPAN_BUNDLE"
"""The environment variable that names the bundle to use."""


def add_bundle_option(
    parser: argparse.ArgumentParser, purpose: str = "the bundle to answer with, or a hub id"
) -> None:
    """Add ``--bundle``; ``bundle_of`` reads it."""
    parser.add_argument(
        "--bundle",
        metavar="FOLDER",
        help=f"{purpose} (default: ${BUNDLE_VARIABLE}, else {DEFAULT_BUNDLE})",
    )


def add_load_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--variant``, ``--provider`` and ``--threads``: how a bundle is loaded."""
    parser.add_argument(
        "--variant",
        choices=("auto", "fp32", "fp16", "int8"),
        default="auto",
        help="the precision to run (default: auto, what suits provider and CPU best)",
    )
    parser.add_argument(
        "--provider",
        metavar="P",
        default="auto",
        help="where to run: auto, cpu, cuda, tensorrt … or an execution provider's full name (default: auto)",
    )
    parser.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="threads to compute with (default: the cores this process may use)",
    )


def bundle_of(given: str | None) -> str:
    """Return the bundle to use: the one given, else the environment's, else the bundled model's.

    Raises:
        BundleError: There is none of these.
    """
    named = given or os.environ.get(BUNDLE_VARIABLE)
    if named:
        return named
    if DEFAULT_BUNDLE.is_dir():
        return str(DEFAULT_BUNDLE)
    raise BundleError(
        f"no bundle to answer with: pass --bundle FOLDER or set {BUNDLE_VARIABLE} to a folder that `fastspan "
        f"export` wrote (there is no {DEFAULT_BUNDLE} in the working directory)."
    )


def positive(text: str) -> int:
    """The type of a whole number of at least 1."""
    value = int(text) if text.isascii() and text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return value


def number(text: str) -> float:
    """The type of any number, infinities included."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return value
