"""Every sample of a speed measurement, in a JSONL file that is written as they are taken, and its readers."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastspan.benchmarks.speed.answers import Answered, Device, answers_file, read_answers
from fastspan.benchmarks.speed.interleaving import Turn
from fastspan.benchmarks.speed.record import SpeedRecord
from fastspan.errors import DataError

__all__ = ["Measured", "Sampled", "sample_line", "samples_file"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """A turn with the model and workload it was taken at."""

    model: str
    workload: str
    turn: Turn


class Measured:
    """A record with its samples, which are written as they are taken, and the answers that were given.

    Attributes:
        record: The record.
        samples: Every turn.
        answered: (model, peer) → what it answered off the clock.
    """

    def __init__(
        self, record: SpeedRecord, samples: Iterable[Sampled], answered: Iterable[Answered] = ()
    ) -> None:
        self.record = record
        self.samples = tuple(samples)
        self.answered = {(given.model, given.peer): given for given in answered}
        self._rounds: dict[tuple[str, str, str], dict[int, tuple[float, ...]]] = defaultdict(dict)
        for sampled in self.samples:
            place = (sampled.model, sampled.workload, sampled.turn.peer)
            self._rounds[place][sampled.turn.round] = sampled.turn.seconds

    @classmethod
    def read(cls, folder: Path, device: Device) -> Measured:
        """Read a measurement's files; that of the answers may be missing.

        Raises:
            DataError: Another one is missing, or one is malformed.
        """
        record = SpeedRecord.read(folder / f"speed-{device}.json")
        path = samples_file(folder, device)
        try:
            samples = [_sampled(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
            path = answers_file(folder, device)
            answered = read_answers(path) if path.is_file() else []
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path} holds nothing of a speed measurement ({error}); measure again."
            ) from error
        return cls(record, samples, answered)

    def rounds(self, model: str, workload: str, peer: str) -> Mapping[int, tuple[float, ...]]:
        """Round → seconds of each recorded run; empty where the peer was not measured at this workload."""
        return self._rounds.get((model, workload, peer), {})


def samples_file(folder: Path, device: Device) -> Path:
    """Where the samples of a measurement lie."""
    return folder / f"speed-{device}-samples.jsonl"


def sample_line(model: str, workload: str, turn: Turn) -> str:
    """Return the line that ``Measured.read`` reads."""
    return json.dumps({"model": model, "workload": workload, **asdict(turn)}, ensure_ascii=False) + "\n"


def _sampled(record: dict[str, Any]) -> Sampled:
    model, workload = record.pop("model"), record.pop("workload")
    times: dict[str, Any] = {name: tuple(record.pop(name)) for name in ("seconds", "cpu_seconds")}
    return Sampled(model=model, workload=workload, turn=Turn(**record, **times))
