"""``fastspan completion``: what makes a shell complete ``fastspan``'s commands and options."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from fastspan.cli.parsing import CommandParser
from fastspan.cli.terminal import write
from fastspan.errors import MissingDependency

NAME = "completion"
HELP = "print a script with which a shell completes commands and options"
EXAMPLES = (
    "fastspan completion bash > ~/.local/share/bash-completion/completions/fastspan",
    "fastspan completion zsh > ~/.zfunc/_fastspan",
)


def parents() -> list[CommandParser]:
    """Return none: it shares no arguments."""
    return []


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments of ``fastspan completion``."""
    parser.add_argument("shell", metavar="SHELL", choices=("bash", "zsh"), help="bash or zsh")


def run(arguments: Namespace) -> int:
    """Print the script.

    Raises:
        MissingDependency: shtab is not installed.
    """
    from fastspan.cli.main import build_parser

    try:
        import shtab
    except ModuleNotFoundError as error:
        raise MissingDependency(
            "fastspan completion needs shtab, which is not installed: run pip install 'fastspan[completion]'."
        ) from error
    write(shtab.complete(build_parser(), arguments.shell))
    return 0
