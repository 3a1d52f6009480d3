"""Every protocol gives the same answers, takes the same limits, and refuses what is malformed."""

from __future__ import annotations

import csv
import io
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastspan import QuestionAnswerer
from support.serving.http_service import CONTEXT, LONG_CONTEXT, QUESTION, ask, raw, refused, serving

pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from fastspan.serving import Limits, Service, Settings
from fastspan.serving.scheduling.answering import PROTOCOLS

PAIRS = [(QUESTION, CONTEXT), ("when was it?", LONG_CONTEXT), ("what was blue?", "the river was blue.")]
NAME = "tiny-qa"


@pytest.fixture(scope="module")
def qa(tiny_bundle: Path) -> Iterator[QuestionAnswerer]:
    with QuestionAnswerer.load(
        tiny_bundle, variant="fp32", provider="cpu", threads=2, optimize_for="throughput"
    ) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def port(qa: QuestionAnswerer) -> Iterator[int]:
    settings = Settings(predict_route="/vertex/predict", health_route="/vertex/health")
    with serving(Service(qa, Limits(pairs=5), settings)) as port:
        yield port


def objects() -> list[dict[str, str]]:
    return [{"question": question, "context": context} for question, context in PAIRS]


def texts(side: int) -> list[str]:
    return [pair[side] for pair in PAIRS]


def native(port: int) -> list[Any]:
    body = {"question": texts(0), "context": texts(1), "decoding": "pipeline"}
    found = ask(port, "POST", "/answer", body)[1]["predictions"]
    return [
        {"score": best["score"], "start": best["start"], "end": best["end"], "answer": best["text"]}
        for best in (prediction["answers"][0] for prediction in found)
    ]


def hugging_face(port: int) -> list[Any]:
    return ask(port, "POST", "/", {"inputs": objects()})[1]


def open_inference(port: int) -> list[Any]:
    inputs = [
        {"name": name, "shape": [3, 1], "datatype": "BYTES", "data": [[text] for text in texts(side)]}
        for side, name in enumerate(("question", "context"))
    ]
    status, found = ask(port, "POST", f"/v2/models/{NAME}/infer", {"id": "7", "inputs": inputs})
    assert (status, found["id"], found["model_name"]) == (200, "7", NAME)
    (output,) = found["outputs"]
    assert output["name"] == "output"
    assert output["shape"] == [3, 1]
    assert output["parameters"] == {"content_type": "hg_jsonlist"}
    return [json.loads(element) for element in output["data"]]


def open_inference_binary(port: int) -> list[Any]:
    packed = [
        b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in texts(side))
        for side in (0, 1)
    ]
    inputs = [
        {
            "name": name,
            "shape": [3],
            "datatype": "BYTES",
            "parameters": {"binary_data_size": len(packed[side])},
        }
        for side, name in enumerate(("question", "context"))
    ]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    status, headers, content = raw(
        port,
        "POST",
        f"/v2/models/{NAME}/versions/1/infer",
        head + packed[0] + packed[1],
        Inference_Header_Content_Length=str(len(head)),
    )
    assert status == 200, content
    length = int(headers["inference-header-content-length"])
    (output,) = json.loads(content[:length])["outputs"]
    behind = content[length:]
    assert output["parameters"]["binary_data_size"] == len(behind)
    found = []
    while behind:
        (size,) = struct.unpack_from("<I", behind)
        found.append(json.loads(behind[4 : 4 + size]))
        behind = behind[4 + size :]
    return found


def sagemaker(port: int) -> list[Any]:
    return ask(port, "POST", "/invocations", {"inputs": objects()})[1]


def sagemaker_csv(port: int) -> list[Any]:
    sent = io.StringIO()
    csv.writer(sent).writerows(PAIRS)
    status, headers, content = raw(
        port, "POST", "/invocations", sent.getvalue().encode(), Content_Type="text/csv"
    )
    assert status == 200
    assert headers["content-type"].startswith("text/csv")
    return [
        {"score": float(score), "start": int(start), "end": int(end), "answer": answer}
        for answer, score, start, end in csv.reader(io.StringIO(content.decode()))
    ]


def vertex(port: int) -> list[Any]:
    return ask(port, "POST", "/vertex/predict", {"instances": objects()})[1]["predictions"]


