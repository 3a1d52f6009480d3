"""Questions in the words of the tiny checkpoint, and what a made-up system answers to questions."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from fastspan.benchmarks.questions.squad_files import Question
from fastspan.results import Answer, Prediction
from support.models.tiny_checkpoint import WORDS


def squad_document(passages: int = 8, questions: int = 5, seed: int = 3) -> dict:
    """A SQuAD 2.0 document of random sentences; of every five questions two have no answer."""
    rng = random.Random(seed)
    paragraphs = []
    for p in range(passages):
        words = rng.choices(WORDS, k=rng.randint(20, 60))
        qas = []
        for q in range(questions):
            entry = {"id": f"p{p}-q{q}", "question": " ".join(rng.choices(WORDS, k=rng.randint(3, 8)))}
            at = rng.randrange(len(words) - 1)
            start = len(" ".join(words[:at])) + (at > 0)
            answer = {"text": f"{words[at]} {words[at + 1]}", "answer_start": start}
            possible = q % 5 < 3
            qas.append({**entry, "answers": [answer] if possible else [], "is_impossible": not possible})
        paragraphs.append({"context": " ".join(words), "qas": qas})
    return {"version": "v2.0", "data": [{"title": "tiny", "paragraphs": paragraphs}]}


def write_squad(folder: Path, name: str = "tiny.json", **kind: int) -> Path:
    path = folder / name
    path.write_text(json.dumps(squad_document(**kind)), encoding="utf-8")
    return path


def each_question(document: dict) -> list[dict]:
    return [
        qa for article in document["data"] for paragraph in article["paragraphs"] for qa in paragraph["qas"]
    ]


def question(key: str, *answers: str, context: str | None = None) -> Question:
    return Question(key, f"What is {key}?", context or f"Of {key}: red green blue.", answers, (), not answers)


def prediction(text: str, margin: float, *, null_score: float = 1.0, start: int = 0) -> Prediction:
    """The best span ``text``; ``""`` for a context without spans."""
    if not text:
        return Prediction(None, (), 1.0, null_score, float("-inf"))
    best = Answer(text, start, start + len(text), null_score - margin)
    return Prediction(best if margin <= 0 else None, (best,), 0.5, null_score, null_score - margin)


def answered(
    questions: Sequence[Question], answer: Callable[[int, Question], tuple[str, float]]
) -> tuple[Prediction, ...]:
    return tuple(prediction(*answer(i, q)) for i, q in enumerate(questions))
