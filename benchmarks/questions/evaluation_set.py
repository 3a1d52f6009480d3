"""A set of evaluation questions with what identifies it: its name and a digest."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

from fastspan.benchmarks.questions.squad_files import Question, check_limit, load_questions
from fastspan.errors import DataError
from fastspan.options import shown

__all__ = ["OWN_SET", "EvaluationSet", "file_name", "open_data"]

OWN_SET = Path(str(resources.files("fastspan.export"))) / "data" / "evaluation" / "fastspan-eval.json"
"""The project's own questions, which come with the package."""


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """Questions and where they came from.

    Attributes:
        name: The file's name without its suffix, or the hub id and split; ASCII letters, digits and ``._-``.
        sha256: SHA-256 of the file; of a hub data set, of its questions as JSON. Always of the whole.
        questions: The questions, at least one.
    """

    name: str
    sha256: str
    questions: tuple[Question, ...]

    @property
    def unanswerable(self) -> int:
        """How many of the questions have no answer."""
        return sum(question.is_impossible for question in self.questions)


def open_data(source: str | Path | None, limit: int | None = None) -> EvaluationSet:
    """Load questions; see ``load_questions`` for what can be read.

    Args:
        source: A file or a hub data set; None: the project's own set.
        limit: Take the first ``limit`` questions only; the name then says so.

    Raises:
        DataError: The source cannot be read or is malformed; the message names the record.
        InputError: ``limit`` is not a positive whole number.
        MissingDependency: ``source`` names a hub data set and the ``datasets`` package is not installed.
    """
    chosen = OWN_SET if source is None else source
    check_limit(limit)
    # Read once: a pipe has nothing to say a second time.
    everything = load_questions(chosen)
    questions = everything[:limit]
    path = Path(chosen)
    if path.is_file():
        name, digest = path.stem, hashlib.sha256(path.read_bytes()).hexdigest()
    else:
        name, digest = str(chosen), _digest_of(everything)
    if limit is not None:
        name += f"-first-{len(questions)}"
    return EvaluationSet(file_name(name), digest, tuple(questions))


def file_name(name: str) -> str:
    """Return a name with everything but ASCII letters, digits and ``._-`` made hyphens.

    Raises:
        DataError: Nothing is left of it.
    """
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")
    if not safe:
        raise DataError(f"{shown(name)} gives no name to file results under; give it one of ASCII letters.")
    return safe


def _digest_of(questions: Sequence[Question]) -> str:
    text = json.dumps([asdict(question) for question in questions], sort_keys=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
