"""docs/recipes/langchain.md: the chain prints what the page says."""

from __future__ import annotations

import asyncio

import pytest

from fastspan import QuestionAnswerer
from support.recipes import Recipe

pytest.importorskip("langchain_core")


@pytest.fixture
def recipe(tmp_path, bundled_bundle, monkeypatch):
    return Recipe("langchain", tmp_path, bundled_bundle, monkeypatch)


def test_it_prints_what_stands_on_the_page(recipe, capsys):
    recipe.run()
    assert capsys.readouterr().out == recipe.shown


def test_it_runs_beside_an_event_loop_and_in_batches(recipe, bundled_bundle):
    from langchain_core.documents import Document
    from langchain_core.runnables import RunnableLambda
    from reading import reader

    text = "Bread is baked. The Normans, under their leader Rollo, swore fealty to King Charles III."
    retriever = RunnableLambda(lambda _: [Document(text)])
    with QuestionAnswerer.load(bundled_bundle) as qa:
        chain = reader(qa, retriever)
        found = asyncio.run(chain.ainvoke("Who led the Normans?"))
        both = chain.batch(["Who led the Normans?", "Who was king?"])
    assert text[found["offset"] :].startswith(found["answer"])
    assert found["sentence"] == text.removeprefix("Bread is baked. ")
    assert [one["answer"] for one in both] == ["Rollo", "Charles III"]
