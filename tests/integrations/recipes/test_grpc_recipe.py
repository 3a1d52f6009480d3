"""docs/recipes/grpc.md: the server answers the page's client, keeps deadlines and names errors."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from fastspan import DeadlineExceeded, QuestionAnswerer
from support.recipes import Recipe

grpc = pytest.importorskip("grpc")
pytest.importorskip("grpc_tools")
# Of protobuf's own making.
pytestmark = pytest.mark.filterwarnings("ignore:Type google:DeprecationWarning")

PASSAGE = "The Normans, under their leader Rollo, swore fealty to King Charles III."


@pytest.fixture
def folder(tmp_path, bundled_bundle, monkeypatch):
    Recipe("grpc", tmp_path, bundled_bundle, monkeypatch)
    command = ["-m", "grpc_tools.protoc", "-I.", "--python_out=.", "--grpc_python_out=.", "answers.proto"]
    subprocess.run([sys.executable, *command], cwd=tmp_path, check=True, timeout=60)
    for module in ("answers_pb2", "answers_pb2_grpc"):
        # A message may be registered once in a process: the module stays for the next test.
        importlib.import_module(module)
    return tmp_path


@pytest.fixture
def served(folder, bundled_bundle):
    """The server's address, and the servicer's model, in a place where a test can change it."""
    with QuestionAnswerer.load(bundled_bundle) as qa:
        asked = type("Model", (), {"answer": staticmethod(qa.answer)})()
        server, port = importlib.import_module("server").serve(asked, "localhost:0")
        yield f"localhost:{port}", asked
        server.stop(grace=5).wait()


def ask(address, question, timeout=30.0):
    import answers_pb2
    import answers_pb2_grpc

    with grpc.insecure_channel(address) as channel:
        message = answers_pb2.Question(question=question, passage=PASSAGE)
        return answers_pb2_grpc.AnswersStub(channel).Ask(message, timeout=timeout)


def test_the_client_of_the_page_is_answered(folder, served):
    done = subprocess.run(
        [sys.executable, "client.py", served[0]],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "Rollo\n"


def test_places_and_no_answer(served):
    found = ask(served[0], "Who led the Normans?")
    assert found.answer == "Rollo" == PASSAGE[found.start : found.end]
    assert 0 < found.confidence <= 1
    assert not ask(served[0], "How old is the moon?").HasField("answer")


def test_what_cannot_be_used_is_an_invalid_argument(served):
    with pytest.raises(grpc.RpcError) as refused:
        ask(served[0], " ")
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "question" in refused.value.details()


def test_the_clients_deadline_is_the_models(served):
    address, model = served
    timeouts = []

    def late(question, passage, *, timeout):
        timeouts.append(timeout)
        raise DeadlineExceeded("too late")

    model.answer = late
    with pytest.raises(grpc.RpcError) as refused:
        ask(address, "Who led the Normans?", timeout=30.0)
    assert refused.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert refused.value.details() == "too late"
    assert 0 < timeouts[0] <= 30.0
