"""``POST /read``: one question over many passages, as ``QuestionAnswerer.read`` reads them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastspan import QuestionAnswerer
from support.serving.http_service import CONTEXT, LONG_CONTEXT, QUESTION, ask, refused, serving

pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from fastspan.serving import Limits, Service

PASSAGES = ["the river was blue.", CONTEXT, LONG_CONTEXT, ""]


@pytest.fixture(scope="module")
def qa(tiny_bundle: Path) -> Iterator[QuestionAnswerer]:
    with QuestionAnswerer.load(
        tiny_bundle, variant="fp32", provider="cpu", threads=2, optimize_for="throughput"
    ) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def port(qa: QuestionAnswerer) -> Iterator[int]:
    with serving(Service(qa, Limits(windows=40))) as port:
        yield port


def nearly(value: Any) -> Any:
    """A reading whose numbers may differ in their last digits: windows share runs with others."""
    if isinstance(value, dict):
        return {name: nearly(each) for name, each in value.items()}
    if isinstance(value, list):
        return [nearly(each) for each in value]
    return pytest.approx(value, abs=1e-4) if isinstance(value, float) else value


@pytest.mark.parametrize("options", [{}, {"top_k": 2, "max_answer_length": 5}])
def test_a_reading_is_the_engines(port: int, qa: QuestionAnswerer, options: dict[str, Any]) -> None:
    given = [(f"p{number}", text) for number, text in enumerate(PASSAGES)]
    expected = json.loads(json.dumps(qa.read(QUESTION, given, **options).to_dict()))
    passages = [{"id": name, "text": text} for name, text in given]
    status, found = ask(port, "POST", "/read", {"question": QUESTION, "passages": passages, **options})
    assert status == 200
    assert found == nearly(expected)
    assert found["answers"]
    status, found = ask(port, "POST", "/bundles/tiny-qa/read", {"question": QUESTION, "passages": PASSAGES})
    assert [one["id"] for one in found["answers"]] == [None] * len(found["answers"])


def test_of_no_passages_there_is_no_answer(port: int) -> None:
    status, found = ask(port, "POST", "/read", {"question": QUESTION, "passages": []})
    assert (status, found["answer"], found["answers"], found["passages"]) == (200, None, [], 0)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"passages": "text"}, "passages must be an array"),
        ({"passages": [{"id": 1}]}, "passages[0] lacks text"),
        ({"passages": [5]}, "passages[0]"),
        ({"passages": ["a"], "retriever_scores": [1, 2]}, "retriever_scores"),
        ({"passages": ["a"], "decoding": "pipeline"}, "may not hold 'decoding'"),
        ({"question": " "}, "question is blank"),
    ],
)
def test_what_is_malformed_is_named(port: int, changes: dict[str, Any], says: str) -> None:
    body = {"question": QUESTION, "passages": PASSAGES, **changes}
    assert says in refused(port, "/read", body, 422, "invalid")


def test_the_windows_of_a_set_are_counted_together(port: int) -> None:
    body = {"question": QUESTION, "passages": [CONTEXT] * 41}
    refused(port, "/read", body, 413, "too_many_windows")
    body = {"question": QUESTION, "passages": [CONTEXT] * 3, "max_windows": 2}
    refused(port, "/read", body, 413, "too_many_windows")
    body["max_windows"] = 3
    assert ask(port, "POST", "/read", body)[0] == 200
