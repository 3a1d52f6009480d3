"""Azure ML's own server runs the written ``score.py``."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastspan import QuestionAnswerer
from fastspan.hosting.package import package
from support.as_hugging_face import answer_as_hugging_face

pytest.importorskip("azureml_inference_server_http")

QUESTION = {"question": "who built the tower", "context": "the norse leader built the stone tower"}


@pytest.fixture(scope="module")
def served(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that runs the package."""
    out = package(tiny_bundle, tmp_path_factory.mktemp("azure") / "out", "azureml").folder
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    process = subprocess.Popen(
        [Path(sys.executable).with_name("azmlinfsrv"), "--entry_script", "score.py", "--port", str(port)],
        cwd=out / "code",
        env={**os.environ, "AZUREML_MODEL_DIR": str(out), "AML_APP_INSIGHTS_ENABLED": "false"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            assert process.poll() is None, process.communicate()[0]
            try:
                urllib.request.urlopen(address, timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def ask(address: str, body: object) -> tuple[int, Any]:
    request = urllib.request.Request(
        f"{address}/score", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_it_answers_as_the_protocol_does(served: str, tiny_bundle: Path) -> None:
    with QuestionAnswerer.load(tiny_bundle) as qa:
        expected = answer_as_hugging_face(qa, {"inputs": QUESTION})
    status, found = ask(served, {"inputs": QUESTION})
    assert (status, found["answer"]) == (200, expected["answer"])  # type: ignore[call-overload]
    status, found = ask(served, {"inputs": [QUESTION, QUESTION]})
    assert (status, len(found)) == (200, 2)


def test_an_unusable_request_gets_400_and_a_sentence(served: str) -> None:
    assert ask(served, {"inputs": {"question": "who?"}}) == (400, {"error": "inputs lacks context."})