ALL = [native, hugging_face, open_inference, open_inference_binary, sagemaker, sagemaker_csv, vertex]


@pytest.mark.parametrize("protocol", ALL)
def test_every_protocol_gives_the_answers_of_the_pipeline(
    port: int, qa: QuestionAnswerer, protocol: Any
) -> None:
    expected = []
    for pair in PAIRS:
        (best,) = qa.answer(*pair, decoding="pipeline", overlap=128).answers
        expected.append(
            {
                "score": pytest.approx(best.score, abs=1e-5),
                "start": best.start,
                "end": best.end,
                "answer": best.text,
            }
        )
    assert protocol(port) == expected


def test_txtai_reads_all_texts(port: int, qa: QuestionAnswerer) -> None:
    passages = ["the river was blue.", CONTEXT]
    queue = [
        {"name": "who", "query": "bridge", "question": QUESTION, "snippet": False},
        {"name": "where", "query": "bridge", "question": QUESTION, "snippet": True},
    ]
    status, found = ask(port, "POST", "/extract", {"queue": queue, "texts": passages})
    (best,) = qa.answer(QUESTION, "\n".join(passages), decoding="pipeline").answers
    assert status == 200
    assert found[0] == {"name": "who", "answer": best.text}
    assert found[1]["answer"] == passages[best.start > len(passages[0])]
    assert "no index" in refused(port, "/extract", {"queue": queue}, 422, "invalid")
    assert ask(port, "POST", "/extract", {"queue": queue, "texts": [""]})[1][0]["answer"] is None


def test_every_protocol_is_counted_apart(port: int) -> None:
    for protocol in ALL:
        protocol(port)
    ask(port, "POST", "/extract", {"queue": [{"question": "who?"}], "texts": [CONTEXT]})
    ask(port, "POST", "/read", {"question": QUESTION, "passages": [CONTEXT]})
    text = raw(port, "GET", "/metrics")[2].decode()
    for name in PROTOCOLS:
        assert f'fastspan_run_seconds_count{{bundle="{NAME}",protocol="{name}"}}' in text


def test_parameters_reach_every_protocol_that_has_them(port: int) -> None:
    pair = objects()[0]
    expected = ask(port, "POST", "/", {"inputs": pair, "parameters": {"top_k": 2}})[1]
    assert len(expected) == 2
    assert ask(port, "POST", "/?top_k=2", {"inputs": pair})[1] == expected
    assert ask(port, "POST", "/invocations?top_k=2", {"inputs": pair})[1] == expected
    body: dict[str, Any] = {"instances": [pair], "parameters": {"top_k": 2}}
    assert ask(port, "POST", "/predict", body)[1] == {"predictions": [expected]}
    body = {
        "inputs": [{"name": name, "shape": [1], "datatype": "BYTES", "data": [pair[name]]} for name in pair],
        "parameters": {"top_k": 2},
    }
    (output,) = ask(port, "POST", f"/v2/models/{NAME}/infer", body)[1]["outputs"]
    assert json.loads(output["data"][0]) == expected


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/", {"inputs": objects()[0], "parameters": []}, "parameters must be a JSON object"),
        ("/?top_k=2", {"inputs": objects()[0], "parameters": {"top_k": 3}}, "stands both"),
        ("/?top_k=2&top_k=3", {"inputs": objects()[0]}, "stands twice"),
        ("/?top_k=many", {"inputs": objects()[0]}, "top_k must be a whole number"),
        ("/?max_windows=2", {"inputs": objects()[0]}, "may not hold 'max_windows'"),
        ("/", {"inputs": []}, "may not be an empty array"),
        ("/", {"inputs": [objects()[0], {"question": "who?"}]}, "inputs[1] lacks context"),
        ("/invocations", {"instances": []}, "lacks inputs"),
        ("/predict", {"instances": {}}, "instances must be an array"),
        ("/predict", {"instances": [{"question": "q"}]}, "instances[0] lacks context"),
        ("/predict", {"instances": objects(), "parameters": []}, "must be a JSON object"),
        ("/extract", {"queue": [], "texts": [CONTEXT]}, "at least one question"),
        ("/extract", {"queue": [{"name": "x"}], "texts": [CONTEXT]}, "queue[0] lacks question"),
        ("/answer", {"question": QUESTION, "context": CONTEXT, "timings": 1}, "timings must be"),
        # What cannot be looked up by its hash, as a text can.
        *(
            (path, body, "must be a string, not")
            for wrong in ([None], {"a": 1})
            for path, body in (
                ("/answer", {"question": QUESTION, "context": wrong}),
                ("/", {"inputs": {"question": QUESTION, "context": wrong}}),
                ("/invocations", {"inputs": {"question": QUESTION, "context": wrong}}),
                ("/predict", {"instances": [{"question": QUESTION, "context": wrong}]}),
            )
        ),
    ],
)
def test_what_is_malformed_is_named(port: int, path: str, body: Any, says: str) -> None:
    assert says in refused(port, path, body, 422, "invalid")


