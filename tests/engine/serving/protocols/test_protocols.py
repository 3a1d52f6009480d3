"""Our own protocol and Hugging Face's, and how both refuse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastspan import AnswerOptions, InferenceError, InputError, QuestionAnswerer
from support.serving.http_service import (
    CONTEXT,
    LONG_CONTEXT,
    PAIR,
    QUESTION,
    ask,
    refused,
    scripted,
    serving,
)

pytest.importorskip("uvicorn")
pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")

from fastspan.serving import Service
from fastspan.serving.protocols.asked import Incoming, Times
from fastspan.serving.scheduling.answering import PROTOCOLS


@pytest.fixture(scope="module")
def qa(tiny_bundle: Path) -> Iterator[QuestionAnswerer]:
    with QuestionAnswerer.load(
        tiny_bundle, variant="fp32", provider="cpu", threads=2, optimize_for="throughput"
    ) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def port(qa: QuestionAnswerer) -> Iterator[int]:
    with serving(Service(qa)) as port:
        yield port


# Our own protocol


@pytest.mark.parametrize("options", [{}, {"top_k": 3, "max_answer_length": 5}, {"decoding": "pipeline"}])
def test_own_protocol_is_the_prediction(port: int, qa: QuestionAnswerer, options: dict[str, Any]) -> None:
    expected = qa.answer(QUESTION, LONG_CONTEXT, **options).to_dict()
    found = ask(port, "POST", "/answer", {"question": QUESTION, "context": LONG_CONTEXT, **options})
    assert found == (200, json.loads(json.dumps(expected)))
    assert expected["answers"]


def test_every_option_is_a_key_of_our_protocol(port: int) -> None:
    values = {name: getattr(AnswerOptions(), name) for name in AnswerOptions.__slots__}
    assert ask(port, "POST", "/answer", {**PAIR, **values})[0] == 200


def test_minus_infinity_is_null(port: int) -> None:
    status, prediction = ask(port, "POST", "/answer", {**PAIR, "context": ""})
    assert status == 200
    assert prediction["best_span_score"] is None
    assert prediction["answer"] is None
    assert prediction["answers"] == []


def test_lone_surrogates_come_back_as_they_went(port: int) -> None:
    context = "rollo \ud800 snow"
    body = {"question": "\udc00 who?", "context": context, "top_k": 100}
    status, prediction = ask(port, "POST", "/answer", body)
    assert status == 200
    assert any("\ud800" in answer["text"] for answer in prediction["answers"])
    assert all(answer["text"] == context[answer["start"] : answer["end"]] for answer in prediction["answers"])


# Hugging Face's protocol


def hugging_face(port: int, context: str = CONTEXT, **parameters: Any) -> tuple[int, Any]:
    inputs = {"question": QUESTION, "context": context}
    return ask(port, "POST", "/", {"inputs": inputs, "parameters": parameters})


def test_hugging_face_protocol_has_the_pipelines_defaults(port: int, qa: QuestionAnswerer) -> None:
    [best] = qa.answer(QUESTION, LONG_CONTEXT, decoding="pipeline", overlap=128, max_answer_length=15).answers
    expected = {"score": best.score, "start": best.start, "end": best.end, "answer": best.text}
    assert hugging_face(port, LONG_CONTEXT) == (200, expected)
    inputs = {"question": QUESTION, "context": LONG_CONTEXT}
    assert ask(port, "POST", "/", {"inputs": inputs}) == (200, expected)
    assert hugging_face(port, LONG_CONTEXT, top_k=None, doc_stride=None) == (200, expected)


def test_every_parameter_reaches_the_option_it_means(port: int, qa: QuestionAnswerer) -> None:
    answers = qa.answer(
        QUESTION,
        LONG_CONTEXT,
        decoding="pipeline",
        top_k=4,
        overlap=10,
        max_answer_length=3,
        max_length=60,
        handle_impossible_answer=True,
        align_to_words=False,
    ).answers
    status, found = hugging_face(
        port,
        LONG_CONTEXT,
        top_k=4,
        doc_stride=10,
        max_answer_len=3,
        max_seq_len=60,
        handle_impossible_answer=True,
        align_to_words=False,
    )
    assert status == 200
    assert [(a["score"], a["start"], a["end"], a["answer"]) for a in found] == [
        (a.score, a.start, a.end, a.text) for a in answers
    ]


def test_a_short_window_overlaps_by_half(port: int) -> None:
    _, expected = hugging_face(port, LONG_CONTEXT, max_seq_len=50, doc_stride=25)
    assert hugging_face(port, LONG_CONTEXT, max_seq_len=50) == (200, expected)


def test_top_k_alone_decides_between_object_and_list(port: int) -> None:
    one_word = "rollo"
    assert isinstance(hugging_face(port, one_word, top_k=1)[1], dict)
    assert isinstance(hugging_face(port, one_word, top_k=5)[1], list)
    assert hugging_face(port, "")[1] == {"score": 0.0, "start": 0, "end": 0, "answer": ""}
    assert hugging_face(port, "", top_k=2)[1] == []


def test_inference_client_works_against_it(port: int, qa: QuestionAnswerer, monkeypatch: Any) -> None:
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    client = hub.InferenceClient(base_url=f"http://127.0.0.1:{port}", token="none")
    [best] = qa.answer(QUESTION, CONTEXT, decoding="pipeline").answers
    found = client.question_answering(question=QUESTION, context=CONTEXT)
    assert (found.answer, found.score) == (best.text, best.score)
    assert (found.start, found.end) == (best.start, best.end)
    several = client.question_answering(
        question=QUESTION, context=CONTEXT, top_k=3, max_answer_len=4, align_to_words=False
    )
    assert len(several) == 3
    assert all(CONTEXT[element.start : element.end] == element.answer for element in several)
    with pytest.raises(hub.errors.HfHubHTTPError, match="422"):
        client.question_answering(question=" ", context=CONTEXT)


# Errors


def test_unknown_parameters_are_named(port: int) -> None:
    body = {"inputs": PAIR, "parameters": {"top_k": 1, "topk": 2, "padding": "longest"}}
    sentence = refused(port, "/", body, 422, "invalid")
    assert "'topk'" in sentence
    assert "'padding'" in sentence
    assert "'options'" in refused(port, "/", {"inputs": PAIR, "options": {}}, 422, "invalid")


@pytest.mark.parametrize("name", ["timeout", "options", "self", "doc_stride"])
def test_only_options_pass_through_our_protocol(port: int, name: str) -> None:
    assert repr(name) in refused(port, "/answer", {**PAIR, name: 1}, 422, "invalid")


def test_messages_name_parameters_as_the_caller_does(port: int) -> None:
    body = {"inputs": PAIR, "parameters": {"doc_stride": 64, "max_seq_len": 64}}
    sentence = refused(port, "/", body, 422, "invalid")
    assert sentence.startswith("doc_stride (64) must be smaller than max_seq_len (64)")
    body = {"inputs": PAIR, "parameters": {"max_answer_len": 0}}
    assert refused(port, "/", body, 422, "invalid").startswith("max_answer_len must be at least 1")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ([], "the body must be a JSON object, not an array"),
        ({"question": QUESTION}, "the body lacks context"),
        ({**PAIR, "question": " "}, "question is blank"),
        ({**PAIR, "context": 5}, "context must be a string, not int"),
        ({**PAIR, "top_k": 0}, "top_k must be at least 1"),
        ({**PAIR, "top_k": 1_000_000_000}, "top_k may be 100 at most"),
        ({**PAIR, "max_answer_length": 10**30}, "max_answer_length may be"),
        ({**PAIR, "no_answer_threshold": -(10**400)}, "no_answer_threshold may not be less"),
        ({**PAIR, "max_length": 100_000}, "the model takes windows of at most"),
    ],
)
def test_invalid_is_422_with_the_engines_sentence(port: int, body: Any, says: str) -> None:
    assert says in refused(port, "/answer", body, 422, "invalid")


@pytest.mark.parametrize("path", ["/", "/answer"])
@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b'{"question": NaN}', b'{"a": 1, "a": 2}', b"[" * 100_000, b"1" * 5000]
)
def test_no_json_is_400(port: int, path: str, body: bytes) -> None:
    refused(port, path, body, 400, "not_json")


def test_a_long_message_is_cut(port: int) -> None:
    assert len(refused(port, "/answer", {**PAIR, "decoding": "x" * 100_000}, 422, "invalid")) < 1100


def test_unknown_paths_and_methods_are_told_in_json(port: int) -> None:
    assert ask(port, "GET", "/nothing")[1]["error_type"] == "not_found"
    assert ask(port, "POST", "/answer/", PAIR)[1]["error_type"] == "not_found"
    status, error = ask(port, "GET", "/answer")
    assert (status, error["error_type"]) == (405, "method_not_allowed")
    assert "POST" in error["error"]


def test_failures_are_500_and_the_next_request_works(
    tiny_bundle: Path, qa: QuestionAnswerer, caplog: Any
) -> None:
    faults: list[Exception] = [InferenceError("ONNX Runtime failed."), RuntimeError("a secret")]

    def fail(*_: object) -> None:
        if faults:
            raise faults.pop(0)

    with scripted(tiny_bundle, fail) as failing, serving(Service(failing)) as port:
        assert refused(port, "/answer", PAIR, 500, "failed") == "ONNX Runtime failed."
        refused(port, "/answer", PAIR, 500, "failed")
        assert ask(port, "POST", "/answer", PAIR)[0] == 200
    assert "ONNX Runtime failed." in caplog.text
    assert "a secret" in caplog.text


def test_a_fault_of_our_own_gives_nothing_away(
    qa: QuestionAnswerer, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def broken(*_: object) -> Any:
        raise RuntimeError("a secret")

    monkeypatch.setitem(PROTOCOLS, "native", broken)  # type: ignore[arg-type]
    with serving(Service(qa)) as port:
        assert "secret" not in refused(port, "/answer", PAIR, 500, "failed")
    assert "a secret" in caplog.text


def test_a_closed_answerer_is_503(tiny_bundle: Path) -> None:
    closed = QuestionAnswerer.load(tiny_bundle, provider="cpu", threads=1)
    service = Service(closed)
    closed.close()
    with serving(service) as port:
        assert "closed" in refused(port, "/answer", PAIR, 503, "unavailable")


@pytest.mark.stress
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_json_is_answered_or_refused(qa: QuestionAnswerer, data: st.DataObject) -> None:
    """Nothing but ``InputError`` leaves a protocol, whatever the body says."""
    text = st.text(st.characters(), max_size=40) | st.just(CONTEXT)
    value = (
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text
    )
    value = value | st.integers(1, 400) | st.sampled_from([10**30, -(10**400), 1e308, [], {}])
    parameters = st.sampled_from(["top_k", "doc_stride", "max_answer_len", "max_seq_len", "align_to_words"])
    options = st.dictionaries(st.sampled_from(AnswerOptions.__slots__), value, max_size=4)
    own = st.builds(lambda q, c, o: {"question": q, "context": c, **o}, text | value, text | value, options)
    theirs = st.builds(
        lambda q, c, p: {"inputs": {"question": q, "context": c}, "parameters": p},
        text | value,
        text | value,
        st.dictionaries(parameters, value, max_size=4) | value,
    )
    protocol, body = data.draw(
        st.tuples(st.just("native"), own | value) | st.tuples(st.just("hugging_face"), theirs | value)
    )
    try:
        asked = PROTOCOLS[protocol](Incoming(body=json.dumps(body).encode()), qa.info())
        predictions = [qa.answer(*pair, options=asked.options) for pair in asked.pairs]
    except InputError:
        return
    json.loads(asked.form(predictions, Times()).body, parse_constant=pytest.fail)
