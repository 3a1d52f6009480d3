"""What is asked in the speed measurements: texts cut to an exact number of tokens, and sets of questions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from fastspan.benchmarks.questions.squad_files import Question
from fastspan.errors import DataError
from fastspan.options import AnswerOptions
from fastspan.text.encoder import Encoder

__all__ = [
    "Group",
    "Workload",
    "load_workload",
    "make_workloads",
    "save_workload",
    "spread",
    "throughput_workload",
]

Group = Literal["single", "batch"]

SINGLE_TOKENS = (32, 128, 384)
"""Lengths at which one question's latency is measured, in tokens, question and special tokens included."""

_LONG_WINDOWS = 20
_MANY_QUESTIONS = 50
_PASSAGE_TOKENS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Questions that are answered in one timed run.

    Attributes:
        name: Its name.
        title: What it is, for people.
        group: ``"single"``: one question of one window, where latency counts. ``"batch"``: more than one
            window, where parallel runs may help.
        pairs: Questions with their contexts.
        tokens: Length of every window of a 384-token window with an overlap of 128.
    """

    name: str
    title: str
    group: Group
    pairs: tuple[tuple[str, str], ...]
    tokens: tuple[int, ...]

    @property
    def questions(self) -> int:
        """How many questions a run answers."""
        return len(self.pairs)


def spread(questions: Sequence[Question], count: int) -> list[Question]:
    """Take ``count`` of the questions, or all where there are fewer, spread evenly over them."""
    taken = min(count, len(questions))
    return [questions[i * len(questions) // taken] for i in range(taken)]


def make_workloads(
    encoder: Encoder, questions: Sequence[Question], *, throughput: Sequence[Question]
) -> list[Workload]:
    """Make every workload from a set of questions.

    Args:
        encoder: The model's tokenizer, which says what a token is.
        questions: Questions with real passages, enough of them to fill 20 windows.
        throughput: Those that the throughput workload asks.

    Raises:
        DataError: The questions' texts are too short.
    """
    maker = _Maker(encoder, questions)
    singles = [maker.single(tokens) for tokens in SINGLE_TOKENS]
    return [
        *singles,
        maker.long_passage(_LONG_WINDOWS),
        maker.many_questions(_MANY_QUESTIONS),
        throughput_workload(encoder, throughput),
    ]


def throughput_workload(encoder: Encoder, questions: Sequence[Question]) -> Workload:
    """Make a workload of questions with their own passages, windows of all lengths."""
    return _make(
        encoder,
        "throughput",
        f"{len(questions)} questions over passages of all lengths",
        "batch",
        [(question.question, question.context) for question in questions],
    )


def save_workload(workload: Workload, path: Path) -> None:
    """Write a workload as JSON."""
    path.write_text(json.dumps(asdict(workload), ensure_ascii=False), encoding="utf-8")


def load_workload(path: Path) -> Workload:
    """Read what ``save_workload`` wrote."""
    record = json.loads(path.read_text(encoding="utf-8"))
    pairs = tuple((question, context) for question, context in record["pairs"])
    return Workload(**{**record, "pairs": pairs, "tokens": tuple(record["tokens"])})


class _Maker:
    """Cuts texts by the tokens that a model's tokenizer makes of them."""

    def __init__(self, encoder: Encoder, questions: Sequence[Question]) -> None:
        if not questions:
            raise DataError("There are no questions to make workloads of.")
        self._encoder = encoder
        self._questions = questions
        # A short question, so that it fits beside a context into 32 tokens.
        self._question = min((question.question for question in questions), key=lambda text: len(text))
        passages = dict.fromkeys(question.context for question in questions)
        text = " ".join(passages)
        self._text = text
        (pair,) = encoder.encode([self._question], [text], AnswerOptions())
        first = pair.windows[0]
        # Tokens of a window that are not the context's.
        self._around = len(first.input_ids) - first.count
        self._available = pair.windows[-1].origin + pair.windows[-1].count
        self._pair = pair

    def single(self, tokens: int) -> Workload:
        """One question, its window exactly so many tokens long."""
        return _make(
            self._encoder,
            f"single-{tokens}",
            f"one question, {tokens} tokens",
            "single",
            [(self._question, self._context(tokens - self._around))],
        )

    def long_passage(self, windows: int) -> Workload:
        """One question over a passage of so many windows."""
        max_length, overlap = AnswerOptions().window
        room = max_length - self._around
        context = self._context(room + (windows - 1) * (room - overlap))
        return _make(
            self._encoder,
            f"passage-{windows}-windows",
            f"one question over a passage of {windows} windows",
            "batch",
            [(self._question, context)],
        )

    def many_questions(self, count: int) -> Workload:
        """So many questions over one passage."""
        context = self._context(_PASSAGE_TOKENS)
        chosen = [self._questions[i % len(self._questions)].question for i in range(count)]
        return _make(
            self._encoder,
            f"{count}-questions",
            f"{count} questions over one passage of {_PASSAGE_TOKENS} tokens",
            "batch",
            [(question, context) for question in chosen],
        )

    def _context(self, tokens: int) -> str:
        """The beginning of the text, exactly so many tokens of it."""
        if not 1 <= tokens <= self._available:
            raise DataError(
                f"The questions' passages hold {self._available} tokens, and a workload needs {tokens} of "
                "them; give a larger set of questions, with shorter ones among them."
            )
        return self._text[: self._pair.token_span(tokens - 1)[1]]


def _make(encoder: Encoder, name: str, title: str, group: Group, pairs: list[tuple[str, str]]) -> Workload:
    options = AnswerOptions(truncate_question=True)
    encoded = encoder.encode([q for q, _ in pairs], [c for _, c in pairs], options)
    tokens = tuple(len(window.input_ids) for pair in encoded for window in pair.windows)
    return Workload(name=name, title=title, group=group, pairs=tuple(pairs), tokens=tokens)
