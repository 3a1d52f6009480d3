"""Read evaluation questions: SQuAD's files, JSON lines, tables of questions, and data sets of the hub."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fastspan.benchmarks.questions.records import Question, field_of, object_of, questions_from
from fastspan.bundle.strict_json import named
from fastspan.bundle.whole_files import refuse_device
from fastspan.errors import DataError, InputError, MissingDependency
from fastspan.options import shown

__all__ = ["Question", "check_limit", "load_questions", "read_squad"]

_LINE_SUFFIXES = (".jsonl", ".ndjson")
_PARQUET_SUFFIX = ".parquet"
_FILE_SUFFIXES = (".json", *_LINE_SUFFIXES, _PARQUET_SUFFIX)

_Records = Iterator[tuple[str, Mapping[str, Any]]]


def read_squad(path: str | Path) -> list[Question]:
    """Read a file of questions, in the file's order; ``questions_from`` says what a question's record holds.

    ``*.parquet`` is a table with a row a question. ``*.jsonl`` and ``*.ndjson`` hold an object a line. Any
    other name is read as JSON in one of these layouts: SQuAD 1.1 or 2.0, whose ``data`` lists articles of
    paragraphs; the layout that ``run_qa.py`` of transformers reads, whose ``data`` lists questions; a list of
    questions; one question; columns, each a list, as ``Dataset.to_dict`` gives them; or JSON lines. UTF-8,
    with or without a byte order mark.

    Args:
        path: The file.

    Raises:
        DataError: The file cannot be read, or is not what its name and layout promise.
        MissingDependency: It is Parquet, and pyarrow is not installed.
    """
    path = Path(path)
    source = str(path)
    if path.suffix.lower() == _PARQUET_SUFFIX:
        return questions_from(source, _parquet_records(source))
    try:
        refuse_device(path)
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{source}: there is no such file.") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{source}: byte {error.start} is not UTF-8; convert the file.") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{source}: cannot be read ({getattr(error, 'strerror', error)}).") from error
    if not text.strip():
        raise DataError(f"{source}: the file is empty.")
    lines = path.suffix.lower() in _LINE_SUFFIXES
    return questions_from(source, _line_records(source, text) if lines else _json_records(source, text))


def load_questions(source: str | Path, limit: int | None = None) -> list[Question]:
    """Load questions from a file, or from a data set of the hub.

    Args:
        source: A file that :func:`read_squad` reads; or the id of a hub data set in the layout of
            ``squad_v2``, with its split after a colon (``"squad_v2:validation"``, which is also the split
            taken where none is named).
        limit: Keep the first ``limit`` questions, in the source's order. The whole source is checked
            nevertheless.

    Raises:
        DataError: The source cannot be read or is malformed.
        InputError: ``limit`` is not a positive whole number.
        MissingDependency: ``source`` names a hub data set and the ``datasets`` package is not installed, or a
            Parquet file and pyarrow is not.
    """
    check_limit(limit)
    path = Path(source)
    if isinstance(source, Path) or path.suffix.lower() in _FILE_SUFFIXES or _exists(path):
        questions = read_squad(path)
    else:
        questions = questions_from(source, _hub_records(source))
    return questions[:limit]


def check_limit(limit: object) -> None:
    """Refuse what is no number of questions.

    Raises:
        InputError: ``limit`` is neither None nor a positive whole number.
    """
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise InputError(f"limit must be a positive whole number or None, not {shown(limit)}.")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError) as error:
        raise DataError(f"{str(path)[:80]!r} cannot be the name of a file ({error}).") from error


def _hub_records(source: str) -> _Records:
    name, _, split = source.partition(":")
    split = split or "validation"
    try:
        datasets = importlib.import_module("datasets")
    except ImportError as error:
        raise MissingDependency(
            f"{shown(source)} is not a file, and a hub data set needs another package: pip install datasets."
        ) from error
    try:
        rows = datasets.load_dataset(name, split=split)
    except Exception as error:
        raise DataError(
            f"{source}: neither a file here nor a data set that could be loaded from the hub "
            f"({type(error).__name__}: {named(str(error))})."
        ) from error
    for number, row in enumerate(rows):
        yield f"row {number}", row


def _parquet_records(source: str) -> _Records:
    if not _exists(Path(source)):
        raise DataError(f"{source}: there is no such file.")
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise MissingDependency(
            f"{source} is Parquet, which pyarrow reads, and that is not installed: run "
            "pip install 'fastspan[parquet]'."
        ) from error
    try:
        rows = parquet.read_table(source).to_pylist()
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{source}: cannot be read as Parquet ({reason[:200]}).") from error
    for number, row in enumerate(rows):
        yield f"row {number}", row


def _line_records(source: str, text: str) -> _Records:
    # Not splitlines(): JSON strings may hold U+2028 and its like unescaped.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"line {number}"
        try:
            record = _parsed(f"{source}, {where}", line)
        except json.JSONDecodeError as error:
            raise DataError(f"{source}, {where}: not JSON ({error.msg}, column {error.colno}).") from error
        yield where, object_of(source, where, record)


def _json_records(source: str, text: str) -> _Records:
    try:
        root = _parsed(source, text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            # One object after the other: JSON lines, whatever the name says.
            yield from _line_records(source, text)
            return
        raise DataError(
            f"{source}: not JSON ({error.msg}, line {error.lineno}, column {error.colno})."
        ) from error
    if isinstance(root, dict) and isinstance(root.get("data"), list):
        for n, entry in enumerate(root["data"]):
            where = f"data[{n}]"
            record = object_of(source, where, entry)
            if "question" in record:
                yield where, record
            else:
                yield from _article_records(source, where, record)
    elif isinstance(root, list):
        for n, entry in enumerate(root):
            yield f"[{n}]", object_of(source, f"[{n}]", entry)
    elif isinstance(root, dict) and isinstance(root.get("question"), list):
        yield from _column_records(source, root)
    elif isinstance(root, dict) and "question" in root:
        yield "the only record", root
    else:
        raise DataError(
            f'{source}: not a file of questions: its top level is neither an object with a "data" list, as '
            "in SQuAD's files, nor a list of questions."
        )


def _article_records(source: str, where: str, article: Mapping[str, Any]) -> _Records:
    for p, paragraph in enumerate(field_of(source, where, article, "paragraphs", list)):
        place = f"{where}.paragraphs[{p}]"
        context = field_of(source, place, object_of(source, place, paragraph), "context", str)
        for q, question in enumerate(field_of(source, place, paragraph, "qas", list)):
            at = f"{place}.qas[{q}]"
            yield at, {**object_of(source, at, question), "context": context}


def _column_records(source: str, columns: Mapping[str, Any]) -> _Records:
    rows = len(columns["question"])
    for name, column in columns.items():
        if not isinstance(column, list) or len(column) != rows:
            raise DataError(
                f'{source}: the column "{name}" must be a list of {rows} values, as "question" is one.'
            )
    for n in range(rows):
        yield f"row {n}", {name: column[n] for name, column in columns.items()}


def _parsed(place: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except RecursionError as error:
        raise DataError(f"{place}: lists or objects are nested too deeply to be questions.") from error
    except ValueError as error:
        # Of valid JSON, Python refuses numbers alone: whole ones of thousands of digits.
        raise DataError(f"{place}: holds a number too long to read; offsets have few digits.") from error
