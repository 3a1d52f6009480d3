"""Read evaluation questions: SQuAD 1.1 and 2.0 files, JSON lines, and data sets of the Hugging Face hub.

Wrong data fails here, with one sentence that names the file and the record, and not later as an odd score.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastspan.errors import DataError, InputError, MissingDependency

__all__ = ["Question", "load_questions", "read_squad"]

_LINE_SUFFIXES = (".jsonl", ".ndjson")
_FILE_SUFFIXES = (".json", *_LINE_SUFFIXES)


@dataclass(frozen=True, slots=True)
class Question:
    """One question over one passage, with its reference answers.

    Attributes:
        id: Unique in its file.
        question: The question's text.
        context: The passage.
        answers: The annotators' answers, repeats included, each a slice of ``context``; empty when the
            passage holds none.
        answer_starts: Their offsets in ``context``, in code points, parallel to ``answers``; empty when
            the file gives answers without offsets.
        is_impossible: The passage does not answer the question; equal to ``not answers``.
    """

    id: str
    question: str
    context: str
    answers: tuple[str, ...]
    answer_starts: tuple[int, ...]
    is_impossible: bool


def read_squad(path: str | Path) -> list[Question]:
    """Read a file of questions, in the file's order.

    ``*.jsonl`` and ``*.ndjson`` hold one object a line, with ``id``, ``question``, ``context``, ``answers``
    and optionally ``is_impossible``; ``answers`` is ``{"text": [...], "answer_start": [...]}``, a list of
    ``{"text": ..., "answer_start": ...}``, or a list of texts. Any other name is read as SQuAD 1.1 or 2.0:
    one JSON object whose ``data`` lists articles of paragraphs. UTF-8, with or without a byte order mark.

    An answer has to stand in its passage, character by character: at its offset, or anywhere where the file
    gives none.

    Args:
        path: The file.

    Raises:
        DataError: The file cannot be read, or is not what its name and layout promise.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8; convert the file.") from error
    if not text.strip():
        raise DataError(f"{path}: the file is empty.")
    records = _line_records if path.suffix.lower() in _LINE_SUFFIXES else _squad_records
    return _questions(str(path), records(str(path), text))


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
        MissingDependency: ``source`` names a hub data set and the ``datasets`` package is not installed.
    """
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise InputError(f"limit must be a positive whole number or None, not {limit!r}.")
    path = Path(source)
    if path.exists() or path.suffix.lower() in _FILE_SUFFIXES or isinstance(source, Path):
        questions = read_squad(path)
    else:
        questions = _questions(source, _hub_records(source))
    return questions[:limit]


def _hub_records(source: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    name, _, split = source.partition(":")
    split = split or "validation"
    try:
        datasets = importlib.import_module("datasets")
    except ImportError as error:
        raise MissingDependency(
            f"{source!r} is not a file, and a hub data set needs another package: pip install datasets."
        ) from error
    try:
        rows = datasets.load_dataset(name, split=split)
    except Exception as error:
        raise DataError(
            f"{source}: neither a file here nor a data set that could be loaded from the hub "
            f"({type(error).__name__}: {error})."
        ) from error
    for number, row in enumerate(rows):
        yield f"row {number}", row


def _line_records(source: str, text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    # Not splitlines(): JSON strings may hold U+2028 and its like unescaped.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"line {number}"
        try:
            record = _parsed(f"{source}, {where}", line)
        except json.JSONDecodeError as error:
            raise DataError(f"{source}, {where}: not JSON ({error.msg}, column {error.colno}).") from error
        yield where, _object(source, where, record)


def _squad_records(source: str, text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        root = _parsed(source, text)
    except json.JSONDecodeError as error:
        hint = "; a file of one JSON object a line is named *.jsonl" if error.msg == "Extra data" else ""
        raise DataError(
            f"{source}: not JSON ({error.msg}, line {error.lineno}, column {error.colno}){hint}."
        ) from error
    if not isinstance(root, dict) or not isinstance(root.get("data"), list):
        raise DataError(f'{source}: not a SQuAD file, whose top level is an object with a "data" list.')
    for a, article in enumerate(root["data"]):
        where = f"data[{a}]"
        paragraphs = _field(source, where, _object(source, where, article), "paragraphs", list)
        for p, paragraph in enumerate(paragraphs):
            where = f"data[{a}].paragraphs[{p}]"
            context = _field(source, where, _object(source, where, paragraph), "context", str)
            for q, question in enumerate(_field(source, where, paragraph, "qas", list)):
                at = f"{where}.qas[{q}]"
                yield at, {**_object(source, at, question), "context": context}


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


def _questions(source: str, records: Iterator[tuple[str, Mapping[str, Any]]]) -> list[Question]:
    questions: list[Question] = []
    first_seen: dict[str, str] = {}
    for where, record in records:
        question = _question(source, where, record)
        if question.id in first_seen:
            raise DataError(
                f"{source}, {where}: id {question.id!r} is already taken by {first_seen[question.id]}."
            )
        first_seen[question.id] = where
        _check_answers(source, question)
        questions.append(question)
    if not questions:
        raise DataError(f"{source}: holds no questions.")
    return questions


def _question(source: str, where: str, record: Mapping[str, Any]) -> Question:
    key = _field(source, where, record, "id", str)
    where = f"question {key!r}"
    texts, starts = _answers(source, where, _field(source, where, record, "answers", dict, list))
    flag = record.get("is_impossible")
    if flag is not None and not isinstance(flag, bool):
        raise DataError(f'{source}, {where}: "is_impossible" must be true or false, not {flag!r}.')
    if flag is True and texts:
        raise DataError(f'{source}, {where}: "is_impossible" is true, and yet there are answers.')
    if flag is False and not texts:
        raise DataError(f'{source}, {where}: "is_impossible" is false, and yet there are no answers.')
    return Question(
        id=key,
        question=_field(source, where, record, "question", str),
        context=_field(source, where, record, "context", str),
        answers=texts,
        answer_starts=starts,
        is_impossible=not texts,
    )


def _answers(
    source: str, where: str, value: Mapping[str, Any] | list[Any]
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    if isinstance(value, Mapping):
        texts = _field(source, where, value, "text", list)
        starts = _field(source, where, value, "answer_start", list)
    elif all(isinstance(item, str) for item in value):
        return tuple(value), ()
    else:
        entries = [_object(source, f"{where}, answers[{n}]", item) for n, item in enumerate(value)]
        texts = [_field(source, where, entry, "text", str) for entry in entries]
        starts = [_field(source, where, entry, "answer_start", int) for entry in entries]
    if len(texts) != len(starts):
        raise DataError(f"{source}, {where}: {len(texts)} answer texts, but {len(starts)} offsets.")
    for text, start in zip(texts, starts, strict=True):
        if not isinstance(text, str) or isinstance(start, bool) or not isinstance(start, int):
            raise DataError(
                f"{source}, {where}: an answer is a text and a whole number, not {text!r} and {start!r}."
            )
    return tuple(texts), tuple(starts)


def _check_answers(source: str, question: Question) -> None:
    # A file of texts alone has no offsets to check: there the second tuple is empty.
    offsets: Sequence[int | None] = question.answer_starts or (None,) * len(question.answers)
    for text, start in zip(question.answers, offsets, strict=True):
        where = f"{source}, question {question.id!r}"
        if not text.strip():
            raise DataError(
                f"{where}: the answer {text!r} is blank; a question that the passage does not answer has an "
                "empty list of answers."
            )
        if text not in question.context:
            raise DataError(
                f"{where}: the answer {text!r} does not stand in the context; copy it from there exactly."
            )
        if start is not None and (start < 0 or not question.context.startswith(text, start)):
            raise DataError(
                f"{where}: the answer {text!r} does not stand at offset {start}, but first at "
                f"{question.context.index(text)} (in code points); correct its answer_start."
            )


def _object(source: str, where: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise DataError(f"{source}, {where}: must be an object, not {type(value).__name__}.")
    return value


def _field(source: str, where: str, record: Mapping[str, Any], name: str, *types: type) -> Any:
    if name not in record:
        raise DataError(f'{source}, {where}: has no "{name}".')
    value = record[name]
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        wanted = " or ".join(_JSON_NAMES[t] for t in types)
        raise DataError(f'{source}, {where}: "{name}" must be {wanted}, not {type(value).__name__}.')
    return value


_JSON_NAMES = {str: "a string", list: "a list", dict: "an object", int: "a whole number"}
