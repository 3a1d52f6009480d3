"""``fastspan serve``: its probes, its signals, its options and its documentation."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastspan import QuestionAnswerer
from fastspan.cli.main import build_parser, main
from support.paths import ROOT
from support.serving.http_service import PAIR, WAIT, ask, command, serving

pytest.importorskip("uvicorn")
pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")

from fastspan.decoding.pipeline_parameters import PIPELINE_NAMES
from fastspan.serving import Service
from fastspan.serving.http.responses import STATUS
from fastspan.serving.server import _Server


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


def test_a_variant_may_stand_behind_a_name(tiny_bundle: Path) -> None:
    named = (f"exact:fp32={tiny_bundle}", f"fast:int8={tiny_bundle}", f"any={tiny_bundle}")
    with command(*named, "--variant", "fp32") as (_, port):
        bundles = ask(port, "GET", "/info")[1]["bundles"]
        assert [(bundle["name"], bundle["variant"]) for bundle in bundles] == [
            ("exact", "fp32"),
            ("fast", "int8"),
            ("any", "fp32"),
        ]
        assert ask(port, "POST", "/bundles/fast/answer", PAIR)[0] == 200


@pytest.mark.parametrize("variant", ["int4", "auto", "", "FP32"])
def test_what_is_no_variant_behind_a_name_is_refused(variant: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["serve", f"a:{variant}=folder", "--port", "0"])
    assert stopped.value.code == 2
    assert "names no variant behind the colon: it may be fp32, fp16, int8" in capsys.readouterr().err


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


@pytest.mark.parametrize("missing", ["starlette", "uvicorn", "prometheus_client"])
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
    arguments = build_parser().commands["serve"].arguments
    flags = [flag for argument in arguments for flag in argument.option_strings]
    for flag in set(flags) - {"-h", "--help", "--debug"}:
        assert f"`{flag}" in text
    for _, status, kind in STATUS:
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
        "assert not {'starlette', 'uvicorn', 'prometheus_client', 'fastspan.serving.app'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
