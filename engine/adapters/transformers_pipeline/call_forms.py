"""Every form in which the pipeline took questions and contexts, as pairs of strings.

As in transformers 4.57: by name, by position, a dict, a list of dicts, several dicts, lists of questions and
contexts, one context with many questions, a generator, a dataset, and objects like its ``SquadExample``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import repeat
from types import GeneratorType
from typing import Any

from fastspan.errors import InputError
from fastspan.options import shown

__all__ = ["Inputs", "MissingKey", "read_inputs"]

Pair = tuple[str, str]

_KEYS = ("question", "context")


class MissingKey(InputError, KeyError):
    """A dict without a question or a context; a ``KeyError``, as the pipeline raised it."""

    __str__ = Exception.__str__  # KeyError's would put the message in quotes


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a call was given.

    Attributes:
        pairs: Questions and contexts.
        alone: Whether it is one pair, whose answer the pipeline gave without a list around it.
        asked_as_list: Whether the caller gave a list, be it of one.
        lazy: Whether the answers are to be taken one by one, because the pairs are made one by one.
    """

    pairs: Iterable[Pair]
    alone: bool
    asked_as_list: bool
    lazy: bool = False


def read_inputs(args: tuple[Any, ...], named: Mapping[str, Any]) -> Inputs:
    """Read the arguments of a call.

    Args:
        args: Those by position.
        named: ``question``, ``context``, ``data`` and ``X``, as far as they were given.

    Raises:
        MissingKey: A dict lacks its question or context.
        InputError: The arguments are none of the forms, or a text is empty.
    """
    if args and named:
        raise InputError(
            f"Arguments by position and {', '.join(named)} were given: give question and context by name."
        )
    if len(args) == 2 and all(isinstance(part, str) for part in args):
        return _of_texts(*args)
    if args:
        return _of_examples(args[0] if len(args) == 1 else list(args))
    for name in ("X", "data"):
        if name in named:
            if len(named) > 1:
                raise InputError(f"{name} was given, and {', '.join(sorted({*named} - {name}))} too.")
            return _of_examples(named[name])
    if {*named} != {*_KEYS}:
        missing = [key for key in _KEYS if key not in named]
        raise InputError(f"{' and '.join(missing)} must be given: question=..., context=....")
    return _of_texts(named["question"], named["context"])


def _of_texts(question: Any, context: Any) -> Inputs:
    """Questions and contexts by name."""
    if isinstance(question, list):
        pairs = _paired(question, context)
        return Inputs(pairs, alone=len(pairs) == 1, asked_as_list=True)
    return Inputs([_checked(question, context)], alone=True, asked_as_list=False)


def _paired(questions: list[Any], contexts: Any) -> list[Pair]:
    if isinstance(contexts, str):
        contexts = repeat(contexts, len(questions))
    elif not isinstance(contexts, list):
        raise InputError(
            f"context must be a string or a list of strings, not {type(contexts).__name__} "
            f"({shown(contexts)})."
        )
    elif len(contexts) != len(questions):
        raise InputError(
            f"{len(questions)} questions but {len(contexts)} contexts: questions and contexts don't have the "
            "same lengths. Give one context for all questions, or as many as there are questions."
        )
    return [_checked(*pair) for pair in zip(questions, contexts, strict=True)]


def _of_examples(examples: Any) -> Inputs:
    """Examples: one, several, or a source of them."""
    if isinstance(examples, Mapping) or _is_example(examples):
        examples = [examples]
        alone_in_no_list = True
    elif isinstance(examples, GeneratorType):
        return Inputs(map(_of_row, examples), alone=False, asked_as_list=True, lazy=True)
    elif isinstance(examples, Iterable) and not isinstance(examples, str):
        examples, alone_in_no_list = list(examples), False
    elif hasattr(examples, "__getitem__") and hasattr(examples, "__len__") and not isinstance(examples, str):
        return Inputs(map(_of_row, _rows(examples)), alone=False, asked_as_list=True, lazy=True)
    else:
        raise InputError(
            "The inputs must be a dict with question and context, a list or generator of such dicts, or the "
            f"two by name, not {type(examples).__name__} ({shown(examples)})."
        )
    if len(examples) == 1:
        found = _normalized(examples[0])
        if isinstance(found, list):  # a dict whose question is a list
            return Inputs(found, alone=False, asked_as_list=True)
        return Inputs([found], alone=True, asked_as_list=not alone_in_no_list)
    pairs = []
    for number, example in enumerate(examples):
        found = _normalized(example)
        if isinstance(found, list):
            raise InputError(
                f"Example {number} holds a list of questions, and stands among other examples: give each "
                "question an example of its own."
            )
        pairs.append(found)
    return Inputs(pairs, alone=False, asked_as_list=True)


def _rows(dataset: Any) -> Iterator[Any]:
    """The rows of what can be indexed and has a length, such as a PyTorch dataset."""
    for index in range(len(dataset)):
        yield dataset[index]


def _is_example(example: Any) -> bool:
    return hasattr(example, "question_text") and hasattr(example, "context_text")


def _of_row(row: Any) -> Pair:
    """A row of a generator or dataset, which may have further columns."""
    if isinstance(row, Mapping):
        _require_keys(row)
        return _checked(row["question"], row["context"])
    found = _normalized(row)
    if isinstance(found, list):
        raise InputError("A row holds a list of examples: yield them one by one.")
    return found


def _normalized(example: Any) -> Pair | list[Pair]:
    if _is_example(example):
        return _checked(example.question_text, example.context_text)
    if isinstance(example, list) and example and all(map(_is_example, example)):
        return [_checked(each.question_text, each.context_text) for each in example]
    if not isinstance(example, Mapping):
        raise InputError(
            f"An example must be a dict with question and context, not {type(example).__name__} "
            f"({shown(example)})."
        )
    _require_keys(example)
    if unknown := [key for key in example if key not in _KEYS]:
        raise InputError(f"An example has the keys question and context, and {shown(unknown[0])} is neither.")
    question, context = example["question"], example["context"]
    return _paired(question, context) if isinstance(question, list) else _checked(question, context)


def _require_keys(example: Mapping[str, Any]) -> None:
    for key in _KEYS:
        if key not in example:
            raise MissingKey(f"An example must be a dict with question and context, and {key} is missing.")


def _checked(question: Any, context: Any) -> Pair:
    for name, text in zip(_KEYS, (question, context), strict=True):
        if text is None:
            raise InputError(f"{name} cannot be None.")
        if not isinstance(text, str):
            raise InputError(f"{name} must be a string, not {type(text).__name__} ({shown(text)}).")
        if not text:
            raise InputError(f"{name} cannot be empty.")
    return question, context
