"""The HTTP service, over real sockets: protocols, limits, errors, and a shutdown in good order."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastspan import AnswerOptions, InferenceError, InputError, QuestionAnswerer
from fastspan.cli.main import build_parser, main
from fastspan.decoding.pipeline_parameters import PIPELINE_NAMES
from support.paths import ROOT

uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("starlette")

from fastspan.serving import Limits, Service, listen  # noqa: E402
from fastspan.serving.app import _STATUS  # noqa: E402
from fastspan.serving.protocols.hugging_face import answer_as_hugging_face  # noqa: E402
from fastspan.serving.protocols.native import answer_natively  # noqa: E402
from fastspan.serving.server import _Server  # noqa: E402
from fastspan.serving.window_limit import LimitedAnswerer  # noqa: E402

QUESTION = "who built the stone bridge?"
CONTEXT = "the norman leader rollo built the stone bridge in the year of snow. the river was blue."
LONG_CONTEXT = " ".join([CONTEXT] * 40)
PAIR = {"question": QUESTION, "context": CONTEXT}
WAIT = 30


@pytest.fixture(scope="module")
def qa(tiny_bundle: Path) -> Iterator[QuestionAnswerer]:
    with QuestionAnswerer.load(
        tiny_bundle, variant="fp32", provider="cpu", threads=2, optimize_for="throughput"
    ) as loaded:
        yield loaded


@contextmanager
def serving(service: Service) -> Iterator[int]:
    """Serve in a thread of this process, without its signals; yields the port."""
    with listen("127.0.0.1", 0) as listening:
        config = uvicorn.Config(service.app, lifespan="on", ws="none", log_config=None, access_log=False)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(WAIT)
            assert not thread.is_alive()


@pytest.fixture(scope="module")
def port(qa: QuestionAnswerer) -> Iterator[int]:
    with serving(Service(qa)) as port:
        yield port


def ask(port: int, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    """Status and parsed JSON of one request; a body that is no bytes is sent as JSON."""
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    assert response.getheader("content-type") == "application/json"
    return response.status, json.loads(content, parse_constant=pytest.fail)


def refused(port: int, path: str, body: Any, status: int, kind: str) -> str:
    """The sentence with which a request is refused."""
    found, error = ask(port, "POST", path, body)
    assert (found, error.get("error_type")) == (status, kind), error
    assert set(error) == {"error", "error_type"}
    return error["error"]


class Held:
    """An answerer that does not answer before it may."""

    def __init__(self, qa: QuestionAnswerer) -> None:
        self._qa = qa
        self.info = qa.info
        self.begun = threading.Semaphore(0)
        self.may_answer = threading.Event()

    def answer(self, *args: Any, **kwargs: Any) -> Any:
        self.begun.release()
        assert self.may_answer.wait(WAIT)
        return self._qa.answer(*args, **kwargs)


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
    assert ask(port, "GET", "/metrics")[1]["error_type"] == "not_found"
    status, error = ask(port, "GET", "/answer")
    assert (status, error["error_type"]) == (405, "method_not_allowed")
    assert "POST" in error["error"]


def test_failures_are_500_and_the_next_request_works(qa: QuestionAnswerer, caplog: Any) -> None:
    faults: list[Exception] = [InferenceError("ONNX Runtime failed."), RuntimeError("a secret")]

    class Failing:
        info = staticmethod(qa.info)

        def answer(self, *args: Any, **kwargs: Any) -> Any:
            if faults:
                raise faults.pop(0)
            return qa.answer(*args, **kwargs)

    with serving(Service(Failing())) as port:  # type: ignore[arg-type]
        assert refused(port, "/answer", PAIR, 500, "failed") == "ONNX Runtime failed."
        assert "secret" not in refused(port, "/answer", PAIR, 500, "failed")
        assert ask(port, "POST", "/answer", PAIR)[0] == 200
    assert "ONNX Runtime failed." in caplog.text
    assert "a secret" in caplog.text


def test_a_closed_answerer_is_503(tiny_bundle: Path) -> None:
    closed = QuestionAnswerer.load(tiny_bundle, provider="cpu", threads=1)
    closed.close()
    with serving(Service(closed)) as port:
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
        st.tuples(st.just(answer_natively), own | value)
        | st.tuples(st.just(answer_as_hugging_face), theirs | value)
    )
    try:
        answered = protocol(qa, json.dumps(body).encode())
    except InputError:
        return
    json.dumps(answered, allow_nan=False)


# Limits


def test_a_refused_body_leaves_the_connection_usable(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)
    for body, status in ((b" " * 3_000_000, 413), (json.dumps(PAIR).encode(), 200)):
        connection.request("POST", "/answer", body)
        response = connection.getresponse()
        response.read()
        assert response.status == status
    connection.close()


def test_too_large_is_413(qa: QuestionAnswerer) -> None:
    body = json.dumps(PAIR).encode()
    with serving(Service(qa, Limits(payload_bytes=len(body)))) as port:
        assert ask(port, "POST", "/answer", body)[0] == 200
        assert f"{len(body):,} bytes" in refused(port, "/answer", body + b" ", 413, "too_large")


def test_too_large_without_a_length_is_413_before_the_end(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as client:
        client.sendall(b"POST /answer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b" " * 100_000
        for _ in range(21):
            client.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        # The body never ends, and the answer is here.
        assert client.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_body_that_stalls_is_408_and_gives_its_place_back(qa: QuestionAnswerer) -> None:
    limits = Limits(concurrent_requests=1, body_seconds=0.2)
    with serving(Service(qa, limits)) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as client:
            client.sendall(b"POST /answer HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            assert client.recv(100).startswith(b"HTTP/1.1 408 ")
        assert ask(port, "POST", "/answer", PAIR)[0] == 200


def test_a_client_that_leaves_gives_its_place_back(qa: QuestionAnswerer, caplog: Any) -> None:
    with serving(Service(qa, Limits(concurrent_requests=1))) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as client:
            client.sendall(b"POST /answer HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        deadline = time.monotonic() + WAIT
        while ask(port, "POST", "/answer", PAIR)[0] != 200:
            assert time.monotonic() < deadline
    assert not caplog.records


def test_more_than_the_limit_is_429_at_once(qa: QuestionAnswerer) -> None:
    held = Held(qa)
    limit = 5
    service = Service(held, Limits(concurrent_requests=limit))  # type: ignore[arg-type]
    with serving(service) as port, ThreadPoolExecutor(limit) as clients:
        started = [clients.submit(ask, port, "POST", "/answer", PAIR) for _ in range(limit)]
        try:
            # As many as there are threads run; the others wait their turn, and all of them count.
            assert all(held.begun.acquire(timeout=WAIT) for _ in range(2))
            deadline = time.monotonic() + WAIT
            while service._in_flight < limit:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert f"{limit} requests" in refused(port, "/", {"inputs": PAIR}, 429, "overloaded")
            assert ask(port, "GET", "/health")[0] == 200
            assert ask(port, "GET", "/ready")[0] == 200
        finally:
            held.may_answer.set()
        expected = json.loads(json.dumps(qa.answer(**PAIR).to_dict()))
        assert [future.result(WAIT) for future in started] == [(200, expected)] * limit
        assert ask(port, "POST", "/", {"inputs": PAIR})[0] == 200


def test_a_context_of_too_many_windows_is_413_before_they_are_made(qa: QuestionAnswerer) -> None:
    with serving(Service(qa, Limits(windows=50))) as port:
        body = {"question": QUESTION, "context": "the river was blue " * 80_000}
        sentence = refused(port, "/answer", body, 413, "too_many_windows")
        assert re.search(r"makes 1,\d{3} windows beside its question, and max_windows is 50", sentence)
        assert "lower overlap, or raise max_length" in sentence
        assert "--max-windows" in sentence
        sentence = refused(port, "/", {"inputs": body}, 413, "too_many_windows")
        assert "lower doc_stride, or raise max_seq_len" in sentence
        assert ask(port, "POST", "/answer", {**PAIR, "max_windows": 100})[0] == 200
        body = {"question": QUESTION, "context": LONG_CONTEXT * 3, "max_windows": 2}
        assert "max_windows is 2" in refused(port, "/answer", body, 413, "too_many_windows")


def test_a_question_too_long_for_its_window_is_still_the_answerers_to_refuse(qa: QuestionAnswerer) -> None:
    with serving(Service(qa, Limits(windows=1))) as port:
        body = {"question": "snow " * 300, "context": "river " * 400, "max_question_length": 300}
        assert "at most 205 leave its context room" in refused(port, "/answer", body, 422, "invalid")
        body = {"inputs": {"question": "snow " * 300, "context": "river " * 400}}
        assert "set max_question_len=205" in refused(port, "/", body, 422, "invalid")
        body = {**PAIR, "context": LONG_CONTEXT, "max_length": 100_000}
        assert "the model takes windows of at most" in refused(port, "/answer", body, 422, "invalid")


def test_the_services_limit_holds_whatever_a_request_says(qa: QuestionAnswerer) -> None:
    held = Held(qa)
    held.answer = lambda *texts, options: options  # type: ignore[method-assign]
    limited = LimitedAnswerer(held, 7)  # type: ignore[arg-type]
    found = [limited.answer("q", "c", max_windows=given).max_windows for given in (None, 3, 9)]  # type: ignore[attr-defined]
    assert found == [7, 3, 7]


def test_limits_are_checked() -> None:
    with pytest.raises(InputError, match="payload_bytes must be more than 0"):
        Limits(payload_bytes=0)


# Life and death


def test_probes_and_info(qa: QuestionAnswerer, port: int) -> None:
    assert ask(port, "GET", "/health") == (200, {"status": "live"})
    assert ask(port, "GET", "/ready") == (200, {"status": "ready"})
    status, info = ask(port, "GET", "/info")
    assert status == 200
    assert info["variant"] == "fp32"
    assert info["max_concurrent_requests"] == 512
    assert info["payload_limit"] == 2_000_000
    assert info["max_windows"] == 1000
    assert str(qa.info().bundle) not in json.dumps(info)


def test_a_draining_service_is_live_and_not_ready(qa: QuestionAnswerer) -> None:
    service = Service(qa)
    with serving(service) as port:
        _Server(service).handle_exit(signal.SIGTERM, None)
        assert refused_probe(port) == 503
        assert ask(port, "GET", "/health")[0] == 200
        assert ask(port, "POST", "/answer", PAIR)[0] == 200


def refused_probe(port: int) -> int | None:
    """The status of a probe; None where nobody listens any more."""
    try:
        return ask(port, "GET", "/ready")[0]
    except OSError:
        return None


@contextmanager
def command(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """``fastspan serve`` as a process of its own, and its port."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "fastspan", "serve", *arguments, "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stderr.readline()
        found = re.search(r"at http://127\.0\.0\.1:(\d+);", line)
        assert found, line + process.stderr.read()
        yield process, int(found[1])
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to catch")
def test_sigterm_ends_readiness_and_lets_requests_finish(tiny_bundle: Path, qa: QuestionAnswerer) -> None:
    body = json.dumps(PAIR).encode()
    arguments = (str(tiny_bundle), "--variant", "fp32", "--provider", "cpu", "--threads", "1")
    with command(*arguments) as (process, port):
        assert refused_probe(port) == 200
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as client:
            head = f"POST /answer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            client.sendall(head.encode() + body[:10])
            # A probe that is answered shows that the server has seen the request before it.
            assert refused_probe(port) == 200
            process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + WAIT
            while refused_probe(port) == 200:
                assert time.monotonic() < deadline
            assert process.poll() is None
            client.sendall(body[10:])
            response = http.client.HTTPResponse(client)
            response.begin()
            assert response.status == 200
            assert json.loads(response.read())["answer"] == qa.answer(**PAIR).to_dict()["answer"]
        assert process.wait(WAIT) == 0
        assert process.stderr.read() == ""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to a single process")
