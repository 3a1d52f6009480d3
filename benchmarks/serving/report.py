"""The report on services under load: Markdown, a page, and a plot of latency and goodput against load."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fastspan.benchmarks.reporting.document import (
    NONE,
    Block,
    Code,
    Figure,
    Heading,
    Paragraph,
    Table,
    markdown,
)
from fastspan.benchmarks.reporting.files import make_folder, write_text
from fastspan.benchmarks.reporting.html import to_html
from fastspan.benchmarks.reporting.plot_style import COLOURS, FAINT, make_figure, plot_style, write_figure
from fastspan.benchmarks.serving.record import Beside, LoadPoint, ServingRecord, Target

__all__ = ["write_serving_report"]

_PLOT = "plots/serving.svg"
_MARKERS = ("o", "s", "^", "D")
_NAME = "serving"


def write_serving_report(folder: Path) -> list[Path]:
    """Write the report on the record in a folder, beside it.

    Returns:
        The files.

    Raises:
        DataError: There is no record, or it is malformed.
        MissingDependency: matplotlib or markdown-it-py is not installed.
    """
    record = ServingRecord.read(folder)
    make_folder(folder / "plots")
    _draw(record, folder / _PLOT)
    text = markdown(list(_blocks(record, folder.name)))
    paths = [folder / f"{_NAME}.md", folder / f"{_NAME}.html"]
    write_text(paths[0], text)
    write_text(paths[1], to_html(text, folder, ours="FastSpan"))
    return paths


def _blocks(record: ServingRecord, kind: str) -> Iterator[Block]:
    limit = f"{record.limit_ms:g} ms"
    yield Heading(1, f"FastSpan's service under load on {kind}")
    yield Paragraph(
        f"Goodput is answers a second that came within {limit} of when their request was due. The figure of "
        "a service is its highest goodput at a load where 99 % of the accepted requests, answered or "
        f"expired, took at most {limit}. Requests are sent in an open loop from a second process on the same "
        "machine, which takes its share of the cores. They say in `X-Request-Timeout-Ms` that they have as "
        "long as the limit. FastSpan's service is started with `--max-wait-ms` at half of it: what would "
        "wait longer is refused."
    )
    yield Table(
        [
            "service",
            "capacity, answers/s",
            "goodput, answers/s",
            "at offered load, 1/s",
            "goodput at the highest load",
        ],
        [_summary(target, record.limit_ms) for target in record.targets],
    )
    yield Paragraph("Capacity is what clients get that ask one request after the other.")
    if record.beside is not None:
        yield from _beside(record.beside)
    yield Heading(2, "Load by load")
    yield Figure(
        _PLOT,
        f"Latency of accepted requests (99th percentile) and goodput against offered load; limit {limit}.",
    )
    yield Paragraph(
        "Latency counts from when a request was due. So it includes how late the client itself was, which "
        "the last column has."
    )
    for target in record.targets:
        yield Heading(3, target.name)
        yield Table(_HEADERS, [_row(point) for point in target.points])
    yield Heading(2, "Books")
    yield Paragraph(_books(record))
    yield Heading(2, "Conditions")
    rows = [[name, value] for name, value in record.machine.items()]
    yield Table(["what", "value"], [*rows, ["different requests", str(record.questions)]], texts=2)
    yield Code("make bench-serve")


_HEADERS = (
    *("offered, 1/s", "sent", "ok", "rejected", "expired", "failed"),
    *("missed, %", "p50, ms", "p99, ms", "goodput, 1/s"),
    *("p50 of refusals, ms", "p99 of refusals, ms", "p99 of the client's lateness, ms"),
)


def _beside(beside: Beside) -> Iterator[Block]:
    yield Heading(2, "Beside the engine in process")
    yield Paragraph(
        "The same questions and options, in turns: one question at a time with `QuestionAnswerer.answer` and "
        "on one connection that is kept (medians), then all with `answer_many` and from "
        f"{beside.clients} clients that ask one after the other (medians of rounds). {_clients(beside)}"
    )
    added = beside.service_p50_ms - beside.engine_p50_ms
    yield Table(
        ["", "engine in process", "service", "difference"],
        [
            [
                "one at a time, p50, ms",
                f"{beside.engine_p50_ms:.2f}",
                f"{beside.service_p50_ms:.2f}",
                f"{added:+.2f} ms",
            ],
            [
                "at saturation, answers/s",
                f"{beside.engine_per_second:.1f}",
                f"{beside.service_per_second:.1f}",
                f"{100 * beside.share:.0f} %",
            ],
        ],
    )


def _clients(beside: Beside) -> str:
    if beside.clients_took is None:
        return "The clients run on the same machine."
    left = 100 * beside.share / (1 - beside.clients_took)
    return (
        f"The clients took {100 * beside.clients_took:.1f} % of the cores' time; with what they left, the "
        f"service gave {left:.0f} % of what `answer_many` would have."
    )


def _summary(target: Target, limit_ms: float) -> list[str]:
    best = target.best(limit_ms)
    figures = [NONE, NONE] if best is None else [f"{best.goodput:.1f}", f"{best.offered:.1f}"]
    return [target.name, f"{target.capacity:.1f}", *figures, f"{target.points[-1].goodput:.1f}"]


def _row(point: LoadPoint) -> list[str]:
    counts = (point.sent, point.ok, point.rejected, point.expired, point.failed)
    return [
        f"{point.offered:.1f}",
        *map(str, counts),
        f"{100 * point.missed:.1f}",
        _shown(point.p50_ms),
        _shown(point.p99_ms),
        f"{point.goodput:.1f}",
        _shown(point.rejected_p50_ms),
        _shown(point.rejected_p99_ms),
        _shown(point.late_p99_ms),
    ]


def _shown(value: float | None) -> str:
    return NONE if value is None else f"{value:.1f}"


def _books(record: ServingRecord) -> str:
    differing = [
        f"{target.name} at {point.offered:.1f}/s: {point.books}."
        for target in record.targets
        for point in target.points
        if point.books
    ]
    without = [target.name for target in record.targets if not any(point.metrics for point in target.points)]
    said = (
        f"The metrics differ from what the client counted. {' '.join(differing)}"
        if differing
        else "Every request is counted once: sent = ok + rejected + expired + failed, and the service's "
        "metrics hold the same numbers by status."
    )
    return f"{said} Without metrics: {', '.join(without)}." if without else said


def _draw(record: ServingRecord, path: Path) -> None:
    with plot_style():
        figure = make_figure(4.6, 5.6)
        latency, goodput = figure.subplots(2, 1, sharex=True)
        for target, colour, marker in zip(record.targets, COLOURS, _MARKERS, strict=False):
            offered = [point.offered for point in target.points]
            style = {"color": colour, "marker": marker, "markersize": 4, "linewidth": 1.2}
            late = [float("nan") if point.p99_ms is None else point.p99_ms for point in target.points]
            latency.plot(offered, late, **style)
            goodput.plot(offered, [point.goodput for point in target.points], label=target.name, **style)
        latency.axhline(record.limit_ms, color=FAINT, linewidth=0.8, linestyle="--")
        latency.set_yscale("log")
        latency.set_ylabel("p99 of those accepted, ms")
        goodput.set_ylabel("goodput, 1/s")
        goodput.set_xlabel("offered load, requests a second")
        goodput.set_ylim(bottom=0)
        figure.legend(loc="outside upper left", frameon=False)
        write_figure(figure, path)
