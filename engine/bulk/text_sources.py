"""JSON lines and CSV, read from any row on; a row that cannot be read is kept as text, with the reason."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

from fastspan.bulk.chunks import Chunk, Place, full
from fastspan.bulk.columns import Columns
from fastspan.bundle.strict_json import parse
from fastspan.errors import InputError

__all__ = ["CsvSource", "JsonLinesSource"]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Bytes that are no UTF-8 stand as these until their row is rejected.
_NO_UTF8 = "surrogateescape"
# Of a CSV field, in characters; the module's own limit is 131072, which a long document exceeds.
_LONGEST_FIELD = 1 << 28

_Record = Mapping[str, Any]


class _Chunks:
    """Gathers rows into chunks.

    Args:
        start: Where the first row begins.
    """

    def __init__(self, columns: Columns, start: Place) -> None:
        self._columns = columns
        self._end = start
        self._begin(start.rows)

    def _begin(self, first: int) -> None:
        self._first, self._characters = first, 0
        self._pairs: list[tuple[str, str] | str] = []
        self._records: list[_Record] = []

    def add(self, record: _Record, fault: str | None, offset: int) -> Chunk | None:
        """Take a row, and return the chunk that it fills."""
        pair = self._columns.pair(record) if fault is None else fault
        self._pairs.append(pair)
        self._records.append(record)
        self._characters += sum(map(len, pair))
        self._end = Place(self._end.rows + 1, offset)
        return self.rest() if full(len(self._pairs), self._characters) else None

    def rest(self) -> Chunk | None:
        """Return the rows that no chunk was made of."""
        if not self._pairs:
            return None
        chunk = Chunk(first=self._first, pairs=self._pairs, records=self._records, end=self._end)
        self._begin(self._end.rows)
        return chunk


class JsonLinesSource:
    """An object a line; blank lines are no rows.

    Args:
        file: The input, opened in binary.
        name: What messages call it.
        columns: How its columns are used.
        size: Its length in bytes; None for a pipe.
    """

    def __init__(self, file: IO[bytes], name: str, columns: Columns, size: int | None) -> None:
        self._file, self.name, self.columns = file, name, columns
        self.size: int | None = size

    def chunks(self, start: Place) -> Iterator[Chunk]:
        """Read from a place on; see ``Source``."""
        if start.offset:
            self._file.seek(start.offset)
        chunks = _Chunks(self.columns, start)
        offset = start.offset
        checked = start.rows > 0
        for line in self._file:
            text = line.removeprefix(_BYTE_ORDER_MARK) if offset == 0 else line
            offset += len(line)
            if not text.strip():
                continue
            record, fault = _parsed(text)
            if not checked and fault is None:
                self.columns.check(record, f"the first row of {self.name}")
                checked = True
            if chunk := chunks.add(record, fault, offset):
                yield chunk
        if chunk := chunks.rest():
            yield chunk


def _parsed(line: bytes) -> tuple[_Record, str | None]:
    """Return an object, or the line as text and why it is none."""
    try:
        record = parse(line)
    except UnicodeDecodeError as error:
        fault = f"byte {error.start} of the line is not UTF-8"
    except ValueError as error:
        fault = f"not JSON: {error}"
    else:
        if isinstance(record, dict):
            return record, None
        fault = "no JSON object"
    return {"text": line.decode("utf-8", "backslashreplace").rstrip("\r\n")}, fault


class CsvSource:
    """A table whose first row names its columns; blank lines are no rows.

    Args:
        file: The input, opened in binary.
        name: What messages call it.
        columns: How its columns are used.
        size: Its length in bytes.
        delimiter: What stands between two fields.

    Raises:
        InputError: The first row is missing or names a column twice, or a column is missing.
    """

    def __init__(
        self, file: IO[bytes], name: str, columns: Columns, size: int | None, delimiter: str
    ) -> None:
        self._file, self.name, self.columns = file, name, columns
        self.size: int | None = size
        self._delimiter = delimiter
        rows = self._rows(0)
        self.header, fault, self._body = next(rows, ([], None, 0))
        if fault or not self.header or any(_undecoded(column) for column in self.header):
            raise InputError(
                f"{name} has no first row of column names in UTF-8 ({fault or 'there is none'})."
            )
        if len(set(self.header)) < len(self.header):
            twice = next(column for column in self.header if self.header.count(column) > 1)
            raise InputError(f"{name} has two columns {twice!r}: rename one in the file's first row.")
        columns.check(self.header, name)

    def chunks(self, start: Place) -> Iterator[Chunk]:
        """Read from a place on; see ``Source``."""
        chunks = _Chunks(self.columns, start)
        for row, fault, offset in self._rows(start.offset or self._body):
            record: _Record = dict(zip(self.header, row, strict=False))
            if fault is None and len(row) != len(self.header):
                fault = f"{len(row)} fields, where the first row of the file has {len(self.header)}"
            if fault is None and any(map(_undecoded, row)):
                fault = "not UTF-8"
            if fault is not None:
                readable = self._delimiter.join(row).encode("utf-8", _NO_UTF8)
                record = {"text": readable.decode("utf-8", "backslashreplace")}
            if chunk := chunks.add(record, fault, offset):
                yield chunk
        if chunk := chunks.rest():
            yield chunk

    def _rows(self, offset: int) -> Iterator[tuple[list[str], str | None, int]]:
        """Yield fields, or the text that is no row and why; and where the next row begins."""
        lines = _Lines(self._file, offset)
        reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
        while True:
            try:
                with _long_fields():
                    row, fault = next(reader), None
            except StopIteration:
                return
            except csv.Error as error:
                row, fault = ["".join(lines.taken).rstrip("\r\n")], f"not CSV: {error}"
            lines.taken.clear()
            if row:
                yield row, fault, lines.offset


class _Lines:
    """Lines of a file as text, and how many bytes were read: a CSV reader takes what its row needs."""

    def __init__(self, file: IO[bytes], offset: int) -> None:
        file.seek(offset)
        self._file, self.offset = file, offset
        self.taken: list[str] = []

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._file.readline()
        if not line:
            raise StopIteration
        text = line.removeprefix(_BYTE_ORDER_MARK) if self.offset == 0 else line
        self.offset += len(line)
        self.taken.append(text.decode("utf-8", _NO_UTF8))
        return self.taken[-1]


def _undecoded(text: str) -> bool:
    return not text.isascii() and any("\udc80" <= character <= "\udcff" for character in text)


@contextmanager
def _long_fields() -> Iterator[None]:
    """The module's limit is a setting of the whole process, so it is changed for one row at a time."""
    former = csv.field_size_limit(_LONGEST_FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(former)
