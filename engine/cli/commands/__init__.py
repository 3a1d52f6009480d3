"""The commands of ``fastspan``: a word each in ``COMMANDS``, a module each in the folders beside this file.

A command's module holds what ``CommandModule`` lists. All of them are imported to build the parser, so they
import what they work with inside ``run``: no exporter and no benchmark is loaded to answer a question.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from importlib import import_module
from typing import Any, Protocol

from fastspan.cli.parsing import CommandParser

__all__ = ["COMMANDS", "CommandModule", "UsageError", "modules"]

COMMANDS = (
    "answering.answer",
    "answering.bulk",
    "answering.serve",
    "bundles.export",
    "judging.verify",
    "judging.evaluate",
    "judging.calibrate",
    "bundles.tune",
    "judging.bench_serve",
    "judging.plan",
    "bundles.info",
    "bundles.slim",
    "bundles.push",
    "bundles.package",
    "doctor",
    "completion",
)
"""The modules of this package that are commands, in the order of the list of commands."""


class CommandModule(Protocol):
    """What a command's module holds.

    Attributes:
        NAME: The command's name.
        HELP: What it does, for the list of commands: lower case, without a full stop.
        EXAMPLES: Command lines that show how it is used.
    """

    NAME: str
    HELP: str
    EXAMPLES: tuple[str, ...]

    def parents(self) -> list[CommandParser]:
        """Return the parsers of the arguments that it shares with other commands."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the arguments that it alone has."""

    def run(self, arguments: Namespace) -> int:
        """Do the command's work and return its exit code."""


class UsageError(Exception):
    """Arguments that are fine one by one but not together; told like argparse's own errors."""


def modules() -> list[CommandModule]:
    """Import the commands' modules."""
    found: list[Any] = [import_module(f"{__name__}.{name}") for name in COMMANDS]
    return list(found)
