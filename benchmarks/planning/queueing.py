"""How many questions a second a machine may get while its answers stay in time.

The model is M/G/1: questions come at random moments (a Poisson process) at rate λ, wait in one line, and
each is served in a time S that is drawn from those that were measured. For the θ > 0 with
λ (E[e^{θS}] - 1) = θ, the time in line W obeys P(W > t) <= e^{-θt} (Kingman, "Inequalities in the theory of
queues", 1970). S is independent of W, so the response R = W + S obeys

    P(R > t) <= E[e^{θS}] e^{-θt}.

That is a bound: within the model the true share of late answers is smaller. Given the time T and the share p
that may be late, the largest rate that the bound allows follows from the smallest θ with
log E[e^{θS}] - θT <= log p, as λ = θ / (E[e^{θS}] - 1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fastspan.errors import InputError

__all__ = ["largest_rate"]

_STEPS = 200


def largest_rate(services: Sequence[float], limit: float, late: float = 0.01) -> float:
    """Return the largest rate of questions at which few answers are late, questions a second.

    Args:
        services: Measured times of one answer each, in seconds.
        limit: Seconds within which an answer is in time, waiting included.
        late: The share of answers that may be late: 0.01 for a 99th percentile.

    Raises:
        InputError: There are no times, or no rate keeps the limit.
    """
    times = np.asarray(services, dtype=np.float64)
    if times.size == 0 or not (times > 0).all():
        raise InputError("the service times must be positive numbers of seconds, at least one.")

    def log_moment(theta: float) -> float:
        """Return log E[e^{θS}]; e^{θS} itself may overflow."""
        top = float((theta * times).max())
        return top + float(np.log(np.exp(theta * times - top).mean()))

    def excess(theta: float) -> float:
        """By how much the bound on late answers exceeds the share that may be late, in logarithms."""
        return log_moment(theta) - theta * limit - math.log(late)

    # The excess is convex and begins at -log(late) > 0; below zero it may lie between two roots.
    step = 1e-3 / limit
    theta = step
    while excess(theta) > 0:
        if excess(theta * 1.01) >= excess(theta):
            raise InputError(
                f"no rate keeps {1 - late:.0%} of answers within {1000 * limit:g} ms: of the measured ones "
                f"the slowest alone takes {1000 * float(times.max()):.3g} ms. Allow more time, or take a "
                "faster machine or model."
            )
        theta *= 1.01
    low, high = theta / 1.01, theta
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return float(high / np.expm1(log_moment(high)))
