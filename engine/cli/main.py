"""The command line: the parser, the dispatch, and how errors are shown.

Exit codes: 0 for success, 1 for an error, which is one line on standard error, 2 for wrong usage, 130 when
interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from fastspan import __version__
from fastspan.cli.commands import UsageError, modules
from fastspan.cli.parsing import CommandLine, CommandParser
from fastspan.cli.terminal import harmless, say, told
from fastspan.errors import FastSpanError

__all__ = ["build_parser", "main"]

_EXIT_CODES = "exit codes: 0 success, 1 an error, 2 wrong usage, 130 interrupted"
_DEBUG_HELP = "show the traceback of an error"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments without the program's name; None: those of the process.

    Returns:
        The exit code.

    Raises:
        SystemExit: Wrong usage, ``--help`` or ``--version``, as argparse has it.
    """
    _settle_streams()
    # An error is one line: what huggingface_hub logs while it retries would stand before it, a page long.
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        code = _run(words)
    except BrokenPipeError:
        _close_output()
        return 0
    except KeyboardInterrupt:
        return 130
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _close_output()
    except OSError as error:
        _close_output()
        if code == 0:
            say(f"fastspan: error: standard output cannot be written: {error.strerror}")
        return 1
    return code


def build_parser() -> CommandLine:
    """Return the parser of the command line, every command's arguments declared."""
    parser = CommandLine(
        prog="fastspan",
        description="Extractive question answering: text in, the answering span out.",
        epilog=f"fastspan COMMAND --help shows a command's options and examples.\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"fastspan {__version__}")
    parser.add_argument("--debug", action="store_true", help=_DEBUG_HELP)
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=CommandParser
    )
    for module in modules():
        # A parent too: its own options stand before those it shares, and join their groups.
        own = CommandParser(add_help=False, allow_abbrev=False)
        module.add_arguments(own)
        command = commands.add_parser(
            module.NAME,
            help=module.HELP,
            description=f"{module.HELP[0].upper()}{module.HELP[1:]}.",
            epilog="\n".join(["examples:", *(f"  {example}" for example in module.EXAMPLES)]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            parents=[own, *module.parents()],
        )
        # Without a default of its own, so that "fastspan --debug COMMAND" is not undone.
        command.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=_DEBUG_HELP)
        command.set_defaults(run=module.run, usage_error=command.error)
    parser.commands = commands.choices
    return parser


def _run(words: Sequence[str]) -> int:
    # A command may start processes of the same command line.
    arguments = argparse.Namespace(debug=False, words=words)
    try:
        build_parser().parse_args(words, arguments)
        return int(arguments.run(arguments))
    except UsageError as error:
        return _misused(arguments, str(error))
    except BrokenPipeError:
        raise
    except (FastSpanError, OSError, MemoryError) as error:
        # An error that nobody can be told is an error still.
        with contextlib.suppress(OSError):
            if arguments.debug:
                sys.stderr.write(harmless(traceback.format_exc()))
            say(f"fastspan: error: {_explained(error)}")
        return 1


def _explained(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "the memory is used up: give a shorter text, or run it where there is more."
    if isinstance(error, FileNotFoundError) and error.filename is None:
        try:
            os.getcwd()  # noqa: PTH109 - Path.cwd() says no more
        except OSError:
            return "the working directory was removed: change to a folder that is there."
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"{told(error.filename or 'standard output')} cannot be written: {error.strerror}; make room."
    if isinstance(error, OSError) and error.strerror:
        return told(f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror}.")
    return told(error)


def _misused(arguments: argparse.Namespace, message: str) -> NoReturn:
    arguments.usage_error(message)
    raise AssertionError("argparse's error() does not return")


def _settle_streams() -> None:
    """Write what the terminal's encoding lacks as an escape, and to a stream that was closed nothing."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _close_output() -> None:
    """Let what is left in the buffer go nowhere: nobody reads it, or there is no room for it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
