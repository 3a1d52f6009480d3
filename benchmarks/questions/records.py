"""From a record, as data sets and annotation tools write it, to a question that was checked.

Wrong data fails here, with one sentence that names the file and the record, and not later as an odd score.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fastspan.errors import DataError
from fastspan.options import shown

__all__ = ["Question", "field_of", "object_of", "questions_from"]

_JSON_NAMES = {str: "a string", list: "a list", dict: "an object", int: "a whole number"}
_LONGEST_SHOWN = 80


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


def questions_from(source: str, records: Iterable[tuple[str, Mapping[str, Any]]]) -> list[Question]:
    """Check records and make questions of them, in their order.

    A record holds ``question``, ``context``, ``answers`` and optionally ``id`` and ``is_impossible``. An id
    is a text or a whole number; a record without one is named by its place. ``answers`` is ``{"text": [...],
    "answer_start": [...]}``, a list of ``{"text": ..., "answer_start": ...}``, or a list of texts; a question
    that is impossible may lack them, or hold a blank one. An answer has to stand in its passage, character by
    character: at its offset, or anywhere where none is given. A wrong offset is put right where the answer
    stands in the passage exactly once.

    Args:
        source: What they come from, for messages.
        records: Place in the source → record.

    Raises:
        DataError: A record is malformed, two share an id, or there are none.
    """
    questions: list[Question] = []
    first_seen: dict[str, str] = {}
    for where, record in records:
        question = _question(source, where, record)
        if question.id in first_seen:
            raise DataError(
                f"{source}, {where}: id {_shown(question.id)} is already taken by {first_seen[question.id]}."
            )
        first_seen[question.id] = where
        questions.append(question)
    if not questions:
        raise DataError(f"{source}: holds no questions.")
    return questions


def object_of(source: str, where: str, value: object) -> Mapping[str, Any]:
    """Return a value that must be an object.

    Raises:
        DataError: It is none.
    """
    if not isinstance(value, Mapping):
        raise DataError(f"{source}, {where}: must be an object, not {type(value).__name__}.")
    return value


def field_of(source: str, where: str, record: Mapping[str, Any], name: str, *types: type) -> Any:
    """Return a field that must be there and of one of these types.

    Raises:
        DataError: It is missing, of another type, or a text that no file can hold.
    """
    if name not in record:
        raise DataError(f'{source}, {where}: has no "{name}".')
    value = record[name]
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        wanted = " or ".join(_JSON_NAMES[t] for t in types)
        raise DataError(f'{source}, {where}: "{name}" must be {wanted}, not {type(value).__name__}.')
    if isinstance(value, str):
        _check_text(source, where, name, value)
    return value


def _question(source: str, where: str, record: Mapping[str, Any]) -> Question:
    key = _id(source, where, record)
    where = f"question {_shown(key)}"
    flag = record.get("is_impossible")
    if flag is not None and not isinstance(flag, bool):
        raise DataError(f'{source}, {where}: "is_impossible" must be true or false, not {_shown(flag)}.')
    texts, starts = _answers(source, where, record, impossible=flag is True)
    if flag is True and texts:
        raise DataError(f'{source}, {where}: "is_impossible" is true, and yet there are answers.')
    if flag is False and not texts:
        raise DataError(f'{source}, {where}: "is_impossible" is false, and yet there are no answers.')
    asked = field_of(source, where, record, "question", str)
    context = field_of(source, where, record, "context", str)
    for text in texts:
        _check_answer(source, where, text, context)
    return Question(
        id=key,
        question=asked,
        context=context,
        answers=texts,
        answer_starts=tuple(
            _offset(source, where, text, start, context)
            for text, start in zip(texts, starts, strict=bool(starts))
        ),
        is_impossible=not texts,
    )


def _id(source: str, where: str, record: Mapping[str, Any]) -> str:
    key = record.get("id")
    if key is None or key == "":
        return where
    if isinstance(key, int) and not isinstance(key, bool):
        return str(key)
    return str(field_of(source, where, record, "id", str, int))


def _answers(
    source: str, where: str, record: Mapping[str, Any], *, impossible: bool
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    if impossible and record.get("answers") is None:
        return (), ()
    value = field_of(source, where, record, "answers", dict, list)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        texts, starts = list(value), None
    elif isinstance(value, list):
        entries = [object_of(source, f"{where}, answers[{n}]", item) for n, item in enumerate(value)]
        texts = [field_of(source, where, entry, "text", str) for entry in entries]
        starts = [field_of(source, where, entry, "answer_start", int) for entry in entries]
    else:
        texts = field_of(source, where, value, "text", list)
        starts = field_of(source, where, value, "answer_start", list)
    if starts is not None and len(texts) != len(starts):
        raise DataError(f"{source}, {where}: {len(texts)} answer texts, but {len(starts)} offsets.")
    for text, start in zip(texts, starts or [0] * len(texts), strict=True):
        if not isinstance(text, str) or isinstance(start, bool) or not isinstance(start, int):
            raise DataError(
                f"{source}, {where}: an answer is a text and a whole number, not {_shown(text)} and "
                f"{_shown(start)}."
            )
        _check_text(source, where, "answers", text)
    # Annotation tools write an impossible question's missing answer as a blank one.
    if impossible and not any(text.strip() for text in texts):
        return (), ()
    return tuple(texts), tuple(starts or ())


def _check_answer(source: str, where: str, text: str, context: str) -> None:
    if not text.strip():
        raise DataError(
            f"{source}, {where}: the answer {shown(text)} is blank; a question that the passage does not "
            "answer has an empty list of answers."
        )
    if text not in context:
        raise DataError(
            f"{source}, {where}: the answer {_shown(text)} does not stand in the context; copy it from there "
            "exactly."
        )


def _offset(source: str, where: str, text: str, start: int, context: str) -> int:
    """The answer's offset: the given one, or the only one there is."""
    if 0 <= start <= len(context) and context.startswith(text, start):
        return start
    first = context.index(text)
    if context.find(text, first + 1) == -1:
        return first
    raise DataError(
        f"{source}, {where}: the answer {_shown(text)} does not stand at offset {_shown(start)}, and stands "
        f"at several others, first at {first} (in code points); correct its answer_start."
    )


def _check_text(source: str, where: str, name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f'{source}, {where}: "{name}" holds half of a surrogate pair at character {error.start}, which '
            "is not text: write the file again from its source."
        ) from error


def _shown(value: object) -> str:
    try:
        text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    except ValueError:
        # Python refuses to write out a whole number of thousands of digits.
        return "a number of thousands of digits"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
