"""Parquet, read row group by row group, and written once all rows are answered.

A Parquet file is unreadable until its end is written. So answers wait in messages of Arrow's own format,
which can be cut off behind any of them, and become a Parquet file at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from fastspan.bulk.answering import ANSWER_FIELDS, Answered
from fastspan.bulk.chunks import CHUNK_ROWS, Chunk, Place
from fastspan.bulk.columns import ROW, Columns
from fastspan.errors import InputError, MissingDependency

__all__ = ["ParquetSource", "answered_batch", "output_schema", "write_parquet"]

# A row group of the output has at least so many bytes, or is the last.
_GROUP_BYTES = 64_000_000


def _arrow() -> Any:
    try:
        import_module("pyarrow.parquet")
        return import_module("pyarrow")
    except ImportError as error:
        raise MissingDependency(
            "Parquet is read with pyarrow, which is not installed: run pip install 'fastspan[bulk]'."
        ) from error


class ParquetSource:
    """A Parquet file.

    Args:
        path: The file.
        name: What messages call it.
        columns: How its columns are used.

    Attributes:
        schema: The columns that go on to the output.

    Raises:
        InputError: It is not Parquet, or a column is missing.
        MissingDependency: pyarrow is not installed.
    """

    def __init__(self, path: Path, name: str, columns: Columns) -> None:
        self._arrow = _arrow()
        self.name, self.columns = name, columns
        with _told(name):
            self._file = self._arrow.parquet.ParquetFile(path)
            self.size: int | None = self._file.metadata.num_rows
            whole = self._file.schema_arrow
        if len(set(whole.names)) < len(whole.names):
            raise InputError(f"{name} has two columns of one name: rename one.")
        columns.check(whole.names, name)
        self.schema = _plain_schema(self._arrow, whole, columns.carried(whole.names))
        for field in self.schema:
            if "dictionary<" in str(field.type):
                raise InputError(f"{name}: the column {field.name!r} holds dictionaries within another type.")

    def chunks(self, start: Place) -> Iterator[Chunk]:
        """Read from a place on; see ``Source``."""
        group, skipped = 0, 0
        counts = [self._file.metadata.row_group(n).num_rows for n in range(self._file.num_row_groups)]
        while group < len(counts) and skipped + counts[group] <= start.rows:
            skipped += counts[group]
            group += 1
        done = skipped
        with _told(self.name):
            batches = self._file.iter_batches(CHUNK_ROWS, row_groups=range(group, len(counts)))
            for batch in batches:
                before, done = done, done + batch.num_rows
                if done <= start.rows:
                    continue
                yield self._chunk(batch.slice(max(0, start.rows - before)), max(before, start.rows), done)

    def _chunk(self, batch: Any, first: int, end: int) -> Chunk:
        used = {name: batch.column(name).to_pylist() for name in self.columns.needed}
        rows = [dict(zip(used, values, strict=True)) for values in zip(*used.values(), strict=True)]
        carried = self._arrow.RecordBatch.from_arrays(
            [_plain_column(self._arrow, batch.column(name)) for name in self.schema.names], schema=self.schema
        )
        return Chunk(
            first=first,
            pairs=[self.columns.pair(row) for row in rows],
            records=_Rows(batch),
            end=Place(end, end),
            batch=carried,
        )


class _Rows(Sequence[Any]):
    """Rows of a batch as built-in types, made as they are asked for; times are text, to the nanosecond."""

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    def __len__(self) -> int:
        return int(self._batch.num_rows)

    def __getitem__(self, index: Any) -> Any:
        columns = zip(self._batch.schema.names, self._batch.slice(index, 1).columns, strict=True)
        return {name: _value(column) for name, column in columns}


def _value(column: Any) -> Any:
    """Return the only value of a column."""
    arrow = _arrow()
    if arrow.types.is_temporal(column.type):
        # Python's own types end at microseconds.
        as_number = arrow.types.is_duration(column.type)
        column = column.cast(arrow.int64() if as_number else arrow.string())
    try:
        return column.to_pylist()[0]
    except ValueError:
        # Nanoseconds within a list or a struct.
        return str(column)


def output_schema(source: ParquetSource) -> Any:
    """Return the schema of the answers to a Parquet file."""
    arrow = _arrow()
    kinds = {"answer": arrow.string(), "start": arrow.int64(), "end": arrow.int64(), ROW: arrow.int64()}
    schema = source.schema
    for name in source.columns.added:
        kind = kinds.get(name.removeprefix(source.columns.prefix), arrow.float64())
        schema = schema.append(arrow.field(name, kind))
    return schema


def answered_batch(schema: Any, chunk: Chunk, good: Sequence[int], answered: Sequence[Answered]) -> bytes:
    """Return the answered rows of a chunk as one message of Arrow's.

    Args:
        schema: As ``output_schema`` returned it.
        chunk: The chunk of a ``ParquetSource``.
        good: Which of its rows were answered.
        answered: Their answers.
    """
    arrow = _arrow()
    if not good:
        return b""
    carried = chunk.batch.take(arrow.array(good, arrow.int64()))
    values: list[Sequence[Any]] = [list(column) for column in zip(*answered, strict=True)]
    added = schema.names[carried.num_columns :]
    if len(added) > len(ANSWER_FIELDS):
        values.insert(0, [chunk.first + index for index in good])
    arrays = [arrow.array(column, schema.field(n).type) for n, column in zip(added, values, strict=True)]
    message: bytes = (
        arrow.RecordBatch.from_arrays([*carried.columns, *arrays], schema=schema).serialize().to_pybytes()
    )
    return message


def write_parquet(messages: Path, schema: Any, out: Path) -> None:
    """Make a Parquet file of the messages of ``answered_batch``."""
    arrow = _arrow()
    with (
        arrow.OSFile(str(messages), "rb") as stream,
        arrow.parquet.ParquetWriter(out, schema, compression="zstd") as writer,
    ):
        waiting: list[Any] = []
        held, end = 0, stream.size()
        while stream.tell() < end:
            waiting.append(arrow.ipc.read_record_batch(arrow.ipc.read_message(stream), schema))
            held += waiting[-1].nbytes
            if held >= _GROUP_BYTES:
                writer.write_table(arrow.Table.from_batches(waiting, schema))
                waiting, held = [], 0
        writer.write_table(arrow.Table.from_batches(waiting, schema))


def _plain_schema(arrow: Any, schema: Any, names: Sequence[str]) -> Any:
    """A message of its own cannot hold a dictionary, so columns coded by one are written out."""
    fields = [schema.field(name) for name in names]
    return arrow.schema([field.with_type(_plain_type(arrow, field.type)) for field in fields])


def _plain_type(arrow: Any, kind: Any) -> Any:
    return kind.value_type if arrow.types.is_dictionary(kind) else kind


def _plain_column(arrow: Any, column: Any) -> Any:
    return column.dictionary_decode() if arrow.types.is_dictionary(column.type) else column


@contextmanager
def _told(name: str) -> Iterator[None]:
    arrow = _arrow()
    try:
        yield
    except (arrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{name} cannot be read as Parquet ({reason[:200]}).") from error
