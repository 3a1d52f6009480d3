"""The batch size that suits a peer best, by trial: what its user would be advised to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

__all__ = ["fastest_batch"]


def fastest_batch(
    sizes: Sequence[int], run: Callable[[int], object], *, clock: Callable[[], float] = time.perf_counter
) -> int:
    """Return the size that a run takes the least time with.

    Each is tried once without a clock, because the first run of a size allocates and, where the model is
    compiled, compiles; then twice with one, forth and back, and its better time counts: what a machine does
    besides only ever adds to a time.

    Args:
        sizes: The sizes to choose from, at least one.
        run: Runs with a size.
        clock: Tells the time, in seconds.
    """
    if len(sizes) == 1:
        return sizes[0]
    for size in sizes:
        run(size)
    best = dict.fromkeys(sizes, float("inf"))
    for size in (*sizes, *reversed(sizes)):
        began = clock()
        run(size)
        best[size] = min(best[size], clock() - began)
    return min(sizes, key=lambda size: best[size])
