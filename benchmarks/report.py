"""The speed report: ``report.md`` and ``report.html`` from what was measured, and nothing else."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from fastspan.benchmarks.peers.catalogue import OURS
from fastspan.benchmarks.report_accuracy import differences
from fastspan.benchmarks.report_document import Block, Code, Figure, Heading, Paragraph, Table, markdown
from fastspan.benchmarks.report_html import to_html
from fastspan.benchmarks.report_plots import Point, scatter, stacked_bars
from fastspan.benchmarks.report_tables import (
    Row,
    cost_table,
    peak_table,
    ratio_table,
    rows_of,
    stage_table,
    start_table,
    summary_table,
)
from fastspan.benchmarks.results import make_folder, write_text
from fastspan.benchmarks.speed_record import Measured
from fastspan.errors import DataError

__all__ = ["write_report"]

_PLOTS = "plots"
_LATENCY_AT = "single-128"
_STAGES = ("encode", "plan", "run", "decode", "objects", "other")
# Beyond so many processors' worth of foreign work, figures say more about the machine than about systems.
_QUIET = 0.1


def write_report(folder: Path, *, price_per_hour: float) -> list[Path]:
    """Write the report on what lies in a folder of results.

    Args:
        folder: Where the records and samples lie, and where the report is put.
        price_per_hour: Price of the machine, in any currency.

    Returns:
        The files.

    Raises:
        DataError: There is no measurement, or a file is malformed.
        MissingDependency: matplotlib is not installed.
    """
    cpu = Measured.read(folder, "cpu") if (folder / "speed-cpu.json").is_file() else None
    gpu = Measured.read(folder, "gpu") if (folder / "speed-gpu.json").is_file() else None
    if cpu is None and gpu is None:
        raise DataError(f"{folder} holds no measurement: run `make bench` first.")
    make_folder(folder / _PLOTS)
    blocks: list[Block] = [Heading(1, "FastSpan: speed")]
    if cpu is not None:
        blocks += _Section(cpu, folder, price_per_hour).blocks()
    blocks.append(Heading(2, "GPU"))
    if gpu is None:
        blocks += [
            Paragraph(
                "No GPU was at hand when this was measured, so this section is empty. On a machine with an "
                "NVIDIA GPU and its driver, one command fills it:"
            ),
            Code("make bench-gpu"),
        ]
    else:
        blocks += _Section(gpu, folder, price_per_hour).blocks()
    if cpu is not None:
        blocks += _again(cpu)
    paths = [folder / "report.md", folder / "report.html"]
    write_text(paths[0], markdown(blocks))
    write_text(paths[1], to_html(blocks, folder, ours=OURS))
    return paths


class _Section:
    """What is said of one measurement."""

    def __init__(self, measured: Measured, folder: Path, price_per_hour: float) -> None:
        self._measured = measured
        self._record = measured.record
        self._folder = folder
        self._price = price_per_hour
        self._rows = rows_of(measured)
        self._accuracy = differences(self._record, folder)
        # Under "GPU", which is a section itself, sections are one level lower.
        self._level = 2 if self._record.device == "cpu" else 3

    def blocks(self) -> Iterator[Block]:
        yield from self._opening()
        yield from self._ratios()
        yield from self._summary()
        yield from self._plots()
        yield from self._stages()
        yield Heading(self._level, self._title("Start-up and memory"))
        yield Paragraph(
            "From starting the process, interpreter and imports included, until the first question could be "
            "asked; one start each, its files in the page cache or not, as it came. Memory is the most the "
            "process held."
        )
        yield start_table(self._record.peers)
        yield from self._cost()
        yield from self._peaks()
        yield from self._parts()
        yield from self._absent()
        yield from self._conditions()

    def _title(self, text: str) -> str:
        return text if self._record.device == "cpu" else f"{text} (GPU)"

    def _of(self, model: str) -> list[Row]:
        return [row for row in self._rows if row.workload.model == model]

    def _opening(self) -> Iterator[Block]:
        environment = self._record.environment
        kind = "A quick run with few repeats" if self._record.quick else "A full run"
        yield Paragraph(
            f"{kind}, measured {environment.get('measured', '')} on {environment.get('CPU', '')} with "
            f"{environment.get('memory', '')} of memory. Text in, answer out: every time includes tokenizing "
            "and decoding. Each system runs at its best settings in a process of its own; they are asked in "
            "turns, A B A B, and those whose turn it is not are stopped."
        )
        background = [sampled.turn.background for sampled in self._measured.samples]
        if background and (busy := statistics.median(background)) > _QUIET:
            yield Paragraph(
                f"**This machine was busy with other work**, {busy:.1f} processors' worth at the median. "
                "Ratios suffer less than times, but neither should be relied on; measure again."
            )

    def _ratios(self) -> Iterator[Block]:
        yield Heading(self._level, self._title("FastSpan against its peers"))
        yield Paragraph(
            "How many times as fast FastSpan answers (the peer's median time ÷ FastSpan's), with a 95% "
            "bootstrap interval over rounds; above 1, FastSpan is faster. At workloads of many windows, each "
            "system's faster mode counts. First like against like: fp32 with fp32, lower precision with int8."
        )
        like = None if self._record.device == "cpu" else "fp16"
        for model, title in self._record.models.items():
            rows = self._of(model)
            yield Heading(3, f"{model}: {title}")
            yield ratio_table(rows, ours=like)
            if like is None:
                yield Paragraph("And all of them against int8, which FastSpan runs by default where it pays:")
                yield ratio_table(rows, ours="int8")
        yield Table(
            headers=("Workload", "is", "model", "questions", "windows", "tokens"),
            rows=[
                (w.name, w.title, w.model, str(w.questions), str(w.windows), f"{w.tokens:,}")
                for w in self._record.workloads
            ],
            texts=3,
        )

    def _summary(self) -> Iterator[Block]:
        yield Heading(self._level, self._title("Summary"))
        sources = sorted({f"Source: {found.source}." for found in self._accuracy.values()})
        yield Paragraph(
            "p50 is the median. p95 is given from 20 samples on, p99 from 100 on: fewer cannot show them. "
            "Memory is the process's peak over all workloads. Δ EM and Δ F1 are the points by which SQuAD "
            f"2.0's scores differ from PyTorch's in fp32; random weights have none. {' '.join(sources)}"
        )
        for model in self._record.models:
            yield Heading(3, f"Summary of {model}")
            yield summary_table(self._of(model), self._accuracy)

    def _plots(self) -> Iterator[Block]:
        for model in self._record.models:
            latency = {row.peer.name: row for row in self._of(model) if row.workload.name == _LATENCY_AT}
            served = _best_throughput(self._of(model))
            points = [
                Point(
                    system=row.peer.system,
                    label=row.peer.variant,
                    x=1e3 * row.latency.median.estimate,
                    y=served[row.peer.system, row.peer.variant],
                )
                for row in latency.values()
                if (row.peer.system, row.peer.variant) in served
            ]
            if points:
                file = self._file(f"latency-throughput-{model}")
                scatter(
                    points,
                    self._folder / file,
                    x="median latency of one question of 128 tokens, ms",
                    y="questions/s",
                    log_y=True,
                )
                yield Figure(
                    file, f"{model}: latency against throughput. Better is further up and to the left."
                )
            scored = [
                Point(
                    system=row.peer.system,
                    label=row.peer.variant,
                    x=1e3 * row.latency.median.estimate,
                    y=row.peer.accuracy.f1,
                )
                for row in latency.values()
                if row.peer.accuracy is not None
            ]
            if scored:
                file = self._file(f"accuracy-latency-{model}")
                scatter(
                    scored,
                    self._folder / file,
                    x="median latency of one question of 128 tokens, ms",
                    y="F1 of the throughput workload's answers",
                )
                yield Figure(
                    file,
                    f"{model}: accuracy against latency. Systems differ in decoding as well as arithmetic.",
                )

    def _stages(self) -> Iterator[Block]:
        table = stage_table(self._rows)
        if not table.rows:
            return
        yield Heading(self._level, self._title("Where FastSpan's time goes"))
        yield Paragraph(
            "Milliseconds of a run by stage, the stages' own functions wrapped in clocks: text to windows, "
            "windows to batches, ONNX Runtime, the search for spans, and making answers of them. In latency "
            "mode only: where runs overlap, stages do not add up to what passes on a clock."
        )
        bars = {
            f"{row.workload.model} {row.peer.variant}, {row.workload.name}": stages
            for row in self._rows
            if (stages := row.peer.stages.get(row.workload.name))
        }
        if bars:
            file = self._file("stages")
            stacked_bars(bars, _STAGES, self._folder / file, x="share of a run, %")
            yield Figure(file, "Time by stage, one run at a time.")
        for model in self._record.models:
            yield Heading(3, f"Stages of {model}, ms")
            yield stage_table(self._of(model))

    def _cost(self) -> Iterator[Block]:
        table = cost_table(self._rows, self._price)
        if table.rows:
            yield Heading(self._level, self._title("Cost of a million questions"))
            yield Paragraph(
                f"At {self._price:g} an hour for this machine (`--price-per-hour`; in any currency, an "
                "assumption and no offer), kept busy with the throughput workload."
            )
            yield table

    def _peaks(self) -> Iterator[Block]:
        table = peak_table(self._rows, self._record.peaks)
        if table.rows:
            peaks = ", ".join(f"{kind} {value / 1e9:.0f} Gop/s" for kind, value in self._record.peaks.items())
            yield Heading(self._level, self._title("Share of the machine's peak"))
            yield Paragraph(
                f"Bare matrix products in ONNX Runtime reached {peaks} in the same session. A share counts "
                "the encoder's matrix products only, against the whole time from text to answer."
            )
            yield table

    def _parts(self) -> Iterator[Block]:
        if self._record.parts:
            yield Heading(self._level, self._title("Parts of the engine"))
            yield Paragraph(
                "Measured with pytest-benchmark on the bundled checkpoint, against the baseline before."
            )
            yield Table(
                headers=("Part", "median µs", "IQR µs", "rounds", "baseline µs", "change"),
                rows=[
                    (
                        part.name,
                        f"{1e6 * part.median:.1f}",
                        f"{1e6 * part.iqr:.1f}",
                        str(part.rounds),
                        "–" if part.baseline is None else f"{1e6 * part.baseline:.1f}",
                        "–" if part.baseline is None else f"{part.median / part.baseline - 1:+.0%}",
                    )
                    for part in self._record.parts
                ],
            )

    def _absent(self) -> Iterator[Block]:
        yield Heading(self._level, self._title("Not measured, and failures"))
        reasons: dict[tuple[str, str, str], list[str]] = {}
        for peer in self._record.peers:
            if peer.status != "measured":
                reasons.setdefault((peer.name, peer.status, peer.reason), []).append(peer.model)
        if reasons:
            yield Table(
                headers=("Peer", "is", "why", "with"),
                rows=[(*key, ", ".join(models)) for key, models in reasons.items()],
                texts=4,
            )
        else:
            yield Paragraph("Every peer was measured.")
        for failure in self._record.failures:
            yield Paragraph(f"Failure: {failure}")
        if not self._record.failures:
            yield Paragraph("Nothing failed.")

    def _conditions(self) -> Iterator[Block]:
        yield Heading(self._level, self._title("Conditions"))
        turns = [sampled.turn for sampled in self._measured.samples]
        if turns:
            samples = sum(len(turn.seconds) for turn in turns)
            stopped = max(turn.stopped_cpu_seconds for turn in turns)
            background = [turn.background for turn in turns]
            yield Paragraph(
                f"{samples:,} samples in {len(turns):,} turns. While others answered, the stopped systems "
                f"used {stopped:.2f} processor seconds at most in a turn. The rest of the machine did "
                f"{statistics.median(background):.2f} processors' worth of work at the median, "
                f"{max(background):.2f} at most."
            )
        yield Table(headers=("", ""), rows=list(self._record.environment.items()), texts=2)
        ran = {
            peer.name: "; ".join(f"{key} {value}" for key, value in peer.description.items())
            for peer in self._record.peers
            if peer.description
        }
        yield Table(headers=("Peer", "ran"), rows=list(ran.items()), texts=2)

    def _file(self, name: str) -> str:
        return f"{_PLOTS}/{self._record.device}-{name}.svg"


def _best_throughput(rows: Sequence[Row]) -> dict[tuple[str, str], float]:
    """(system, variant) → questions a second at the throughput workload, in the faster mode."""
    found: dict[tuple[str, str], float] = {}
    for row in rows:
        if row.workload.name == "throughput":
            key = (row.peer.system, row.peer.variant)
            found[key] = max(found.get(key, 0.0), row.questions_per_second)
    return found


def _again(measured: Measured) -> Iterator[Block]:
    yield Heading(2, "Measure again")
    yield Paragraph(
        "Written by the command below; not edited by hand. `make bench` is the quick run, `make bench-full` "
        "the full one. Every sample is in `speed-cpu-samples.jsonl`, everything else in `speed-cpu.json`."
    )
    yield Code(measured.record.environment.get("command", "make bench"))
