"""docs/recipes/llamaindex.md: the query engine prints what the page says."""

from __future__ import annotations

import pytest

from support.recipes import Recipe

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of its own dependencies


def test_it_prints_what_stands_on_the_page(tmp_path, bundled_bundle, monkeypatch, capsys):
    pytest.importorskip("llama_index.core")
    recipe = Recipe("llamaindex", tmp_path, bundled_bundle, monkeypatch)
    recipe.run()
    assert capsys.readouterr().out == recipe.shown
