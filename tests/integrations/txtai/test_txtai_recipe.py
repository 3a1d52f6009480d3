"""docs/recipes/txtai.md: the extractor prints what the page says."""

from __future__ import annotations

import pytest

from fastspan import QuestionAnswerer
from support.recipes import Recipe

# Of txtai's dependencies.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture
def recipe(tmp_path, bundled_bundle, monkeypatch):
    pytest.importorskip("txtai")
    return Recipe("txtai", tmp_path, bundled_bundle, monkeypatch)


def test_it_prints_what_stands_on_the_page(recipe, capsys):
    recipe.run()
    assert capsys.readouterr().out == recipe.shown


def test_what_is_empty_has_no_answer_and_keeps_its_place(recipe, bundled_bundle):
    from reading import FastSpanQuestions

    with QuestionAnswerer.load(bundled_bundle) as qa:
        questions = FastSpanQuestions(qa)
        passage = "The Normans, under their leader Rollo, swore fealty to King Charles III."
        found = questions(["Who led the Normans?", "", "Who led the Normans?"], [passage, passage, ""])
        assert found == ["Rollo", None, None]
