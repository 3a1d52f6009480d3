"""A calibration's plots, as SVG: the reliability diagram, and precision against coverage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fastspan.benchmarks.accuracy.thresholds import PrecisionCoverage
from fastspan.benchmarks.calibration.confidence_fit import ReliabilityBin
from fastspan.benchmarks.intervals import share_interval
from fastspan.benchmarks.reporting.plot_style import COLOURS, FAINT, make_figure, plot_style, write_figure
from fastspan.errors import InputError

__all__ = ["precision_coverage_plot", "reliability_diagram"]

_BLUE, _VERMILION = COLOURS[:2]

# The reliability diagram's size, in inches.
_WIDTH, _HEIGHT = 4.0, 4.84

# As many points as can be told apart at the width of a page.
_POINTS = 400


def reliability_diagram(bins: Sequence[ReliabilityBin], path: str | Path) -> None:
    """Draw accuracy against confidence, each bin with its 95% Wilson interval, over the bins' sizes.

    Args:
        bins: What ``reliability_bins`` returned, at least one.
        path: The SVG file to write.

    Raises:
        InputError: There are no bins.
        MissingDependency: matplotlib is not installed.
    """
    if not bins:
        raise InputError("bins must hold at least one bin.")
    counts = np.array([b.count for b in bins])
    confidence = np.array([b.confidence for b in bins])
    accuracy = np.array([b.accuracy for b in bins])
    error = float((counts * np.abs(confidence - accuracy)).sum() / counts.sum())
    low, high = share_interval(accuracy, counts)

    with plot_style():
        figure = make_figure(_WIDTH, _HEIGHT, layout=None)
        # Placed by hand: automatic layout would shrink a square panel, and no longer align the two.
        top = figure.add_axes((0.62 / _WIDTH, 1.48 / _HEIGHT, 3.2 / _WIDTH, 3.2 / _HEIGHT))
        bottom = figure.add_axes((0.62 / _WIDTH, 0.50 / _HEIGHT, 3.2 / _WIDTH, 0.8 / _HEIGHT), sharex=top)
        top.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle="--", label="perfectly calibrated")
        # Rounding can put a bound a hair inside the point it belongs to, and errorbar refuses that.
        spread = np.maximum([accuracy - low, high - accuracy], 0.0)
        points = top.errorbar(confidence, accuracy, spread, color=_BLUE, fmt="o", markersize=5)
        points.lines[0].set_clip_on(False)
        points.set_label("right answers, 95% interval")
        top.set(xlim=(0, 1), ylim=(0, 1), ylabel="Share that is right")
        top.tick_params(labelbottom=False)
        top.legend(frameon=False, loc="upper left", fontsize=8)
        top.annotate(
            f"ECE {error:.3f}, {counts.sum():,} questions", (0.98, 0.03), horizontalalignment="right"
        )
        left, width = [b.low for b in bins], [b.high - b.low for b in bins]
        bottom.bar(left, counts, width, align="edge", color=_BLUE, edgecolor="white", linewidth=0.8)
        bottom.set(xlabel="Confidence", ylabel="Questions")
        figure.align_ylabels([top, bottom])
        write_figure(figure, path)


def precision_coverage_plot(
    curve: PrecisionCoverage, path: str | Path, *, chosen_threshold: float | None = None
) -> None:
    """Draw the precision of the given answers against the share of questions answered.

    The band is the 95% Wilson interval of each point by itself. Points are thinned to what a page can show.

    Args:
        curve: What ``precision_coverage`` returned.
        path: The SVG file to write.
        chosen_threshold: The no-answer threshold to mark on the curve.

    Raises:
        InputError: ``chosen_threshold`` answers no question.
        MissingDependency: matplotlib is not installed.
    """
    shown = np.unique(np.linspace(0, curve.answers.size - 1, _POINTS).round().astype(np.intp))
    coverage, precision = curve.coverage[shown], curve.precision[shown]
    low, high = share_interval(precision, curve.answers[shown])

    with plot_style():
        from matplotlib.ticker import PercentFormatter

        figure = make_figure(4.8, 3.4)
        axes = figure.subplots()
        axes.fill_between(coverage, low, high, color=_BLUE, alpha=0.18, linewidth=0, label="95% interval")
        axes.plot(coverage, precision, color=_BLUE, linewidth=1.6, label="precision")
        if chosen_threshold is not None:
            at = int(np.searchsorted(curve.thresholds, chosen_threshold, side="right")) - 1
            if at < 0:
                raise InputError(
                    f"chosen_threshold ({chosen_threshold:g}) answers no question of this curve."
                )
            axes.plot(
                curve.coverage[at],
                curve.precision[at],
                "D",
                color=_VERMILION,
                markersize=6,
                linestyle="none",
                label=f"threshold {chosen_threshold:.2f}".replace("-", "\N{MINUS SIGN}"),
            )
        axes.set(
            xlim=(0, 1), ylim=(0, 1.02), xlabel="Questions answered", ylabel="Given answers that are right"
        )
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(axis="y", color=FAINT, alpha=0.35, linewidth=0.6)
        axes.legend(frameon=False, loc="upper right", fontsize=8)
        write_figure(figure, path)
