"""docs/quickstart.ipynb runs, and gives the outputs that are stored in it.

``jupyter execute --inplace docs/quickstart.ipynb`` in this environment stores new ones.
"""

from __future__ import annotations

import pytest

from support.paths import ROOT

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
# Of Jupyter's own making.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning")

PAGE = ROOT / "docs" / "quickstart.ipynb"
BUNDLE = "../models/exported/minilm-l6-squad2"


def shown(notebook):
    """What each cell of code shows: printed text, or the HTML of its last line."""
    return [
        ["".join(out.get("text") or out["data"].get("text/html", "")) for out in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def test_it_runs_and_shows_what_is_stored(bundled_bundle, tmp_path):
    stored = nbformat.read(PAGE, as_version=4)
    text = PAGE.read_text(encoding="utf-8")
    assert BUNDLE in text
    run = nbformat.reads(text.replace(BUNDLE, bundled_bundle.as_posix()), as_version=4)
    client = nbclient.NotebookClient(
        run, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    assert shown(run) == shown(stored)
    assert any("<mark>" in out for cell in shown(run) for out in cell)


def test_it_is_small_and_holds_no_machines_traces():
    text = PAGE.read_text(encoding="utf-8")
    assert len(text.encode()) < 30_000
    assert str(ROOT) not in text
    nbformat.validate(nbformat.reads(text, as_version=4))
