"""Rows on their way: read together, answered together, written together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fastspan.bulk.columns import Columns

__all__ = ["CHUNK_ROWS", "Chunk", "Place", "Source", "full"]

CHUNK_ROWS = 128
"""Rows that are read, answered and written together: what a worker gets at a time."""

# A chunk ends early once its texts hold so many characters, so that memory stays bounded.
_CHUNK_CHARACTERS = 1_000_000


@dataclass(frozen=True, slots=True)
class Place:
    """A place between two rows of an input.

    Attributes:
        rows: How many rows lie before it.
        offset: How many bytes of a text file do; of a Parquet file, how many rows.
    """

    rows: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Some rows.

    Attributes:
        first: The number of the first, from 0.
        pairs: Each row's question and context, or why it cannot be used.
        records: Each row's columns; of one that could not be read, its ``text``.
        end: The place behind the last row.
        batch: The columns that go on, as a record batch of pyarrow, where the input is Parquet.
    """

    first: int
    pairs: Sequence[tuple[str, str] | str]
    records: Sequence[Mapping[str, Any]]
    end: Place
    batch: Any = None


class Source(Protocol):
    """An input.

    Attributes:
        name: What messages call it.
        columns: How its columns are used.
        size: What ``Place.offset`` comes to at its end; None where nobody knows.
    """

    name: str
    columns: Columns
    size: int | None

    def chunks(self, start: Place) -> Iterator[Chunk]:
        """Read from a place on.

        Raises:
            InputError: The input cannot be read, or lacks a column.
        """


def full(rows: int, characters: int) -> bool:
    """Whether a chunk has had enough."""
    return rows >= CHUNK_ROWS or characters >= _CHUNK_CHARACTERS
