"""The rate of a bulk run is that of its middle."""

from __future__ import annotations

import pytest

from fastspan.benchmarks.studies import bulk_workers
from fastspan.benchmarks.studies.bulk_workers import RateAfterStart
from fastspan.bulk.chunks import Place
from fastspan.errors import InputError


def test_neither_the_start_nor_the_end_counts(monkeypatch):
    now = iter([10.0, 20.0, 30.0, 99.0])
    monkeypatch.setattr(bulk_workers.time, "perf_counter", lambda: next(now))
    watcher = RateAfterStart(100, 400)
    for rows in (50, 150, 350, 450):
        watcher.at(Place(rows), 0)
    assert watcher.rate == pytest.approx((350 - 150) / (30 - 20))


def test_too_few_rows_are_told():
    watcher = RateAfterStart(100, 400)
    watcher.at(Place(150), 0)
    with pytest.raises(InputError, match="too few rows"):
        _ = watcher.rate
