"""The Open Inference Protocol's own client against the service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastspan import QuestionAnswerer
from support.serving.http_service import CONTEXT, QUESTION, serving

triton = pytest.importorskip("tritonclient.http")
pytest.importorskip("uvicorn")

from fastspan.serving import Service  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # gevent's own


@pytest.fixture(scope="module")
def qa(tiny_bundle: Path) -> Iterator[QuestionAnswerer]:
    with QuestionAnswerer.load(tiny_bundle, variant="fp32", provider="cpu", threads=1) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def client(qa: QuestionAnswerer) -> Iterator[Any]:
    with serving(Service(qa)) as port, triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
        yield client


def test_the_client_finds_server_and_model(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny-qa")
    assert client.get_server_metadata()["name"] == "fastspan"
    assert client.get_model_metadata("tiny-qa")["platform"] == "fastspan"


@pytest.mark.parametrize("binary_input", [True, False])
@pytest.mark.parametrize("binary_output", [True, False, None])
def test_the_client_gets_the_pipelines_answers(
    client: Any, qa: QuestionAnswerer, binary_input: bool, binary_output: bool | None
) -> None:
    pairs = [(QUESTION, CONTEXT), ("what was blue?", "the river was blue.")]
    inputs = []
    for side, name in enumerate(("question", "context")):
        tensor = triton.InferInput(name, [2], "BYTES")
        values = np.array([pair[side].encode() for pair in pairs], dtype=np.object_)
        tensor.set_data_from_numpy(values, binary_data=binary_input)
        inputs.append(tensor)
    outputs = None
    if binary_output is not None:
        outputs = [triton.InferRequestedOutput("output", binary_data=binary_output)]
    found = client.infer("tiny-qa", inputs, outputs=outputs, request_id="7").as_numpy("output")
    assert found.shape == (2, 1)
    for (element,), pair in zip(found, pairs, strict=True):
        (best,) = qa.answer(*pair, decoding="pipeline").answers
        answer = json.loads(element)
        assert (answer["answer"], answer["start"], answer["end"]) == (best.text, best.start, best.end)
        assert answer["score"] == pytest.approx(best.score, abs=1e-6)


def test_the_client_reads_our_errors(client: Any) -> None:
    tensor = triton.InferInput("question", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([b"who?"], dtype=np.object_))
    with pytest.raises(triton.InferenceServerException, match="inputs lacks context"):
        client.infer("tiny-qa", [tensor])
