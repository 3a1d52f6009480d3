"""What a second worker of ``fastspan bulk`` adds: the rate of one and of two, each with one thread.

``python -m fastspan.benchmarks.studies.bulk_workers`` answers the same questions by one answerer of a thread
in this process, and by as many worker processes of one thread as there are cores, in turns, and writes
``bulk_workers.md`` into the results of this kind of CPU. What is compared is the rate while every worker has
work: a run of many hours feels neither how long they take to load nor how its end is shared out. Writing and
committing the output is timed with the rest.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from fastspan.benchmarks.paths import ROOT
from fastspan.benchmarks.reporting.document import Block, Heading, Paragraph, Table, markdown
from fastspan.benchmarks.reporting.files import write_text
from fastspan.benchmarks.reporting.machine import describe_machine
from fastspan.benchmarks.speed.machine.environment import results_folder
from fastspan.benchmarks.speed.models.measured import bundled_model
from fastspan.bulk.chunks import CHUNK_ROWS, Place
from fastspan.bulk.columns import Columns
from fastspan.bulk.engines import Engine, InProcess, Processes, Work
from fastspan.bulk.run import FileJob, answer_file
from fastspan.errors import FastSpanError, InputError
from fastspan.loading import load_bundle
from fastspan.machine.cpu import usable_cores
from fastspan.options import LoadOptions
from fastspan.tuning.sample_texts import questions_of

__all__ = ["RateAfterStart", "main", "rate"]

_SEED = 3
_LENGTHS = (32, 64, 96, 128)


class RateAfterStart:
    """Watches a run: how many rows a second, from a place on at which every worker answers.

    Args:
        warm: So many rows are not counted at the beginning.
        until: Nor are those behind this one.
    """

    def __init__(self, warm: int, until: int) -> None:
        self._warm, self._until = warm, until
        self._began: tuple[float, int] | None = None
        self._last: tuple[float, int] | None = None

    def at(self, place: Place, rejected: int) -> None:
        """Everything before ``place`` is done."""
        if place.rows > self._until:
            return
        self._last = (time.perf_counter(), place.rows)
        if self._began is None and place.rows >= self._warm:
            self._began = self._last

    @property
    def rate(self) -> float:
        """Rows a second.

        Raises:
            InputError: Too few rows were answered.
        """
        if self._began is None or self._last is None or self._last[1] <= self._began[1]:
            raise InputError("too few rows to time: ask for more with --rows.")
        return (self._last[1] - self._began[1]) / (self._last[0] - self._began[0])


def rate(source: Path, engine: Callable[[], Engine], rows: int, apart: int) -> float:
    """Answer a file once, as ``fastspan bulk`` does, and return the rows a second in its middle.

    Args:
        source: The file.
        engine: What answers.
        rows: How many rows it has.
        apart: So many of them are not counted at either end.
    """
    watcher = RateAfterStart(apart, rows - apart)
    with tempfile.TemporaryDirectory(prefix="fastspan-bulk-") as name:
        job = FileJob(
            source=source, out=Path(name, "out.jsonl"), rejects=Path(name, "rejects.jsonl"), columns=Columns()
        )
        answer_file(job, engine, lambda size, place: watcher)
    return watcher.rate


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure both in turns and write the page; return 1 on an error."""
    parser = argparse.ArgumentParser(
        prog="python -m fastspan.benchmarks.studies.bulk_workers",
        description=(__doc__ or "").partition("\n")[0],
    )
    add = parser.add_argument
    add("--bundle", type=Path, help="the bundle (default: the bundled model's)")
    add("--variant", default="auto", help="the precision (default: %(default)s)")
    add("--rows", type=int, default=4096, help="questions for each run (default: %(default)s)")
    add("--rounds", type=int, default=3, help="runs of each kind, in turns (default: %(default)s)")
    add("--workers", type=int, default=usable_cores(), help="worker processes (default: %(default)s)")
    add(
        "--out",
        type=Path,
        default=results_folder(ROOT / "benchmarks" / "results", "cpu"),
        help="folder for bulk_workers.md (default: that of this kind of CPU in benchmarks/results)",
    )
    options = parser.parse_args(arguments)
    try:
        bundle = options.bundle or bundled_model().bundle
        work = Work(bundle=str(bundle), load={"variant": options.variant, "threads": 1})
        with tempfile.TemporaryDirectory(prefix="fastspan-bulk-") as name:
            source = Path(name) / "in.jsonl"
            _write_questions(source, bundle, options.rows)
            # What is with the workers at once.
            apart = (2 * options.workers + 1) * CHUNK_ROWS
            alone: list[float] = []
            together: list[float] = []
            for _ in range(options.rounds):
                alone.append(rate(source, lambda: InProcess(work), options.rows, apart))
                together.append(rate(source, lambda: Processes(work, options.workers), options.rows, apart))
    except FastSpanError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    machine = describe_machine(("fastspan", "onnxruntime", "numpy"))
    record = {
        "rows": options.rows,
        "workers": options.workers,
        "variant": options.variant,
        "one": alone,
        "workers_together": together,
        "machine": machine,
    }
    write_text(options.out / "bulk_workers.json", f"{json.dumps(record, indent=2)}\n")
    page = options.out / "bulk_workers.md"
    write_text(page, markdown(_page(alone, together, options.workers, machine)))
    print(page)
    return 0


def _write_questions(path: Path, bundle: Path, rows: int) -> None:
    draw = random.Random(_SEED)
    loaded = load_bundle(bundle, None, LoadOptions(provider="cpu"))
    kinds = questions_of(loaded.encoder, _LENGTHS, loaded.bundle.manifest.max_length)
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            question, context = draw.choice(kinds)
            # No two alike: a text that comes again is not tokenized again.
            record = {"question": question, "context": f"{number} {context}"}
            file.write(f"{json.dumps(record)}\n")


def _page(
    alone: Sequence[float], together: Sequence[float], workers: int, machine: dict[str, str]
) -> list[Block]:
    one, all_of_them = statistics.median(alone), statistics.median(together)
    # Each round's two runs were minutes apart at most.
    shares = [both / (workers * single) for single, both in zip(alone, together, strict=True)]
    return [
        Heading(1, "Workers of a bulk run"),
        Paragraph(
            f"Rows a second while every worker has work, medians of {len(alone)} runs in turns. The share is "
            f"that of {workers} times one worker. Written by "
            "`python -m fastspan.benchmarks.studies.bulk_workers`."
        ),
        Table(
            ("", "rows a second", "share"),
            [
                ("one answerer, one thread", f"{one:.1f}", "100%"),
                (
                    f"{workers} worker processes, one thread each",
                    f"{all_of_them:.1f}",
                    f"{statistics.median(shares):.0%} ({min(shares):.0%}–{max(shares):.0%})",
                ),
            ],
        ),
        Heading(2, "Environment"),
        Table(("", ""), list(machine.items()), texts=2),
    ]


if __name__ == "__main__":
    sys.exit(main())
