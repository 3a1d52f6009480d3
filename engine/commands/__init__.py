"""The commands of ``fastspan``: a line each here, a module each beside this file.

A command's module holds ``EXAMPLES``, ``add_arguments`` and ``run`` (see ``CommandModule``). It is imported
only when its command is called, and imports what it works with inside ``run``: so the exporter and the
benchmarks are never loaded to answer a question.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from importlib import import_module
from typing import Any, NamedTuple, Protocol, cast

__all__ = ["COMMANDS", "Command", "CommandModule", "UsageError", "load"]


class Command(NamedTuple):
    """A command: its name, its module in this package, and a summary for the list of commands."""

    name: str
    module: str
    summary: str


COMMANDS = (
    Command("answer", "answer", "answer a question from a text"),
    Command("export", "export", "export a checkpoint to a bundle that fastspan runs"),
    Command("verify", "verify", "check that a bundle is whole and that its variants agree"),
    Command("info", "info", "show what is in a bundle"),
    Command("doctor", "doctor", "show what this machine and installation offer"),
)


class CommandModule(Protocol):
    """What a command's module holds."""

    EXAMPLES: tuple[str, ...]

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the command's arguments."""

    def run(self, arguments: Namespace) -> int:
        """Do the command's work and return its exit code."""


class UsageError(Exception):
    """Arguments that are fine one by one but not together; told like argparse's own errors."""


def load(command: Command) -> CommandModule:
    """Import a command's module."""
    module: Any = import_module(f"{__name__}.{command.module}")
    return cast(CommandModule, module)