def tensor(name: str, **changes: Any) -> dict[str, Any]:
    return {"name": name, "shape": [1], "datatype": "BYTES", "data": ["who?"], **changes}


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ([tensor("question")], "inputs lacks context"),
        ([tensor("question"), tensor("question")], "each once"),
        ([tensor("question"), tensor("passage")], "not 'passage'"),
        ([tensor("question", datatype="FP32"), tensor("context")], "datatype BYTES"),
        ([tensor("question", shape=[2]), tensor("context")], "shape [n] or [n, 1]"),
        ([tensor("question", shape=[True]), tensor("context")], "shape [n] or [n, 1]"),
        ([tensor("question", data=[5]), tensor("context")], "must be strings"),
        ([tensor("question", data=["a", "b"], shape=[2]), tensor("context")], "send as many"),
        ([tensor("question", parameters={"binary_data_size": 4}), tensor("context")], "leave one out"),
        ({}, "inputs must be an array"),
    ],
)
def test_tensors_that_do_not_fit_are_named(port: int, inputs: Any, says: str) -> None:
    assert says in refused(port, f"/v2/models/{NAME}/infer", {"inputs": inputs}, 422, "invalid")


@pytest.mark.parametrize("behind", [b"\x05\0\0\0who", b"\x05\0", b"\x01\0\0\0\xff"])
def test_bytes_behind_the_json_that_do_not_fit_are_refused(port: int, behind: bytes) -> None:
    binary = {"name": "question", "shape": [1], "datatype": "BYTES"}
    binary["parameters"] = {"binary_data_size": len(behind)}  # type: ignore[assignment]
    head = json.dumps({"inputs": [binary, tensor("context")]}).encode()
    path = f"/v2/models/{NAME}/infer"
    length = {"Inference_Header_Content_Length": str(len(head))}
    refused(port, path, head + behind, 422, "invalid", **length)
    refused(port, path, head + behind + b"more", 422, "invalid", **length)
    refused(port, path, head, 422, "invalid", Inference_Header_Content_Length="9" * 30)


def test_open_inference_tells_of_server_and_model(port: int) -> None:
    assert ask(port, "GET", "/v2")[1]["extensions"] == ["binary_tensor_data"]
    for path in (
        "/v2/health/live",
        "/v2/health/ready",
        f"/v2/models/{NAME}/ready",
        "/ping",
        "/vertex/health",
    ):
        assert ask(port, "GET", path)[0] == 200
    found = ask(port, "GET", f"/v2/models/{NAME}")[1]
    assert [tensor["name"] for tensor in found["inputs"]] == ["question", "context"]
    status, error = ask(port, "GET", "/v2/models/other")
    assert (status, error["error_type"]) == (404, "not_found")
    assert NAME in error["error"]


def test_csv_that_is_none_is_named(port: int) -> None:
    csv_ = {"Content_Type": "text/csv; charset=utf-8"}
    assert "not 3 fields" in refused(port, "/invocations", b"a,b,c\r\n", 422, "invalid", **csv_)
    assert "no line" in refused(port, "/invocations", b"\r\n", 422, "invalid", **csv_)
    refused(port, "/invocations", b"\xff,\xfe", 400, "not_json", **csv_)


def test_a_request_holds_so_many_pairs(port: int) -> None:
    body = {"inputs": objects() * 2}
    assert "6 pairs" in refused(port, "/", body, 413, "too_many_pairs")
