"""The study of the int8 kernels' rounding, but for the kernels themselves."""

from __future__ import annotations

import shutil

import pytest

from fastspan.benchmarks.paths import ROOT
from fastspan.benchmarks.studies.kernels import rounding
from fastspan.export.int8.kernel_layers import group_of
from support.models.tiny_checkpoint import save_tiny_checkpoint

LAYERS = {
    "layer.0.attention.projection": 384,
    "layer.0.attention_output": 384,
    "layer.0.intermediate": 384,
    "layer.0.output": 1536,
}


@pytest.mark.usefixtures("without_kernels")
def test_it_says_why_it_cannot_run(capsys, tmp_path):
    assert rounding.main(["--out", str(tmp_path)]) == 1
    assert "runs the int8 kernels, but the int8 kernels were not compiled" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_shipped_choice_is_among_them():
    assert [choice.groups for choice in rounding.CHOICES].count(group_of) == 1


@pytest.mark.parametrize(
    ("number", "groups"),
    [
        (1, [384, 384, 384, 1536]),
        (2, [384, 384, 384, 384]),
        (3, [384, 384, 384, 256]),
        (4, [192, 384, 192, 128]),
        (5, [64, 64, 64, 64]),
        (6, [128, 128, 128, 128]),
        (7, [64, 64, 64, 64]),
    ],
)
def test_choices_differ_in_their_groups(number, groups):
    choice = rounding.CHOICES[number]
    assert [choice.groups(name, size, 6) for name, size in LAYERS.items()] == groups


def test_the_first_half_is_the_first_half():
    groups = rounding.CHOICES[5].groups
    assert [groups(f"layer.{number}.output", 1536, 6) for number in range(6)] == [64] * 3 + [256] * 3
    assert groups("embeddings.projection", 384, 6) == 384


@pytest.mark.skipif(rounding.unavailable_reason() is not None, reason="the kernels do not run here")
def test_the_page_has_a_row_a_choice_and_both_thresholds(tmp_path, capsys):
    save_tiny_checkpoint(tmp_path / "tiny", hidden=64)
    shutil.copy(ROOT / "models" / "minilm-l6-squad2" / "calibration.json", tmp_path / "tiny")
    words = ["--checkpoint", str(tmp_path / "tiny"), "--limit", "2", "--out", str(tmp_path)]
    assert rounding.main(words) == 0
    text = (tmp_path / "rounding.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + 1 + len(rounding.CHOICES)
    assert "the plain int8 graph" in text
    assert "threshold 0.0 and -4.7" in text
    assert all(" / " in row for row in rows[2:])
