"""The table of BERT's kin."""

from __future__ import annotations

import pytest

from fastspan.benchmarks.reporting.document import markdown
from fastspan.benchmarks.studies.kin.__main__ import main
from fastspan.benchmarks.studies.kin.families import KIN
from fastspan.benchmarks.studies.kin.measuring import Measured, random_model
from fastspan.benchmarks.studies.kin.page import table


def test_a_family_that_does_not_export_says_why_in_its_row():
    found = [
        Measured(
            name=KIN[0].name,
            layers=24,
            parameters=24_600_000,
            differences={"fp32": 1.5e-6, "int8": 0.02},
            seconds={"PyTorch fp32": 0.05, "fp32": 0.02, "int8": 0.01},
        ),
        Measured(name=KIN[1].name, fault="it cannot be traced"),
    ]
    page = markdown([table(found)])
    assert "25 M, 24 layers" in page
    assert "| 1.5e-06 | 2.0e-02 | 50.0 ms | 20.0 ms | 10.0 ms |" in page
    assert KIN[0].lacks in page
    assert "it cannot be traced" in page


def test_a_family_that_there_is_not_is_wrong_usage():
    with pytest.raises(SystemExit) as ended:
        main(["--families", "gpt2"])
    assert ended.value.code == 2


# transformers makes DeBERTa's functions with it.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
@pytest.mark.reference
@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("mobilebert-uncased", 25),
        ("albert-base-v2", 11),
        ("deberta-v3-base", 184),
        ("mpnet-base", 109),
        ("bert-large-uncased", 334),
    ],
)
def test_a_family_has_as_many_weights_as_the_published_model(name, millions):
    torch = pytest.importorskip("torch")
    with torch.device("meta"):
        model = random_model(next(family for family in KIN if family.name == name), None)
    assert round(sum(weight.numel() for weight in model.parameters()) / 1e6) == millions


@pytest.mark.reference
def test_a_family_is_made_exported_and_timed(tmp_path):
    pytest.importorskip("optimum")
    assert (
        main(
            [
                *("--families", "albert-base-v2", "--layers", "1", "--length", "16"),
                *("--seconds", "0", "--threads", "1", "--out", str(tmp_path)),
            ]
        )
        == 0
    )
    assert "albert-base-v2 | 11 M, 1 layers" in (tmp_path / "kin.md").read_text(encoding="utf-8")
