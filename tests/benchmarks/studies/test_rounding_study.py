"""The study of the int8 kernels' rounding, but for the kernels themselves."""

from __future__ import annotations

import pytest

from fastspan.benchmarks.studies import rounding
from fastspan.export.int8.kernel_layers import group_of

LAYERS = {
    "layer.0.attention.projection": 384,
    "layer.0.attention_output": 384,
    "layer.0.intermediate": 384,
    "layer.0.output": 1536,
}


def test_it_says_why_it_cannot_run(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(rounding, "unavailable_reason", lambda: "they are not there")
    assert rounding.main(["--out", str(tmp_path)]) == 1
    assert "runs the int8 kernels, but they are not there." in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_shipped_choice_is_among_them():
    assert [choice.groups for choice in rounding.CHOICES].count(group_of) == 1


@pytest.mark.parametrize(
    ("number", "groups"),
    [
        (1, [384, 384, 384, 1536]),
        (2, [384, 384, 384, 256]),
        (3, [192, 384, 192, 128]),
        (4, [128, 128, 128, 128]),
        (5, [64, 64, 64, 64]),
    ],
)
def test_choices_differ_in_their_groups(number, groups):
    choice = rounding.CHOICES[number]
    assert [choice.groups(name, size, 6) for name, size in LAYERS.items()] == groups
