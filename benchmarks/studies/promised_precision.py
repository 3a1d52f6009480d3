"""Whether a promised precision is kept: thresholds found on some questions, judged on all of them.

``python -m fastspan.benchmarks.studies.promised_precision --data FILE`` answers every question once. It takes
the file for the world that questions are drawn from, so that the true precision of a threshold is known.
Again and again it draws two halves, one to order thresholds and one to test them, as ``fastspan calibrate``
does, and asks whether the threshold that comes out keeps the precision in that world. It draws single
questions, of which the promise is made, and whole passages with all their questions, which is how questions
come. Beside it stands the threshold that only reaches the precision on its half. It writes
``promised-precision.md``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastspan.answerer import QuestionAnswerer
from fastspan.benchmarks.accuracy.evaluation import Outcomes, ask
from fastspan.benchmarks.accuracy.guaranteed_threshold import guaranteed_threshold
from fastspan.benchmarks.accuracy.thresholds import fit_no_answer_threshold
from fastspan.benchmarks.intervals import share_interval
from fastspan.benchmarks.paths import ROOT
from fastspan.benchmarks.questions.evaluation_set import open_data
from fastspan.benchmarks.reporting.document import NONE, Block, Heading, Paragraph, Table, markdown
from fastspan.benchmarks.reporting.files import write_text
from fastspan.errors import DataError, FastSpanError

__all__ = ["Kept", "World", "main", "repeat"]

_SEED = 5

Indexes = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """Answered questions, which others are drawn from.

    Attributes:
        margins: ``null_score - best_span_score``. *Shape:* ``(questions,)``.
        right: Whether the best span matches exactly, 0 or 1. *Shape:* the same.
        f1: Its token F1. *Shape:* the same.
        empty: Whether the passage holds no answer. *Shape:* the same.
        passages: The questions of each passage.
    """

    margins: NDArray[np.float64]
    right: NDArray[np.float64]
    f1: NDArray[np.float64]
    empty: NDArray[np.bool_]
    passages: tuple[Indexes, ...]

    @classmethod
    def of(cls, outcomes: Outcomes) -> World:
        """Return what was answered."""
        numbers: dict[str, list[int]] = {}
        for index, question in enumerate(outcomes.questions):
            numbers.setdefault(question.context, []).append(index)
        right, f1 = outcomes.span_scores
        passages = tuple(np.array(each, dtype=np.intp) for each in numbers.values())
        return cls(outcomes.margins, right, f1, outcomes.unanswerable, passages)

    def questions(self, draw: np.random.Generator, count: int) -> Indexes:
        """Draw so many questions, each by itself."""
        return draw.integers(self.margins.size, size=count).astype(np.intp)

    def whole_passages(self, draw: np.random.Generator, count: int) -> Indexes:
        """Draw passages with all their questions, until there are so many."""
        found: list[Indexes] = []
        while sum(map(len, found)) < count:
            found.append(self.passages[int(draw.integers(len(self.passages)))])
        return np.concatenate(found)


@dataclass(frozen=True, slots=True)
class Kept:
    """What came of all draws.

    Attributes:
        draws: How many there were.
        found: In how many a threshold was found.
        kept: In how many of these it keeps the precision.
        coverage: The mean share of questions that such a threshold answers; NaN where none was found.
    """

    draws: int
    found: int
    kept: int
    coverage: float


def repeat(
    world: World,
    find: Callable[[Indexes, Indexes], float],
    sample: Callable[[np.random.Generator, int], Indexes],
    precision: float,
    draws: int,
) -> Kept:
    """Draw two halves again and again, and judge the threshold that is found.

    Args:
        world: What the drawn questions come from, and what judges.
        find: Given both halves returns a threshold, or raises DataError.
        sample: Draws a half.
        precision: The share of the given answers that is to match.
        draws: How often.
    """
    draw = np.random.default_rng(_SEED)
    half = world.margins.size // 2
    kept, coverages = 0, []
    for _ in range(draws):
        try:
            threshold = find(sample(draw, half), sample(draw, half))
        except DataError:
            continue
        answered = world.margins <= threshold
        coverages.append(float(answered.mean()))
        # Where nothing is answered, nothing is wrong.
        kept += not answered.any() or bool(world.right[answered].mean() >= precision)
    return Kept(draws, len(coverages), kept, float(np.mean(coverages)) if coverages else float("nan"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw, judge and write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m fastspan.benchmarks.studies.promised_precision",
        description=(__doc__ or "").partition("\n")[0],
    )
    add = parser.add_argument
    add("--bundle", default=str(ROOT / "models" / "exported" / "minilm-l6-squad2"), help="a bundle's folder")
    add("--data", help="questions, as fastspan eval reads them (default: the project's own)")
    add("--variant", default="fp32", help="what answers (default: %(default)s)")
    add("--precisions", default="0.6,0.7,0.8", help="what is promised, with commas (default: %(default)s)")
    add("--level", type=float, default=0.9, help="with which certainty (default: %(default)s)")
    add("--draws", type=int, default=200, metavar="N", help="how often to draw (default: %(default)s)")
    add("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder for promised-precision.md")
    options = parser.parse_args(arguments)
    try:
        page = options.out / "promised-precision.md"
        write_text(page, markdown(_page(options)))
    except FastSpanError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(page)
    return 0


def _page(options: argparse.Namespace) -> list[Block]:
    data = open_data(options.data)
    with QuestionAnswerer.load(options.bundle, variant=options.variant, optimize_for="throughput") as qa:
        name = qa.info().name
        world = World.of(ask(qa, data.questions, step=lambda: None))
    rows = []
    for precision in map(float, options.precisions.split(",")):
        ways = (
            (f"promised with {options.level:g}", _promised(world, precision, options.level)),
            ("reached on one half", _reached(world, precision)),
        )
        for way, find in ways:
            for kind, sample in (("questions", world.questions), ("passages", world.whole_passages)):
                found = repeat(world, find, sample, precision, options.draws)
                rows.append((f"{precision:g}", way, kind, *_shares(found)))
    columns = ("precision", "threshold", "drawn", "found", "of these kept", "questions answered")
    return [
        Heading(1, f"Promised precision: {name}, {options.variant}"),
        Paragraph(
            f"The world is the {world.margins.size:,} questions of {data.name} on {len(world.passages):,} "
            f"passages. {options.draws:,} times, two halves of it are drawn with replacement. Found: the "
            "share of the draws that give a threshold; kept: the share of these whose precision over the "
            "world is not below, with Wilson's 95% intervals. Written by "
            "`python -m fastspan.benchmarks.studies.promised_precision`."
        ),
        Table(columns, rows, texts=3),
    ]


def _promised(world: World, precision: float, level: float) -> Callable[[Indexes, Indexes], float]:
    def find(first: Indexes, second: Indexes) -> float:
        margins, right = world.margins, world.right
        threshold, _ = guaranteed_threshold(
            margins[first], right[first], margins[second], right[second], precision=precision, level=level
        )
        return threshold

    return find


def _reached(world: World, precision: float) -> Callable[[Indexes, Indexes], float]:
    def find(first: Indexes, second: Indexes) -> float:
        columns = (each[first] for each in (world.margins, world.right, world.f1, world.empty))
        return fit_no_answer_threshold(*columns, target_precision=precision).threshold

    return find


def _shares(found: Kept) -> tuple[str, str, str]:
    if not found.found:
        return "0%", NONE, NONE
    share = np.array([found.kept / found.found])
    low, high = share_interval(share, np.array([found.found]))
    return (
        f"{found.found / found.draws:.1%}",
        f"{share[0]:.1%} [{low[0]:.1%}, {high[0]:.1%}]",
        f"{found.coverage:.1%}",
    )


if __name__ == "__main__":
    sys.exit(main())
