"""The README's tables are what the committed reports say."""

from __future__ import annotations

import pytest

from fastspan.benchmarks.readme_tables import fill, headline, parity_summary, speed_tables
from fastspan.errors import DataError
from support.paths import ROOT

RESULTS = ROOT / "benchmarks" / "results"


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("parity", lambda: parity_summary(RESULTS / "parity-minilm-l6-squad2-fastspan-eval.json")),
        ("speed", lambda: speed_tables(RESULTS)),
        ("headline", lambda: headline(RESULTS)),
    ],
    ids=["parity", "speed", "headline"],
)
def test_the_readme_holds_the_reports_figures(name, table):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert fill(readme, name, table()) == readme, "run `make figures`"


def test_a_text_without_a_place_for_the_table_is_refused():
    assert fill("a\n<!-- x -->\nold\n<!-- /x -->\nb", "x", "new\n") == "a\n<!-- x -->\nnew\n<!-- /x -->\nb"
    with pytest.raises(DataError, match="<!-- x -->"):
        fill("<!-- /x -->", "x", "new")


def test_what_is_no_report_is_refused(tmp_path):
    (tmp_path / "report.json").write_text('{"exact": 1}')
    with pytest.raises(DataError, match="make parity"):
        parity_summary(tmp_path / "report.json")
