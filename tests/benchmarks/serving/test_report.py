"""Records of services under load, and the report on them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("markdown_it")

from fastspan.benchmarks.serving.load import Outcome
from fastspan.benchmarks.serving.record import Beside, LoadPoint, ServingRecord, Target, point_of
from fastspan.benchmarks.serving.report import write_serving_report
from fastspan.errors import DataError


def point(offered: float, p99_ms: float | None, within: int, books: str = "") -> LoadPoint:
    return LoadPoint(
        offered=offered,
        seconds=2.0,
        sent=100,
        ok=90,
        rejected=7,
        expired=2,
        failed=1,
        within=within,
        p50_ms=12.25,
        p99_ms=p99_ms,
        rejected_p50_ms=None,
        rejected_p99_ms=None,
        late_p99_ms=0.25,
        books=books,
        metrics=True,
    )


@pytest.fixture
def record() -> ServingRecord:
    ours = Target(
        name="FastSpan", capacity=50.0, points=(point(25, 40, 80), point(50, 90, 88), point(100, 300, 89))
    )
    plain = Target(
        name="Plain",
        capacity=40.0,
        points=tuple(replace(one, metrics=False, p99_ms=900.0) for one in ours.points),
    )
    beside = Beside(
        engine_p50_ms=5.0,
        service_p50_ms=6.25,
        engine_per_second=80.0,
        service_per_second=72.0,
        share=0.91,
        clients=16,
        clients_took=0.05,
    )
    return ServingRecord(
        machine={"CPU": "a CPU"}, limit_ms=100.0, questions=7, targets=(ours, plain), beside=beside
    )


def test_outcomes_are_summed_up() -> None:
    outcomes = [Outcome("ok", 200, seconds / 100, late=0.003) for seconds in range(1, 101)]
    outcomes += [Outcome("rejected", 429, 0.002), Outcome("expired", 504, 9.0), Outcome("failed", 500, 0.1)]
    found = point_of(outcomes, offered=10, seconds=2, limit_ms=500, books="", metrics=True)
    assert found.sent == found.ok + found.rejected + found.expired + found.failed == 103
    assert (found.ok, found.rejected, found.expired, found.failed) == (100, 1, 1, 1)
    # One of the 101 that were accepted expired: no more than one in a hundred was later than that.
    assert (found.p50_ms, found.p99_ms) == (pytest.approx(500), pytest.approx(1000))
    assert found.missed == pytest.approx(1 / 101)
    assert found.rejected_p50_ms == found.rejected_p99_ms == pytest.approx(2)
    assert found.late_p99_ms == pytest.approx(3)
    assert found.goodput == 25
    nothing = point_of([], offered=1, seconds=1, limit_ms=1, books="", metrics=False)
    assert nothing.p50_ms is nothing.p99_ms is None


def test_the_figure_is_the_best_goodput_within_the_limit(record: ServingRecord) -> None:
    ours, plain = record.targets
    assert ours.best(100.0) is ours.points[1]
    assert ours.best(1000.0) is ours.points[2]
    assert plain.best(100.0) is None


def test_a_record_is_read_as_it_was_written(record: ServingRecord, tmp_path: Path) -> None:
    path = record.write(tmp_path)
    assert ServingRecord.read(tmp_path) == record
    without = replace(record, beside=None)
    without.write(tmp_path)
    assert ServingRecord.read(tmp_path) == without
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match="no record of a service"):
        ServingRecord.read(tmp_path)


def test_the_report_holds_every_load_and_the_books(record: ServingRecord, tmp_path: Path) -> None:
    record.write(tmp_path)
    markdown, page = write_serving_report(tmp_path)
    text = markdown.read_text(encoding="utf-8")
    summary = next(line for line in text.splitlines() if line.startswith("| FastSpan "))
    assert [cell.strip() for cell in summary.split("|")[1:-1]] == ["FastSpan", "50.0", "44.0", "50.0", "44.5"]
    assert text.count("| 100.0 |") == 2
    assert "Without metrics: Plain." in text
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert ["one at a time, p50, ms", "5.00", "6.25", "+1.25 ms"] in lines
    assert ["at saturation, answers/s", "80.0", "72.0", "91 %"] in lines
    words = " ".join(text.split())
    assert "took 5.0 % of the cores' time; with what they left, the service gave 96 % of what" in words
    assert "Every request is counted once" in text
    assert "<svg" in page.read_text(encoding="utf-8")


def test_clients_on_cores_of_their_own_take_nothing(record: ServingRecord, tmp_path: Path) -> None:
    assert record.beside is not None
    replace(record, beside=replace(record.beside, clients_took=None)).write(tmp_path)
    markdown, _ = write_serving_report(tmp_path)
    assert "with what they left" not in " ".join(markdown.read_text(encoding="utf-8").split())


def test_books_that_differ_are_in_the_report(record: ServingRecord, tmp_path: Path) -> None:
    wrong = replace(
        record.targets[0], points=(point(25, 40, 80, books="3 of status 200 here, 4 in its metrics"),)
    )
    replace(record, targets=(wrong,)).write(tmp_path)
    text = write_serving_report(tmp_path)[0].read_text(encoding="utf-8")
    assert "The metrics differ" in text
    assert "3 of status 200 here, 4 in its metrics" in " ".join(text.split())
    assert "Every request is counted once" not in text
