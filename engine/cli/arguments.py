"""Arguments that several commands take, each declared once, as a parent parser.

A parent parser is made anew at each call: argparse shares a parent's arguments with the parsers that take
them over, defaults included.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TypedDict

from fastspan.cli.argument_types import domain, new_path, number, positive
from fastspan.cli.parsing import CommandParser
from fastspan.errors import BundleError

__all__ = [
    "FILES",
    "FOLDERS",
    "LoadArguments",
    "bundle_argument",
    "bundle_of",
    "bundle_option",
    "completed_with",
    "copy_option",
    "decoding_options",
    "domain_option",
    "json_option",
    "load_arguments",
    "load_options",
    "provider_option",
    "question_options",
    "revision_option",
    "threads_option",
    "variant_option",
]

DEFAULT_BUNDLE = Path("models/exported/minilm-l6-squad2")
"""Where ``make export`` leaves the bundled model, seen from the project's folder."""

BUNDLE_VARIABLE = "FASTSPAN_BUNDLE"
"""The environment variable that names the bundle to use."""

FILES = {"bash": "_shtab_compgen_files", "zsh": "_files"}
"""What a shell completes an argument with: names of files. The values are shtab's own."""

FOLDERS = {"bash": "_shtab_compgen_dirs", "zsh": "_files -/"}
"""What a shell completes an argument with: names of folders."""


class LoadArguments(TypedDict):
    """How a bundle is loaded, as ``QuestionAnswerer.load`` takes it."""

    revision: str | None
    variant: str
    provider: str
    threads: int | None


def completed_with(action: argparse.Action, names: dict[str, str]) -> None:
    """Say which names a shell completes an argument with; shtab looks for this attribute."""
    action.complete = names  # type: ignore[attr-defined]


def bundle_argument(
    meaning: str = "the folder that fastspan export wrote, or a hub id",
) -> CommandParser:
    """Return a parent parser with the argument ``BUNDLE``."""
    parent = _parent()
    completed_with(parent.add_argument("bundle", metavar="BUNDLE", help=meaning), FOLDERS)
    return parent


def revision_option() -> CommandParser:
    """Return a parent parser with ``--revision``, for commands that take a hub id."""
    parent = _parent()
    parent.add_argument("--revision", metavar="R", help="with a hub id: branch, tag or commit")
    return parent


def bundle_option(
    meaning: str = "the bundle to answer with, a folder or a hub id",
) -> CommandParser:
    """Return a parent parser with ``--bundle``; ``bundle_of`` reads it."""
    parent = _parent()
    option = parent.add_argument(
        "--bundle",
        metavar="FOLDER",
        help=f"{meaning} (default: ${BUNDLE_VARIABLE}, else {DEFAULT_BUNDLE})",
    )
    completed_with(option, FOLDERS)
    return parent


def variant_option(
    default: str = "auto", meaning: str = "the precision to run", why: str = ""
) -> CommandParser:
    """Return a parent parser with ``--variant``.

    Args:
        default: Which variant where none is given.
        meaning: What it is for.
        why: What the default comes to, for people.
    """
    parent = _parent()
    parent.add_argument(
        "--variant",
        choices=("auto", "fp32", "fp16", "int8"),
        default=default,
        help=f"{meaning} (default: {default}, {why or 'what suits provider and CPU best'})",
    )
    return parent


def provider_option(default: str | None = "auto", group: str | None = None) -> CommandParser:
    """Return a parent parser with ``--provider``.

    Args:
        default: What is taken where none is given; None: ``auto`` too, but one can see that none was given.
        group: Title of the group of options that it belongs to.
    """
    parent = _parent()
    _within(parent, group).add_argument(
        "--provider",
        metavar="P",
        default=default,
        help="where to run: auto, cpu, cuda, tensorrt … or an execution provider's full name (default: auto)",
    )
    return parent


def threads_option() -> CommandParser:
    """Return a parent parser with ``--threads``."""
    parent = _parent()
    parent.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="threads to compute with (default: the cores this process may use)",
    )
    return parent


def load_options(variant: CommandParser | None = None) -> list[CommandParser]:
    """Return parent parsers with ``--revision``, ``--variant``, ``--provider`` and ``--threads``.

    Args:
        variant: What ``variant_option`` returned, where the plain one does not fit.
    """
    return [revision_option(), variant or variant_option(), provider_option(), threads_option()]


def load_arguments(arguments: argparse.Namespace) -> LoadArguments:
    """Return what the options of ``load_options`` were set to."""
    return {
        "revision": arguments.revision,
        "variant": arguments.variant,
        "provider": arguments.provider,
        "threads": arguments.threads,
    }


def question_options(
    meaning: str = "questions and their answers: a file or a hub data set (default: the project's own)",
    *,
    required: bool = False,
    group: str | None = None,
) -> CommandParser:
    """Return a parent parser with ``--data`` and ``--limit``.

    Args:
        meaning: What the questions are for.
        required: Whether ``--data`` has to be given.
        group: Title of the group of options that they belong to.
    """
    parent = _parent()
    within = _within(parent, group)
    completed_with(within.add_argument("--data", metavar="FILE", required=required, help=meaning), FILES)
    within.add_argument("--limit", type=positive, metavar="N", help="take the first N questions only")
    return parent


def decoding_options(longest: str = "30") -> CommandParser:
    """Return a parent parser with ``--no-answer-threshold`` and ``--max-answer-length``.

    Args:
        longest: The longest answer where none is given, for people.
    """
    parent = _parent()
    parent.add_argument(
        "--no-answer-threshold",
        type=number,
        metavar="X",
        help="no answer when null score - best span score exceeds X (default: the bundle's)",
    )
    parent.add_argument(
        "--max-answer-length",
        type=positive,
        metavar="N",
        help=f"longest answer, in tokens (default: {longest})",
    )
    return parent


def domain_option(meaning: str) -> CommandParser:
    """Return a parent parser with ``--domain``.

    Args:
        meaning: What the domain is for.
    """
    parent = _parent()
    parent.add_argument("--domain", type=domain, metavar="NAME", help=meaning)
    return parent


def json_option() -> CommandParser:
    """Return a parent parser with ``--json``."""
    parent = _parent()
    parent.add_argument("--json", action="store_true", help="print one JSON object")
    return parent


def copy_option(what: str) -> CommandParser:
    """Return a parent parser with ``--copy-to``; ``copied_bundle.own_bundle`` reads it.

    Args:
        what: What is written, such as ``"the profile"``.
    """
    parent = _parent()
    option = parent.add_argument(
        "--copy-to",
        metavar="FOLDER",
        type=new_path,
        help=f"copy the bundle to this new folder and write {what} there; a hub id needs it",
    )
    completed_with(option, FOLDERS)
    return parent


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


def _parent() -> CommandParser:
    return CommandParser(add_help=False, allow_abbrev=False)


def _within(parent: CommandParser, group: str | None) -> CommandParser:
    return parent if group is None else parent.add_argument_group(group)  # type: ignore[return-value]
