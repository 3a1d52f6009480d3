"""The speed report's plots, as SVG: systems as points in a plane, and time by stage as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastspan.benchmarks.peers.catalogue import OURS
from fastspan.benchmarks.reporting.plot_style import COLOURS, FAINT, make_figure, plot_style, write_figure

__all__ = ["Point", "scatter", "stacked_bars"]

# Markers tell systems apart in grey.
_MARKERS = ("o", "s", "^", "D", "v", "P")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A system in a plot.

    Attributes:
        system: Whose it is; gives it its colour and marker.
        label: What to write beside it.
        x: Its place across.
        y: Its place upward.
    """

    system: str
    label: str
    x: float
    y: float


def scatter(
    points: Sequence[Point], path: Path, *, x: str, y: str, log_x: bool = True, log_y: bool = False
) -> None:
    """Draw systems as labelled points, FastSpan's filled.

    Args:
        points: At least one.
        path: The SVG file.
        x: What lies across.
        y: What lies upward.
        log_x: Whether to draw x on a logarithmic scale.
        log_y: The same for y.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    systems = list(dict.fromkeys(point.system for point in points))
    with plot_style():
        figure = make_figure(6.4, 4.2)
        axes = figure.add_subplot()
        for number, system in enumerate(systems):
            own = [point for point in points if point.system == system]
            colour = COLOURS[number % len(COLOURS)]
            axes.plot(
                [point.x for point in own],
                [point.y for point in own],
                linestyle="none",
                marker=_MARKERS[number % len(_MARKERS)],
                markersize=7,
                color=colour,
                markerfacecolor=colour if system == OURS else "white",
                label=system,
            )
        if log_x:
            axes.set_xscale("log")
        if log_y:
            axes.set_yscale("log")
        _plain_numbers(axes, log_x=log_x, log_y=log_y)
        axes.margins(0.16)
        axes.set(xlabel=x, ylabel=y)
        axes.grid(color=FAINT, alpha=0.35, linewidth=0.6)
        figure.canvas.draw()
        _label(axes, points)
        figure.legend(frameon=False, loc="outside lower center", ncols=5, fontsize=8)
        write_figure(figure, path)


def stacked_bars(
    bars: Mapping[str, Mapping[str, float]], stages: Sequence[str], path: Path, *, x: str
) -> None:
    """Draw one horizontal bar a name, of its stages' shares.

    Args:
        bars: Name → stage → seconds.
        stages: The stages, from the left.
        path: The SVG file.
        x: What lies across.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    names = list(bars)
    with plot_style():
        figure = make_figure(6.4, 1.1 + 0.34 * len(names))
        axes = figure.add_subplot()
        left = [0.0] * len(names)
        for number, stage in enumerate(stages):
            shares = [100 * bars[name][stage] / sum(bars[name].values()) for name in names]
            axes.barh(names, shares, left=left, color=COLOURS[number % len(COLOURS)], label=stage, height=0.7)
            left = [begin + share for begin, share in zip(left, shares, strict=True)]
        axes.invert_yaxis()
        axes.set(xlim=(0, 100), xlabel=x)
        axes.legend(
            frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(stages), fontsize=8
        )
        write_figure(figure, path)


def _label(axes: Any, points: Sequence[Point]) -> None:
    """Write each label above its point, or lower where another one is written already."""
    taken: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda point: -point.y):
        x, y = axes.transData.transform((point.x, point.y))
        offset = 7.0
        while any(abs(x - other_x) < 75 and abs(y + offset - other_y) < 10 for other_x, other_y in taken):
            offset -= 10.0
            if -8 < offset < 7:
                offset = -14.0
        taken.append((x, y + offset))
        axes.annotate(
            point.label,
            (point.x, point.y),
            xytext=(0, offset),
            textcoords="offset pixels",
            ha="center",
            fontsize=7,
        )


def _plain_numbers(axes: Any, *, log_x: bool, log_y: bool) -> None:
    """Write 50 and 200 on a logarithmic axis, not powers of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    for axis, logarithmic in ((axes.xaxis, log_x), (axes.yaxis, log_y)):
        if logarithmic:
            axis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.set_minor_formatter(NullFormatter())
