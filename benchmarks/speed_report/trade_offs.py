"""The report's plots of one quality against another: latency, throughput, accuracy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fastspan.benchmarks.reporting.document import Block, Figure, Heading
from fastspan.benchmarks.speed_report.equal_answers import FEWEST_EQUAL
from fastspan.benchmarks.speed_report.plots import Point, scatter
from fastspan.benchmarks.speed_report.section import Section
from fastspan.benchmarks.speed_report.tables import Row, faster_modes

__all__ = ["trade_offs"]

_LATENCY_AT = "single-128"
_LATENCY = "median latency of one question of 128 tokens, ms"


def trade_offs(section: Section) -> Iterator[Block]:
    """Plot speed against equal answers, F1 against latency, and latency against throughput."""
    figures = [
        figure
        for model in section.models
        for figure in (_equal_answers(section, model), _f1(section, model), _throughput(section, model))
        if figure is not None
    ]
    if figures:
        yield Heading(section.level, section.title("Speed and accuracy in plots"))
        yield from figures


def _at_latency(section: Section, model: str) -> Mapping[tuple[str, str], Row]:
    return faster_modes(section.of_model(model), _LATENCY_AT)


def _equal_answers(section: Section, model: str) -> Figure | None:
    points = []
    for (system, variant), row in _at_latency(section, model).items():
        equal = section.shares.get((model, system, variant))
        if equal is not None:
            low, high = equal.interval
            points.append(
                Point(
                    system=system,
                    label=variant,
                    x=100 * equal.share,
                    x_ends=(100 * low, 100 * high),
                    y=1 / row.latency.median.estimate,
                    y_ends=(1 / row.latency.median.high, 1 / row.latency.median.low),
                )
            )
    if not points:
        return None
    file = section.plot(f"speed-equal-answers-{model}")
    scatter(
        points,
        section.folder / file,
        x="answers equal to those of the system's own fp32, %",
        y="questions/s, one at a time, 128 tokens",
        log_x=False,
        log_y=True,
        line=100 * FEWEST_EQUAL,
        write=section.write_plot,
    )
    return Figure(
        file,
        f"{model}: speed against equal answers, with 95% intervals. Better is further up and to the right; "
        f"left of the dashed line, fewer than {FEWEST_EQUAL:.0%} of the answers are equal.",
    )


def _f1(section: Section, model: str) -> Figure | None:
    points = []
    counts = set()
    for (system, variant), row in _at_latency(section, model).items():
        scored = row.peer.accuracy
        # A score without its interval rests on too few questions to show a difference.
        if scored is not None and scored.f1_low is not None and scored.f1_high is not None:
            counts.add(scored.questions)
            median = row.latency.median
            points.append(
                Point(
                    system=system,
                    label=variant,
                    x=1e3 * median.estimate,
                    x_ends=(1e3 * median.low, 1e3 * median.high),
                    y=scored.f1,
                    y_ends=(scored.f1_low, scored.f1_high),
                )
            )
    if not points:
        return None
    file = section.plot(f"accuracy-latency-{model}")
    scatter(points, section.folder / file, x=_LATENCY, y="F1", write=section.write_plot)
    asked = " or ".join(f"{count:,}" for count in sorted(counts))
    return Figure(
        file,
        f"{model}: F1 on {asked} questions against latency, with 95% intervals. All systems answer the same "
        "questions, so differences between them are known better than the intervals suggest.",
    )


def _throughput(section: Section, model: str) -> Figure | None:
    served = faster_modes(section.of_model(model), "throughput")
    points = [
        Point(
            system=system,
            label=variant,
            x=1e3 * row.latency.median.estimate,
            y=served[system, variant].questions_per_second,
        )
        for (system, variant), row in _at_latency(section, model).items()
        if (system, variant) in served
    ]
    if not points:
        return None
    file = section.plot(f"latency-throughput-{model}")
    scatter(
        points,
        section.folder / file,
        x=_LATENCY,
        y="questions/s, many at once",
        log_y=True,
        write=section.write_plot,
    )
    return Figure(file, f"{model}: latency against throughput. Better is further up and to the left.")
