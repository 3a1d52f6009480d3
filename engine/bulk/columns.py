"""Which columns of a row are its question and its context, and which go on to the output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fastspan.bulk.answering import ANSWER_FIELDS
from fastspan.errors import InputError
from fastspan.options import shown

__all__ = ["ROW", "Columns"]

ROW = "row"
"""The column that holds a row's number in the input, from 0, where no column names the rows."""

_MOST_NAMED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """How columns are used.

    Attributes:
        question: The column of the questions; not looked at where ``ask`` is given.
        context: The column of the texts that may hold the answers.
        ask: One question for all rows; None: each has its own.
        id: The column that names a row, in rejects too; None: rows are numbered in a column ``row``.
        prefix: What the names of the answer's columns begin with.
        keep_context: Whether the context goes on to the output. All other columns do.
    """

    question: str = "question"
    context: str = "context"
    ask: str | None = None
    id: str | None = None
    prefix: str = ""
    keep_context: bool = False

    def __post_init__(self) -> None:
        if self.ask is not None and not self.ask.strip():
            raise InputError("the question for all rows is empty: give one, or name the column of questions.")

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns that every row must have."""
        names = [self.context]
        if self.ask is None:
            names.append(self.question)
        if self.id is not None:
            names.append(self.id)
        return tuple(dict.fromkeys(names))

    @property
    def added(self) -> tuple[str, ...]:
        """The columns that the output has beside those of the input, in order."""
        numbered = () if self.id is not None else (self.prefix + ROW,)
        return (*numbered, *(self.prefix + name for name in ANSWER_FIELDS))

    def carried(self, names: Iterable[str]) -> list[str]:
        """Return those of some columns that go on to the output, in their order."""
        return [name for name in names if self.keep_context or name != self.context]

    def check(self, names: Iterable[str], source: str) -> None:
        """Refuse an input whose columns cannot be used.

        Args:
            names: The columns that there are.
            source: The input, for the message.

        Raises:
            InputError: A column is missing, or has the name of one that would be added.
        """
        there = list(names)
        for name in self.needed:
            if name not in there:
                listed = ", ".join(map(shown, there[:_MOST_NAMED])) or "none"
                option = {self.context: "--context", self.question: "--question"}.get(name, "--id")
                raise InputError(
                    f"{source} has no column {shown(name)} (there are: {listed}): name the right one with "
                    f"{option}."
                )
        if taken := [name for name in self.carried(there) if name in self.added]:
            raise InputError(
                f"{source} has a column {shown(taken[0])}, and the answers would get a column of that name: "
                "give theirs a prefix, such as --prefix qa_."
            )

    def pair(self, values: Mapping[str, Any]) -> tuple[str, str] | str:
        """Return a row's question and context, or why it has none."""
        for name in self.needed:
            if name not in values:
                return f"there is no {shown(name)}"
        question = values[self.question] if self.ask is None else self.ask
        for name, text in ((self.question, question), (self.context, values[self.context])):
            if not isinstance(text, str):
                kind = "null" if text is None else type(text).__name__
                return f"{shown(name)} is {kind}, not text"
        if self.id is not None and values[self.id] in (None, ""):
            return f"{shown(self.id)}, which names the row, is empty"
        if taken := [name for name in self.carried(values) if name in self.added]:
            return f"there is a {shown(taken[0])} already: the answers need a prefix"
        return question, values[self.context]
