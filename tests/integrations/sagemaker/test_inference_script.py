"""SageMaker's inference toolkit finds the four functions of the written script and calls them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from fastspan.hosting.package import package

transformer = pytest.importorskip("sagemaker_inference.transformer")
handlers = pytest.importorskip("sagemaker_inference.default_inference_handler")

QUESTION = {"question": "who built the tower", "context": "the norse leader built the stone tower"}


class Context:
    """What the model server tells of a request, and is told of the response."""

    def __init__(self, model_dir: Path, **headers: str) -> None:
        self.system_properties = {"model_dir": str(model_dir)}
        self.request_processor = [self]
        self.status, self.content_type = 200, ""
        self._headers = headers

    def get_request_properties(self) -> dict[str, str]:
        return self._headers

    def set_response_content_type(self, _: int, kind: str) -> None:
        self.content_type = kind

    def set_response_status(self, code: int, phrase: str) -> None:
        self.status = code


@pytest.fixture
def call(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    out = package(tiny_bundle, tmp_path / "out", "sagemaker").folder
    monkeypatch.syspath_prepend(out / "code")
    monkeypatch.setenv("SAGEMAKER_PROGRAM", "inference.py")
    monkeypatch.delitem(sys.modules, "inference", raising=False)
    toolkit = transformer.Transformer(handlers.DefaultInferenceHandler())

    def invoke(body: bytes, content_type: str, accept: str) -> tuple[Context, str]:
        context = Context(out, **{"Content-Type": content_type, "Accept": accept})
        (found,) = toolkit.transform([{"body": body}], context)
        return context, found

    return invoke


def test_json(call: Any) -> None:
    context, found = call(json.dumps({"inputs": QUESTION}).encode(), "application/json", "application/json")
    assert (context.status, context.content_type) == (200, "application/json")
    assert set(json.loads(found)) == {"score", "start", "end", "answer"}


def test_csv(call: Any) -> None:
    context, found = call(b"question,context\nwho?,the norse\n", "text/csv", "text/csv")
    assert (context.status, context.content_type) == (200, "text/csv")
    assert found.startswith("answer,score,start,end\n")


def test_an_unusable_request_gets_400(call: Any) -> None:
    context, found = call(b"{}", "application/json", "application/json")
    assert context.status == 400
    assert found.startswith("the body lacks inputs.")
