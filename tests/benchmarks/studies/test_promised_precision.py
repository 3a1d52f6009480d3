"""The study of promises: what is drawn, and when a promise counts as kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastspan.benchmarks.studies import promised_precision
from fastspan.benchmarks.studies.promised_precision import World, repeat
from fastspan.errors import DataError
from support.questions.learnable_sets import learnable_sets


def world(count: int = 600, per_passage: int = 6) -> World:
    """The surer, the likelier right: 1 - margin is the probability."""
    draw = np.random.default_rng(1)
    margins = draw.random(count)
    right = (draw.random(count) < 1 - margins).astype(float)
    passages = tuple(np.arange(count).reshape(-1, per_passage))
    return World(margins, right, right, right == 0, passages)


def test_a_threshold_is_judged_over_the_whole_world():
    everything = world()
    strict, loose = 0.1, 1.0
    answered = everything.margins <= strict
    assert everything.right[answered].mean() > 0.8 > everything.right.mean()
    drawn = everything.questions
    kept = repeat(everything, lambda first, second: strict, drawn, 0.8, 10)
    assert (kept.found, kept.kept) == (10, 10)
    assert kept.coverage == pytest.approx(answered.mean())
    missed = repeat(everything, lambda first, second: loose, drawn, 0.8, 10)
    assert (missed.found, missed.kept, missed.coverage) == (10, 0, 1.0)


def test_where_nothing_can_be_promised_nothing_is_found():
    def none(first, second):
        raise DataError("too few")

    found = repeat(world(), none, world().questions, 0.8, 4)
    assert (found.draws, found.found, found.kept) == (4, 0, 0)


def test_passages_are_drawn_whole():
    everything = world()
    drawn = everything.whole_passages(np.random.default_rng(0), 100)
    assert 100 <= drawn.size < 106
    assert all(len(set(group // 6)) == 1 for group in drawn.reshape(-1, 6))


def test_a_promise_is_kept_more_often_than_a_half_reaches():
    everything = world()
    promised = promised_precision._promised(everything, 0.7, 0.9)
    reached = promised_precision._reached(everything, 0.7)
    sure, bold = (repeat(everything, find, everything.questions, 0.7, 100) for find in (promised, reached))
    assert sure.kept / sure.found >= 0.9
    assert bold.kept / bold.found < 0.9
    assert sure.coverage < bold.coverage


def test_the_page_has_both_ways(tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = learnable_sets(tiny_bundle, tmp_path)
    command = ["--bundle", str(tiny_bundle), "--data", str(path), "--out", str(tmp_path / "out")]
    assert promised_precision.main([*command, "--precisions", "0.1", "--draws", "5"]) == 0
    page = Path(capsys.readouterr().out.strip()).read_text(encoding="utf-8")
    for way in ("promised with 0.9", "reached on one half"):
        for kind in ("questions", "passages"):
            assert f"| 0.1 | {way} | {kind} |" in page
