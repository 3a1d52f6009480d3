"""The report's comparison at equal accuracy: one plot, and how many times as long others take."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fastspan.benchmarks.peers.catalogue import OURS
from fastspan.benchmarks.reporting.document import Block, Figure, Heading, Paragraph, Table, plain
from fastspan.benchmarks.reporting.html import BELOW
from fastspan.benchmarks.speed.record import DefaultVariant, SpeedRecord
from fastspan.benchmarks.speed.spread import ENOUGH_ROUNDS
from fastspan.benchmarks.speed_report.equal_answers import FEWEST_EQUAL
from fastspan.benchmarks.speed_report.plots import Bar, ranked_bars
from fastspan.benchmarks.speed_report.section import Section
from fastspan.benchmarks.speed_report.tables import comparison_table, faster_modes, like_for_like

__all__ = ["BRACKETS", "MARK", "default_of", "headline", "models_by_default", "ratios"]

_HEADLINE_AT = ("single-128", "single-384", "single-32")
BRACKETS = (
    "Square brackets hold a 95% bootstrap interval over rounds, round ones the range of the rounds where "
    f"fewer than {ENOUGH_ROUNDS} were taken, which are too few for an interval."
)
"""What the tables' brackets mean, for people."""

MARK = (
    f"{BELOW} marks a system that gives fewer than {FEWEST_EQUAL:.0%} of the answers of its own fp32: its "
    "speed is bought with accuracy."
)
"""What the tables' mark means, for people."""


def headline(section: Section) -> Iterator[Block]:
    """Say in one plot how fast every system is, and what FastSpan runs here."""
    for chosen, models in models_by_default(section.record):
        yield Paragraph(
            f"**FastSpan runs {chosen.variant} here by default**, on {models}: {plain(chosen.reason)}"
        )
    for model in section.models[:1]:
        measured = {row.workload.name for row in section.of_model(model)}
        workload = next((name for name in _HEADLINE_AT if name in measured), None)
        if workload is None:
            return
        default = section.record.defaults.get(model)
        bars = []
        for (system, variant), row in faster_modes(section.of_model(model), workload).items():
            equal = section.shares.get((model, system, variant))
            median = row.latency.median
            runs = system == OURS and default is not None and variant.split()[0] == default.variant
            bars.append(
                Bar(
                    label=f"{system} {variant}" + (" (default)" if runs else ""),
                    value=1e3 * median.estimate,
                    low=1e3 * median.low,
                    high=1e3 * median.high,
                    ours=system == OURS,
                    below=equal is not None and not equal.enough,
                    note="" if equal is None or equal.is_reference else f"{equal.share:.1%} equal",
                )
            )
        file = section.plot("headline")
        ranked_bars(
            bars, section.folder / file, x="median latency, ms (shorter is better)", write=section.write_plot
        )
        compared = any((model, row.peer.system, row.peer.variant) in section.shares for row in section.rows)
        yield Figure(
            file,
            f"{model}, {_title(section, model, workload)}: text in, answer out."
            + (
                " Beside a bar stands the share of answers equal to the system's own fp32; hatched where "
                f"that is below {FEWEST_EQUAL:.0%}."
                if compared
                else ""
            ),
        )


def ratios(section: Section) -> Iterator[Block]:
    """Say how many times as fast FastSpan is as each of the others, and what was asked."""
    yield Heading(section.level, section.title("FastSpan against its peers"))
    yield Paragraph(
        "FastSpan's rows give its own median time. The other rows give how many times as long a peer takes: "
        "the peer's time ÷ FastSpan's in each round, and the median of these; above 1, FastSpan is faster. "
        f"{BRACKETS} At workloads of many windows, each system's faster mode counts. First like against "
        "like: fp32 with fp32, lower precision with lower precision."
    )
    yield Paragraph(_equal_answers_said(section))
    for model in section.models:
        rows = section.of_model(model)
        yield Heading(3, section.title(f"{model}: {section.record.models[model]}"))
        yield comparison_table(rows, section.shares, against=like_for_like(rows))
        default = default_of(section, model)
        if default is not None:
            yield Paragraph(f"And all of them against {OURS} {default}, which it runs here by default:")
            yield comparison_table(rows, section.shares, against=_always(default), unit=False)
    yield Heading(3, section.title("What was asked"))
    yield Table(
        headers=("Workload", "is", "model", "questions", "windows", "tokens"),
        rows=[
            (w.name, w.title, w.model, str(w.questions), str(w.windows), f"{w.tokens:,}")
            for w in section.record.workloads
        ],
        texts=3,
    )


def models_by_default(record: SpeedRecord) -> list[tuple[DefaultVariant, str]]:
    """Return what FastSpan runs by default, with the models that it runs so, for people."""
    return [
        (chosen, " and ".join(model for model, other in record.defaults.items() if other == chosen))
        for chosen in dict.fromkeys(record.defaults.values())
    ]


def default_of(section: Section, model: str) -> str | None:
    """Return the variant, as tables name it, that FastSpan runs by default; None where none was measured."""
    chosen = section.record.defaults.get(model)
    variants = (row.peer.variant for row in section.of_model(model) if row.peer.system == OURS)
    return next((name for name in variants if chosen and name.split()[0] == chosen.variant), None)


def _always(variant: str) -> Callable[[str], str]:
    return lambda _: variant


def _title(section: Section, model: str, name: str) -> str:
    return next(w.title for w in section.record.workloads if (w.model, w.name) == (model, name))


def _equal_answers_said(section: Section) -> str:
    """What the column of equal answers is, or why there is none."""
    counts = sorted({equal.questions for equal in section.shares.values()})
    if not counts:
        return (
            "Equal answers were not measured in this run, so these are speeds and no more: what a lower "
            "precision costs in accuracy is not in these tables."
        )
    asked = " or ".join(f"{count:,}" for count in counts)
    return (
        f"Equal answers: the share of {asked} questions, asked off the clock, to which a system gives the "
        f"same answer as in fp32. {MARK} Random weights have no accuracy."
    )