def test_interrupting_the_command_exits_with_130(tiny_bundle: Path) -> None:
    with command(str(tiny_bundle), "--threads", "1", "--optimize-for", "latency") as (process, port):
        assert refused_probe(port) == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT) == 130
        assert process.stderr.read() == ""


def test_the_commands_limits_are_the_services(tiny_bundle: Path) -> None:
    limits = ("--max-concurrent-requests", "3", "--payload-limit", "4000", "--max-windows", "5")
    with command(str(tiny_bundle), "--threads", "1", *limits) as (_, port):
        info = ask(port, "GET", "/info")[1]
    assert (info["max_concurrent_requests"], info["payload_limit"], info["max_windows"]) == (3, 4000, 5)


def test_a_taken_port_is_told_in_one_line(tiny_bundle: Path, capsys: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", str(tiny_bundle), "--port", str(port), "--threads", "1"]) == 1
    error = capsys.readouterr().err
    assert f"cannot listen on 127.0.0.1 port {port}" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_a_port_must_be_one(port: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["serve", "bundle", "--port", port])
    assert exit_.value.code == 2
    assert "is not a port" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_without_the_extra_the_command_says_how_to_get_it(missing: str) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from fastspan.cli.main import main\n"
        "sys.exit(main(['serve', 'bundle']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"needs {missing}, which is not installed" in done.stderr
    assert "pip install 'fastspan[serve]'" in done.stderr


def test_the_documentation_names_every_route_option_and_error(port: int) -> None:
    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    [parser] = (action for action in build_parser()._actions if isinstance(action.choices, dict))
    flags = [flag for action in parser.choices["serve"]._actions for flag in action.option_strings]
    for flag in set(flags) - {"-h", "--help", "--debug"}:
        assert f"`{flag}" in text
    for _, status, kind in _STATUS:
        assert re.search(rf"^\| {status} \|.*`{kind}`", text, re.MULTILINE), (status, kind)
    for name in PIPELINE_NAMES:
        assert f"`{name}`" in text


@pytest.mark.parametrize("path", ["/", "/answer"])
def test_the_examples_of_the_documentation_are_accepted(port: int, path: str) -> None:
    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    found = re.search(rf"localhost:8080{path} -d '([^']+)'", text)
    assert found
    assert ask(port, "POST", path, found[1].encode())[0] == 200


def test_the_engine_does_not_load_the_service() -> None:
    code = (
        "import sys, fastspan, fastspan.cli.main; fastspan.cli.main.build_parser()\n"
        "assert not {'starlette', 'uvicorn', 'fastspan.serving'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
