"""Keys, TLS, browsers, and what the service tells of itself."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastspan import InputError, QuestionAnswerer
from fastspan.cli.main import main
from support.serving.http_service import CONTEXT, PAIR, QUESTION, ask, raw, refused, serving

pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from fastspan.serving import Service, Settings
from fastspan.serving.settings import read_keys


@pytest.fixture(scope="module")
def qa(tiny_bundle: Path) -> Iterator[QuestionAnswerer]:
    with QuestionAnswerer.load(tiny_bundle, variant="fp32", provider="cpu", threads=1) as loaded:
        yield loaded


def test_any_of_the_keys_opens_what_answers_and_no_other_does(qa: QuestionAnswerer) -> None:
    with serving(Service(qa, settings=Settings(api_keys=("first", "second")))) as port:
        for key in ("Bearer first", "bearer second"):
            assert ask(port, "POST", "/answer", PAIR, Authorization=key)[0] == 200
        for key in ("Bearer third", "Bearer ", "first", "Basic first", "Bearer first second"):
            assert "Bearer KEY" in refused(port, "/answer", PAIR, 401, "no_key", Authorization=key)
        status, headers, _ = raw(port, "POST", "/", {"inputs": PAIR})
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
        for path in ("/health", "/ready", "/metrics"):
            assert raw(port, "GET", path)[0] == 200
        security = ask(port, "GET", "/openapi.json")[1]["paths"]["/answer"]["post"]["security"]
        assert security == [{"key": []}]


def test_without_an_admin_key_admin_is_closed(qa: QuestionAnswerer) -> None:
    with serving(Service(qa)) as port:
        assert "--admin-key" in refused(port, "/admin/reload", {}, 401, "no_key", Authorization="Bearer x")


def test_keys_come_from_files(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# ours\n\nfirst\n  second \n")
    assert read_keys(file, ("zeroth",)) == ("zeroth", "first", "second")
    file.write_text("# none\n")
    with pytest.raises(InputError, match="holds none"):
        read_keys(file)
    with pytest.raises(InputError, match="cannot be read"):
        read_keys(tmp_path / "missing")
    with pytest.raises(InputError, match="printable"):
        Settings(api_keys=("a\nb",))


def test_only_named_pages_may_read_answers(qa: QuestionAnswerer) -> None:
    origin = "https://example.org"
    with serving(Service(qa)) as port:
        assert "access-control-allow-origin" not in raw(port, "POST", "/answer", PAIR, Origin=origin)[1]
    with serving(Service(qa, settings=Settings(cors_origins=(origin,)))) as port:
        assert raw(port, "POST", "/answer", PAIR, Origin=origin)[1]["access-control-allow-origin"] == origin
        other = raw(port, "POST", "/answer", PAIR, Origin="https://other.org")[1]
        assert "access-control-allow-origin" not in other
        asked = {"Origin": origin, "Access_Control_Request_Method": "POST"}
        assert raw(port, "OPTIONS", "/answer", **asked)[0] == 200


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--tls-cert", "c"], "belong together"),
        (["--log-texts"], "needs access_log"),
        (["--max-windows", "0"], "--max-windows"),
        (["--max-windows", "many"], "not a whole number"),
        (["--grace", "soon"], "not a number of seconds"),
        (["a=b", "a=c"], "called 'a'"),
        (["--api-keys-file", "/nowhere/keys"], "cannot be read"),
    ],
)
def test_options_that_do_not_fit_are_wrong_usage(arguments: list[str], says: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["serve", "bundle", *arguments])
    assert exit_.value.code == 2
    assert says in capsys.readouterr().err


def test_an_environment_variable_sets_what_an_option_sets(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("FASTSPAN_MAX_WINDOWS", "none")
    with pytest.raises(SystemExit):
        main(["serve", "bundle"])
    assert "argument --max-windows: 'none' is not a whole number" in capsys.readouterr().err


def test_the_access_log_tells_of_requests_and_not_of_texts(qa: QuestionAnswerer, caplog: Any) -> None:
    log = logging.getLogger("fastspan.access")
    for settings, told in (
        (Settings(access_log=True), False),
        (Settings(access_log=True, log_texts=True), True),
    ):
        service = Service(qa, settings=settings)
        log.addHandler(caplog.handler)
        try:
            with serving(service) as port:
                ask(port, "POST", "/answer", PAIR, Traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01")
                ask(port, "GET", "/nothing")
        finally:
            log.removeHandler(caplog.handler)
        first, second = (json.loads(record.getMessage()) for record in caplog.records)
        assert (first["path"], first["status"], first["protocol"], first["bundle"]) == (
            "/answer",
            200,
            "native",
            "tiny-qa",
        )
        assert first["windows"] == 1
        assert first["tokens"] > 5
        assert first["trace"].startswith("00-111")
        assert second["status"] == 404
        assert (first.get("texts") == [[QUESTION, CONTEXT]]) is told
        assert (CONTEXT in caplog.text) is told
        caplog.clear()


def test_openapi_names_every_route_that_answers(qa: QuestionAnswerer) -> None:
    with serving(Service(qa)) as port:
        found = ask(port, "GET", "/openapi.json")[1]
        assert found["openapi"].startswith("3.")
        assert {"/", "/answer", "/predict", "/invocations", "/extract"} <= set(found["paths"])
        body = found["paths"]["/answer"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert {"question", "context", "top_k", "no_answer_threshold"} <= set(body["properties"])
        status, headers, page = raw(port, "GET", "/docs")
        assert status == 200
        assert "default-src 'none'" in headers["content-security-policy"]
        # Nothing comes from elsewhere, and no script runs.
        assert not re.search(rb"(src|href)=.?https?:|<script|@import|url\(", page)
        assert b"POST /answer" in page
