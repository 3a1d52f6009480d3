"""Answered rows as bytes, in the format of the output."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from fastspan.bulk.answering import Answered
from fastspan.bulk.chunks import Chunk
from fastspan.bulk.columns import Columns
from fastspan.bulk.parquet_files import ParquetSource, answered_batch, output_schema, write_parquet
from fastspan.bulk.text_sources import CsvSource

__all__ = ["CsvRows", "JsonLines", "ParquetRows", "Rows", "Written", "reject_line"]


class Written:
    """A chunk's rows as bytes.

    Attributes:
        answers: What goes to the output.
        rejects: What goes to the rejects, as JSON lines.
        answered: How many rows were answered.
        rejected: How many were not.
    """

    def __init__(self) -> None:
        self.answers, self.rejects = bytearray(), bytearray()
        self.answered = self.rejected = 0

    def reject(self, chunk: Chunk, index: int, reason: str, columns: Columns) -> None:
        """Add a row that could not be answered."""
        self.rejects += reject_line(chunk, index, reason, columns)
        self.rejected += 1


class Rows(Protocol):
    """A format of the output.

    Attributes:
        begin: What stands before the first row.
    """

    begin: bytes

    def write(self, chunk: Chunk, results: Sequence[Answered | str]) -> Written:
        """Return a chunk's rows as bytes; ``results`` has an answer or a reason for each."""

    def finish(self, answers: Path) -> Path:
        """Make the output of all that was written, beside it, and return it."""


class JsonLines:
    """An object a line.

    Args:
        columns: How columns are used.
    """

    begin = b""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns

    def write(self, chunk: Chunk, results: Sequence[Answered | str]) -> Written:
        """Return a chunk's rows; see ``Rows``."""
        written = Written()
        for index, result in enumerate(results):
            if isinstance(result, str):
                written.reject(chunk, index, result, self._columns)
                continue
            record = chunk.records[index]
            row = {name: record[name] for name in self._columns.carried(record)}
            row.update(
                zip(self._columns.added, _added(self._columns, chunk.first + index, result), strict=True)
            )
            try:
                written.answers += _line(row)
            except ValueError:
                written.reject(chunk, index, "holds a number that no 64-bit float can hold", self._columns)
                continue
            written.answered += 1
        return written

    def finish(self, answers: Path) -> Path:
        """Leave it as it is."""
        return answers


class CsvRows:
    """A table with the columns of a CSV input.

    Args:
        source: The input.
        delimiter: What stands between two fields.
    """

    def __init__(self, source: CsvSource, delimiter: str) -> None:
        self._columns, self._delimiter = source.columns, delimiter
        self._names = source.columns.carried(source.header)
        self.begin = self._row([*self._names, *source.columns.added])

    def write(self, chunk: Chunk, results: Sequence[Answered | str]) -> Written:
        """Return a chunk's rows; see ``Rows``."""
        written = Written()
        for index, result in enumerate(results):
            if isinstance(result, str):
                written.reject(chunk, index, result, self._columns)
                continue
            record = chunk.records[index]
            added = _added(self._columns, chunk.first + index, result)
            written.answers += self._row([*(record[name] for name in self._names), *added])
            written.answered += 1
        return written

    def finish(self, answers: Path) -> Path:
        """Leave it as it is."""
        return answers

    def _row(self, fields: Sequence[Any]) -> bytes:
        text = io.StringIO()
        csv.writer(text, delimiter=self._delimiter, lineterminator="\n").writerow(fields)
        return text.getvalue().encode("utf-8")


class ParquetRows:
    """A Parquet file with the columns of a Parquet input, their types kept.

    Args:
        source: The input.
    """

    begin = b""

    def __init__(self, source: ParquetSource) -> None:
        self._columns = source.columns
        self._schema = output_schema(source)

    def write(self, chunk: Chunk, results: Sequence[Answered | str]) -> Written:
        """Return a chunk's rows; see ``Rows``."""
        written = Written()
        good: list[int] = []
        answered: list[Answered] = []
        for index, result in enumerate(results):
            if isinstance(result, str):
                written.reject(chunk, index, result, self._columns)
            else:
                good.append(index)
                answered.append(result)
        written.answers += answered_batch(self._schema, chunk, good, answered)
        written.answered = len(good)
        return written

    def finish(self, answers: Path) -> Path:
        """Make one Parquet file of the messages."""
        made = answers.with_name(f"{answers.name}.parquet")
        write_parquet(answers, self._schema, made)
        return made


def reject_line(chunk: Chunk, index: int, reason: str, columns: Columns) -> bytes:
    """Return a row that could not be answered as a line of JSON: its name, why, and all that it held."""
    record = chunk.records[index]
    named = {"row": chunk.first + index}
    if columns.id is not None and columns.id in record:
        named[columns.id] = record[columns.id]
    said = {**named, "reason": reason}
    try:
        return _line({**said, "record": dict(record)})
    except ValueError:
        # A number that JSON has no word for.
        return _line({"row": named["row"], "reason": reason, "record": {"text": str(record)}})


def _added(columns: Columns, row: int, answered: Answered) -> Sequence[Any]:
    return answered if columns.id is not None else (row, *answered)


def _line(value: Mapping[str, Any]) -> bytes:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain)
    try:
        return f"{text}\n".encode()
    except UnicodeEncodeError:
        # Half of a surrogate pair, which JSON can name and UTF-8 cannot hold.
        return f"{json.dumps(value, allow_nan=False, default=_plain)}\n".encode()


def _plain(value: Any) -> str:
    """Return what JSON has no word for, such as a date of a Parquet file, as text."""
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)
