"""Our Haystack reader beside ``TransformersExtractiveReader``, on the same questions and documents.

``python -m fastspan.benchmarks.studies.haystack_reader [--data squad.json]`` prints, for questions that each
have three documents, how many answers are the same and how far scores differ where ours leaves segment ids
out as the other does, and the accuracy of the best answer with segment ids and without. It needs the packages
in ``tests/integrations/haystack/requirements.txt``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastspan.benchmarks.accuracy.squad_metric import score
from fastspan.benchmarks.paths import ROOT
from fastspan.benchmarks.questions.evaluation_set import open_data
from fastspan.benchmarks.questions.records import Question
from fastspan.benchmarks.questions.workloads import spread
from fastspan.errors import FastSpanError, MissingDependency
from fastspan.text.graphemes import widen_to_graphemes

__all__ = ["Comparison", "ask", "compare", "documents_of", "main"]

CHECKPOINT = ROOT / "models" / "minilm-l6-squad2"
BUNDLE = ROOT / "models" / "exported" / "minilm-l6-squad2"

_DOCUMENTS = 3

Readers = tuple[Any, Any, Any, Any]
"""Our reader with segment ids and without, the other one, and what makes a document of a text."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How far two readers' answers agree.

    Attributes:
        questions: How many were asked.
        answers: How many answers the first reader gave.
        equal: For how many questions all answers are equal: document, offsets and order. An answer counts
            as the whole characters that it is part of, because the other reader may cut one.
        cut: How many answers of the second reader begin or end inside a character.
        largest: The largest difference between two scores of equal answers.
    """

    questions: int
    answers: int
    equal: int
    cut: int
    largest: float


def documents_of(questions: Sequence[Question], question: Question) -> list[str]:
    """Return the question's own context among the contexts that follow it, in an order that depends on it."""
    contexts = list(dict.fromkeys(each.context for each in questions))
    own = contexts.index(question.context)
    chosen = [contexts[(own + step) % len(contexts)] for step in range(min(_DOCUMENTS, len(contexts)))]
    turn = own % len(chosen)
    return chosen[turn:] + chosen[:turn]


def ask(reader: Any, questions: Sequence[Question], documents: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Return a reader's answers to each question from its documents."""
    return [
        reader.run(query=question.question, documents=list(of))["answers"]
        for question, of in zip(questions, documents, strict=True)
    ]


def compare(ours: Sequence[Sequence[Any]], theirs: Sequence[Sequence[Any]]) -> Comparison:
    """Compare two readers' answers, question by question."""
    equal, cut, largest = 0, 0, 0.0
    for mine, other in zip(ours, theirs, strict=True):
        cut += sum(_offsets(answer) != _whole(answer) for answer in other)
        if [_place(answer) for answer in mine] != [_place(answer) for answer in other]:
            continue
        equal += 1
        differences = [abs(a.score - b.score) for a, b in zip(mine, other, strict=True)]
        largest = max([largest, *differences])
    return Comparison(len(ours), sum(map(len, ours)), equal, cut, largest)


def _place(answer: Any) -> tuple[Any, ...]:
    return (None if answer.document is None else answer.document.id, _whole(answer))


def _offsets(answer: Any) -> tuple[int, int] | None:
    offset = answer.document_offset
    return None if offset is None else (offset.start, offset.end)


def _whole(answer: Any) -> tuple[int, int] | None:
    offsets = _offsets(answer)
    return None if offsets is None else widen_to_graphemes(answer.document.content, *offsets)


def _accuracy(questions: Sequence[Question], answers: Sequence[Sequence[Any]]) -> str:
    best = {
        question.id: next((answer.data for answer in of if answer.data is not None), "")
        for question, of in zip(questions, answers, strict=True)
    }
    scores = score(questions, best)
    return f"EM {scores['exact']:.2f}, F1 {scores['f1']:.2f}"


def main(arguments: Sequence[str] | None = None, *, readers: Callable[[], Readers] | None = None) -> int:
    """Compare the readers and print what was found.

    Args:
        arguments: The command line without the program's name; None: the process's.
        readers: Makes the readers that are compared; None: they are loaded.

    Returns:
        0, or 1 after an error, which is printed.
    """
    parser = argparse.ArgumentParser(prog="python -m fastspan.benchmarks.studies.haystack_reader")
    parser.add_argument("--data", type=Path, help="questions in SQuAD's format (default: the project's own)")
    parser.add_argument("--questions", type=int, default=200, help="how many answerable ones to ask")
    options = parser.parse_args(arguments)
    try:
        print(_report((readers or _readers)(), options.data, options.questions))
    except FastSpanError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _report(readers: Readers, data: Path | None, count: int) -> str:
    ours, ours_without, theirs, document = readers
    answerable = [question for question in open_data(data).questions if not question.is_impossible]
    questions = spread(answerable, count)
    documents = [[document(text) for text in documents_of(answerable, question)] for question in questions]
    expected = ask(theirs, questions, documents)
    without = ask(ours_without, questions, documents)
    found = compare(without, expected)
    return "\n".join(
        (
            f"{found.questions} questions, {_DOCUMENTS} documents each, {found.answers} answers.",
            f"Without segment ids, all answers equal for {found.equal} of {found.questions} questions; "
            f"scores differ by {found.largest:.1e} at most.",
            f"{found.cut} answers of TransformersExtractiveReader begin or end inside a character.",
            f"TransformersExtractiveReader:                  {_accuracy(questions, expected)}",
            f"FastSpanExtractiveReader, segment_ids=False:   {_accuracy(questions, without)}",
            f"FastSpanExtractiveReader:                      "
            f"{_accuracy(questions, ask(ours, questions, documents))}",
        )
    )


def _readers() -> Readers:
    try:
        import torch
        from haystack import Document
        from haystack_integrations.components.readers.fastspan import FastSpanExtractiveReader
        from haystack_integrations.components.readers.transformers import TransformersExtractiveReader
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"{error.name} is not installed: run pip install -r tests/integrations/haystack/requirements.txt"
        ) from error
    # On a busy machine the threads of one small window wait for each other.
    torch.set_num_threads(1)
    theirs = TransformersExtractiveReader(
        CHECKPOINT,
        # The checkpoint's weights are stored as float16, in which its own arithmetic would differ.
        model_kwargs={"dtype": torch.float32},
        max_batch_size=1,
    )
    alone = {"threads": 1, "spinning": False}
    ours, without = (
        FastSpanExtractiveReader(BUNDLE, segment_ids=given, model_kwargs=alone) for given in (True, False)
    )
    return ours, without, theirs, lambda text: Document(content=text)


if __name__ == "__main__":
    sys.exit(main())
