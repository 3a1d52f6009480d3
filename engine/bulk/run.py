"""The story of a run: rows to chunks, to workers, to the output, in order."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from fastspan.bulk.answering import Answered
from fastspan.bulk.chunks import Chunk, Place, Source
from fastspan.bulk.columns import Columns
from fastspan.bulk.engines import Engine
from fastspan.bulk.parquet_files import ParquetSource
from fastspan.bulk.text_sources import CsvSource, JsonLinesSource
from fastspan.bulk.work_folder import Counts, WorkFolder
from fastspan.bulk.writing import CsvRows, JsonLines, ParquetRows, Rows, Written
from fastspan.errors import InputError

__all__ = ["FileJob", "answer_file", "answer_stream", "kind_of"]

_KINDS = {
    ".jsonl": "JSON lines",
    ".ndjson": "JSON lines",
    ".csv": "CSV",
    ".tsv": "CSV",
    ".parquet": "Parquet",
}
_SAMPLE = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class FileJob:
    """What is made of which file.

    Attributes:
        source: The input.
        out: The output.
        rejects: The file for rows that could not be answered.
        columns: How columns are used.
        delimiter: What stands between two fields of a CSV file; None: a comma, in ``*.tsv`` a tab.
        options: What else decides on the answers, in words: a run goes on only where all are the same.
    """

    source: Path
    out: Path
    rejects: Path
    columns: Columns
    delimiter: str | None = None
    options: dict[str, str] = field(default_factory=dict)


class Watcher(Protocol):
    """Is told how far a run is; ``progress.Progress`` is one."""

    def at(self, place: Place, rejected: int) -> None:
        """Everything before ``place`` is done."""


def kind_of(path: Path) -> str:
    """Return the format that a file's name promises.

    Raises:
        InputError: It promises none.
    """
    if (kind := _KINDS.get(path.suffix.lower())) is None:
        raise InputError(
            f"{path} has no format known by its name: call it {', '.join('*' + s for s in _KINDS)}."
        )
    return kind


def answer_file(
    job: FileJob,
    engine: Callable[[], Engine],
    watch: Callable[[int | None, Place], Watcher],
    *,
    restart: bool = False,
) -> Counts:
    """Answer a file's rows. Cut off at any moment, it goes on where it was when it is called again.

    Args:
        job: What to do.
        engine: Makes what answers, once the files were found fit.
        watch: Given the input's size and where the run begins, makes what is told how far it is.
        restart: Begin again, where a former run was cut off.

    Returns:
        How many rows were answered and how many could not be, former runs' included.

    Raises:
        InputError: The input, the output or an option is unusable, or a former run's were others.
        FastSpanError: The bundle does not load, or a run failed.
    """
    with _opened(job) as (source, rows):
        before = _fingerprint(job.source)
        said = {
            "input": before,
            **{f"option {name!r}": str(value) for name, value in asdict(job.columns).items()},
            "delimiter": job.delimiter or "none",
            "rejects file": job.rejects.name,
            **job.options,
        }
        with WorkFolder.open(job.out, job.rejects, said, restart=restart) as work:
            if not work.finished:
                _work_through(source, rows, work, engine, watch)
                if _fingerprint(job.source) != before:
                    raise InputError(f"{job.source} was changed meanwhile: begin again with --restart.")
                work.commit()
                work.commit(finished=rows.finish(work.answers))
            work.publish()
            return work.counts


def answer_stream(
    source: Source,
    rows: Rows,
    out: IO[bytes],
    rejects: IO[bytes],
    engine: Callable[[], Engine],
    watch: Callable[[int | None, Place], Watcher],
) -> Counts:
    """Answer rows as they come, and write them at once: nothing is kept to go on with.

    Args:
        source: The input.
        rows: The format of the output.
        out: Where to.
        rejects: Where rows go that could not be answered.
        engine: As in ``answer_file``.
        watch: As in ``answer_file``.

    Returns:
        How many rows were answered and how many could not be.
    """
    counts, watcher = Counts(), watch(source.size, Place())
    out.write(rows.begin)
    for chunk, written in _answered(source, rows, Place(), engine):
        out.write(written.answers)
        rejects.write(written.rejects)
        out.flush()
        rejects.flush()
        counts.answered += written.answered
        counts.rejected += written.rejected
        watcher.at(chunk.end, counts.rejected)
    return counts


def _work_through(
    source: Source,
    rows: Rows,
    work: WorkFolder,
    engine: Callable[[], Engine],
    watch: Callable[[int | None, Place], Watcher],
) -> None:
    watcher = watch(source.size, work.place)
    work.begin(rows.begin)
    try:
        for chunk, written in _answered(source, rows, work.place, engine):
            work.add(
                bytes(written.answers), bytes(written.rejects), written.answered, written.rejected, chunk.end
            )
            watcher.at(chunk.end, work.counts.rejected)
    except (Exception, KeyboardInterrupt):
        # What is done stays done. After a disk that failed, that is what was committed before.
        with suppress(InputError):
            work.commit()
        raise


def _answered(
    source: Source, rows: Rows, start: Place, engine: Callable[[], Engine]
) -> Iterator[tuple[Chunk, Written]]:
    """Yield chunks with their rows as bytes, in order; so many are with the workers as they want."""
    answering = engine()
    try:
        waiting: deque[tuple[Chunk, Any]] = deque()
        for chunk in source.chunks(start):
            usable = [pair for pair in chunk.pairs if not isinstance(pair, str)]
            waiting.append((chunk, answering.start(usable) if usable else None))
            if len(waiting) > answering.ahead:
                yield _written(waiting.popleft(), answering, rows)
        while waiting:
            yield _written(waiting.popleft(), answering, rows)
    finally:
        answering.close()


def _written(begun: tuple[Chunk, Any], answering: Engine, rows: Rows) -> tuple[Chunk, Written]:
    chunk, work = begun
    results: Iterator[Answered | str] = iter(answering.finish(work) if work is not None else ())
    merged: Sequence[Answered | str] = [
        pair if isinstance(pair, str) else next(results) for pair in chunk.pairs
    ]
    return chunk, rows.write(chunk, merged)


@contextmanager
def _opened(job: FileJob) -> Iterator[tuple[Source, Rows]]:
    """Open the input, and choose the output's format."""
    kind, wanted = kind_of(job.source), kind_of(job.out)
    if wanted not in (kind, "JSON lines"):
        either = kind if kind == "JSON lines" else f"{kind} or JSON lines"
        raise InputError(f"{kind} can be answered to {either}: name {job.out.name} accordingly.")
    name = str(job.source)
    try:
        file = job.source.open("rb")
        size = job.source.stat().st_size
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror or error}.") from error
    with file:
        as_lines: Rows = JsonLines(job.columns)
        if kind == "Parquet":
            table = ParquetSource(job.source, name, job.columns)
            yield table, ParquetRows(table) if wanted == kind else as_lines
        elif kind == "CSV":
            delimiter = job.delimiter or ("\t" if job.source.suffix.lower() == ".tsv" else ",")
            fields = CsvSource(file, name, job.columns, size, delimiter)
            yield fields, CsvRows(fields, delimiter) if wanted == kind else as_lines
        else:
            yield JsonLinesSource(file, name, job.columns, size), as_lines


def _fingerprint(path: Path) -> str:
    """Say which file that is, without reading all of it: its size, its time, and its beginning and end."""
    try:
        found = path.stat()
        digest = hashlib.sha256()
        with path.open("rb") as file:
            digest.update(file.read(_SAMPLE))
            file.seek(max(0, found.st_size - _SAMPLE))
            digest.update(file.read(_SAMPLE))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    return f"{found.st_size} bytes, changed at {found.st_mtime_ns}, {digest.hexdigest()[:16]}"
