"""The speed report's plots, as SVG: systems as bars or as points in a plane, and time by stage.

They are drawn as narrow as a phone's screen is, so that their text can be read there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastspan.benchmarks.peers.catalogue import OURS
from fastspan.benchmarks.reporting.plot_style import (
    COLOURS,
    FAINT,
    Write,
    make_figure,
    plot_style,
    write_figure,
)

__all__ = ["Bar", "Point", "ranked_bars", "scatter", "stacked_bars"]

# In inches.
_WIDTH = 4.6
# Markers tell systems apart in grey.
_MARKERS = ("o", "s", "^", "D", "v", "P")
_PALE = "#C9D1D9"
# How far above its point's middle a label may stand, in points, the best first.
_LIFTS = (7, -8, 15, -16, 23, -24, 31, -32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A system in a ranking.

    Attributes:
        label: What it is.
        value: Its length.
        low: The lower end of its interval or range.
        high: The upper end.
        ours: Whether it is FastSpan's.
        below: Whether it is to be hatched, as one that does less.
        note: What to write behind its value.
    """

    label: str
    value: float
    low: float
    high: float
    ours: bool = False
    below: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A system in a plane.

    Attributes:
        system: Whose it is; gives it its colour and marker.
        label: What to write beside it.
        x: Its place across.
        y: Its place upward.
        x_ends: The ends of its interval across; None for none.
        y_ends: The ends of its interval upward; None for none.
    """

    system: str
    label: str
    x: float
    y: float
    x_ends: tuple[float, float] | None = None
    y_ends: tuple[float, float] | None = None


def ranked_bars(bars: Sequence[Bar], path: Path, *, x: str, write: Write = write_figure) -> None:
    """Draw horizontal bars, the shortest on top, each with its interval, its value and its note.

    Args:
        bars: At least one.
        path: The SVG file.
        x: What lies across.
        write: Writes the figure.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    ranked = sorted(bars, key=lambda bar: bar.value)
    with plot_style():
        figure = make_figure(_WIDTH, 0.7 + 0.3 * len(ranked))
        axes = figure.add_subplot()
        for place, bar in enumerate(ranked):
            colour = COLOURS[0] if bar.ours else _PALE
            spread = [[max(0.0, bar.value - bar.low)], [max(0.0, bar.high - bar.value)]]
            axes.barh(
                place,
                bar.value,
                height=0.68,
                color="white" if bar.below else colour,
                edgecolor=FAINT if bar.below and not bar.ours else colour,
                hatch="////" if bar.below else None,
                linewidth=0.8,
                xerr=spread,
                error_kw={"elinewidth": 0.9, "capsize": 2, "ecolor": "#333333"},
            )
            text = f"{bar.value:#.3g} ms".replace(". ", " ") + (f", {bar.note}" if bar.note else "")
            axes.annotate(
                text,
                (max(bar.value, bar.high), place),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
        axes.set_yticks(range(len(ranked)), [bar.label for bar in ranked])
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.set(xlim=(0, 1), xlabel=x)
        figure.draw_without_rendering()
        axes.set(xlim=(0, max(_scale(axes, text) for text in axes.texts)))
        write(figure, path)


def _scale(axes: Any, text: Any) -> float:
    """Where the axis must end for a text behind its bar to end within it."""
    whole = axes.get_window_extent().width
    gap = text.xyann[0] * axes.figure.dpi / 72
    # A text wider than the axis would push its end out of all bounds.
    left = max(whole - gap - text.get_window_extent().width, 0.2 * whole)
    return float(text.xy[0] * whole / left)


def scatter(
    points: Sequence[Point],
    path: Path,
    *,
    x: str,
    y: str,
    log_x: bool = True,
    log_y: bool = False,
    line: float | None = None,
    write: Write = write_figure,
) -> None:
    """Draw systems as labelled points, FastSpan's filled.

    Args:
        points: At least one.
        path: The SVG file.
        x: What lies across.
        y: What lies upward.
        log_x: Whether to draw x on a logarithmic scale.
        log_y: The same for y.
        line: Where across to draw a dashed line upward; None for nowhere.
        write: Writes the figure.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    systems = list(dict.fromkeys(point.system for point in points))
    with plot_style():
        figure = make_figure(_WIDTH, 3.9)
        axes = figure.add_subplot()
        for number, system in enumerate(systems):
            colour = COLOURS[number % len(COLOURS)]
            style = {"color": colour, "markerfacecolor": colour if system == OURS else "white"}
            marker = _MARKERS[number % len(_MARKERS)]
            for place, point in enumerate(point for point in points if point.system == system):
                axes.errorbar(
                    point.x,
                    point.y,
                    xerr=_reach(point.x, point.x_ends),
                    yerr=_reach(point.y, point.y_ends),
                    linestyle="none",
                    marker=marker,
                    markersize=6,
                    elinewidth=0.8,
                    label=system if place == 0 else None,
                    **style,
                )
        if line is not None:
            axes.axvline(line, color=FAINT, linewidth=1, linestyle="--", zorder=0)
        if log_x:
            axes.set_xscale("log")
        if log_y:
            axes.set_yscale("log")
        axes.margins(0.14)
        axes.set(xlabel=x, ylabel=y)
        _plain_numbers(axes, log_x=log_x, log_y=log_y)
        axes.grid(color=FAINT, alpha=0.35, linewidth=0.6)
        figure.legend(frameon=False, loc="outside lower center", ncols=3, fontsize=8)
        figure.canvas.draw()
        _label(axes, points)
        write(figure, path)


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
        figure = make_figure(_WIDTH, 1.3 + 0.3 * len(names))
        axes = figure.add_subplot()
        left = [0.0] * len(names)
        for number, stage in enumerate(stages):
            shares = [100 * bars[name][stage] / sum(bars[name].values()) for name in names]
            axes.barh(names, shares, left=left, color=COLOURS[number % len(COLOURS)], label=stage, height=0.7)
            left = [begin + share for begin, share in zip(left, shares, strict=True)]
        axes.invert_yaxis()
        axes.set(xlim=(0, 100), xlabel=x)
        figure.legend(frameon=False, loc="outside upper center", ncols=3, fontsize=8)
        write_figure(figure, path)


def _reach(value: float, ends: tuple[float, float] | None) -> list[list[float]] | None:
    """How far an interval reaches below and above."""
    if ends is None:
        return None
    # Rounding can put an end a hair inside the value that it belongs to, and errorbar refuses that.
    return [[max(0.0, value - ends[0])], [max(0.0, ends[1] - value)]]


def _label(axes: Any, points: Sequence[Point]) -> None:
    """Write each label beside its point, towards the middle, where it covers no point and no other label."""
    box = axes.get_window_extent()
    unit = axes.figure.dpi / 72
    places = {point: axes.transData.transform((point.x, point.y)) / unit for point in points}
    # Left, right, bottom, top of what is not to be covered, in points.
    taken = [(x - 5, x + 5, y - 5, y + 5) for x, y in places.values()]
    for point, (x, y) in sorted(places.items(), key=lambda item: -item[1][1]):
        rightward = x * unit < box.x0 + 0.55 * box.width
        width = 4.2 * len(point.label)
        begin = x + 7 if rightward else x - 7 - width
        spots = [(begin, begin + width, y + lift - 4, y + lift + 4) for lift in _LIFTS]
        spot = next((spot for spot in spots if not any(_overlap(spot, other) for other in taken)), spots[0])
        taken.append(spot)
        axes.annotate(
            point.label,
            (point.x, point.y),
            xytext=(7 if rightward else -7, (spot[2] + spot[3]) / 2 - y),
            textcoords="offset points",
            ha="left" if rightward else "right",
            va="center",
            fontsize=7.5,
        )


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[1] and other[0] < one[1] and one[2] < other[3] and other[2] < one[3]


def _plain_numbers(axes: Any, *, log_x: bool, log_y: bool) -> None:
    """Write 50 and 200 on a logarithmic axis, not powers of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    for axis, logarithmic in ((axes.xaxis, log_x), (axes.yaxis, log_y)):
        if logarithmic:
            axis.set_major_locator(LogLocator(base=10, subs=(1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)))
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.set_minor_formatter(NullFormatter())
