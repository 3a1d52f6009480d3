"""What systems answered off the clock, as digests: answers quote texts that may be another's.

Digests tell which of two systems' answers are equal, which is all that the report asks of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Answered", "Device", "answers_file", "read_answers"]

Device = Literal["cpu", "gpu"]
"""What a measurement is of; its files' names say it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What a system answered to questions asked off the clock.

    Attributes:
        model: The model's name.
        peer: The system with its settings.
        digests: A digest of every answer's text, in the order of the questions; of ``""`` for no answer.
    """

    model: str
    peer: str
    digests: tuple[str, ...]

    @classmethod
    def of(cls, model: str, peer: str, answers: Iterable[str]) -> Answered:
        """Digest answers, to 32 bits each: one in four billion differing pairs is taken for equal."""
        digests = (hashlib.sha256(text.encode()).hexdigest()[:8] for text in answers)
        return cls(model=model, peer=peer, digests=tuple(digests))

    def line(self) -> str:
        """Return the line that ``read_answers`` reads."""
        record = {"model": self.model, "peer": self.peer, "digests": " ".join(self.digests)}
        return json.dumps(record, ensure_ascii=False) + "\n"


def answers_file(folder: Path, device: Device) -> Path:
    """Where the answers of a measurement lie."""
    return folder / f"speed-{device}-answers.jsonl"


def read_answers(path: Path) -> list[Answered]:
    """Read the lines of such a file.

    Raises:
        OSError: It cannot be read.
        ValueError: A line is not JSON.
        KeyError: A line lacks a field.
    """
    records = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [
        Answered(model=record["model"], peer=record["peer"], digests=tuple(record["digests"].split()))
        for record in records
    ]
