"""How every plot of a report looks, and how it is written: SVG, for screen and print.

The same data gives the same bytes under the same version of matplotlib, so a plot changes in version control
only when its data does. matplotlib is imported when a plot is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

from fastspan.errors import MissingDependency

__all__ = ["COLOURS", "FAINT", "INK", "Write", "make_figure", "plot_style", "write_figure"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's palette, told apart with any colour vision; the first two also in grey."""

INK, FAINT = "#333333", "#9A9A9A"
"""Of text and axes, and of what stays in the background."""

Write = Callable[[Any, Path], None]
"""Writes a matplotlib figure to an SVG file, as ``write_figure`` does."""

_STYLE = {
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "svg.fonttype": "path",
    "svg.hashsalt": "fastspan",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def plot_style() -> AbstractContextManager[Any]:
    """Return a context in which matplotlib draws in this style; its settings are as before afterwards.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise MissingDependency('Plots need matplotlib: pip install "fastspan[bench]".') from error
    context: AbstractContextManager[Any] = matplotlib.rc_context(_STYLE)
    return context


def make_figure(width: float, height: float, layout: Literal["constrained"] | None = "constrained") -> Any:
    """Return an empty matplotlib figure.

    Args:
        width: In inches.
        height: In inches.
        layout: How its parts are placed; None: by hand.
    """
    # Not through pyplot, which would keep every figure alive and choose a window system.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout=layout, facecolor="white")


def write_figure(figure: Any, path: str | Path) -> None:
    """Write a figure as an SVG file that names neither the time nor its maker."""
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
