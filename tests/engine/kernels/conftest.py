"""Tests of the kernels run where they are to be had, and take down that they asked for this CPU."""

from __future__ import annotations

import pytest

from fastspan.machine.cpu import cpu_features


@pytest.fixture(autouse=True)
def asks_for_the_cpu() -> None:
    """What runs here depends on the CPU's instructions: see ``support.forced_cpu``."""
    cpu_features()
