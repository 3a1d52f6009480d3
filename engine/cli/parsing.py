"""The parsers of the command line: argparse with harmless errors, and with the order of words left free."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from fastspan.cli.terminal import told

__all__ = ["CommandLine", "CommandParser"]


class Parser(argparse.ArgumentParser):
    """A parser whose errors hold no word of any length, and nothing that a terminal would obey."""

    def error(self, message: str) -> NoReturn:
        """Show the usage and what was wrong, and end with exit code 2."""
        super().error(told(message))


class CommandParser(Parser):
    """A parser that takes arguments before, between and behind the options, and negative numbers of any form.

    Plain argparse gives an optional argument its default as soon as the one before it is read, and then
    refuses the word that stands behind the next option. It also takes ``-1e9`` and ``-inf`` for options. Its
    ``parse_intermixed_args`` mends the first and loses what ``--`` protects.
    """

    @property
    def arguments(self) -> tuple[argparse.Action, ...]:
        """All that it takes, options and others, in the order in which they were declared."""
        return tuple(self._actions)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse the words with the options put first; what is left over is an error of this command."""
        words = sys.argv[1:] if args is None else args
        found, unknown = super().parse_known_args(self._options_first(words), namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, []

    def _options_first(self, words: Sequence[str]) -> list[str]:
        """Return the options with their values, then ``--`` and the rest, each in its order."""
        options: list[str] = []
        rest: list[str] = []
        coming = list(reversed(words))
        while coming:
            word = coming.pop()
            if word == "--":
                rest += reversed(coming)
                break
            if not word.startswith("-") or word == "-" or _is_number(word):
                rest.append(word)
                continue
            option = self._option_string_actions.get(word)
            if option is None or option.nargs == 0 or not coming or not _is_value(coming[-1]):
                options.append(word)
            else:
                # Joined by "=", a value may begin with a hyphen.
                options.append(f"{word}={coming.pop()}")
        return [*options, "--", *rest] if rest else options


class CommandLine(Parser):
    """The parser of a program of commands.

    Attributes:
        commands: Name → the command's parser.
    """

    commands: Mapping[str, CommandParser]


def _is_value(word: str) -> bool:
    return not word.startswith("-") or word == "-" or _is_number(word)


def _is_number(word: str) -> bool:
    try:
        return not math.isnan(float(word))
    except ValueError:
        return False
