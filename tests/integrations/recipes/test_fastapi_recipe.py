"""docs/recipes/fastapi.md: the application answers, and says what was wrong."""

from __future__ import annotations

import importlib

import pytest

from fastspan import DeadlineExceeded
from support.recipes import Recipe

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

PASSAGE = "The Normans, under their leader Rollo, swore fealty to King Charles III."


@pytest.fixture
def application(tmp_path, bundled_bundle, monkeypatch):
    Recipe("fastapi", tmp_path, bundled_bundle, monkeypatch)
    return importlib.import_module("app").app


@pytest.fixture
def client(application):
    from fastapi.testclient import TestClient

    with TestClient(application) as client:
        yield client


def test_it_answers(client):
    found = client.post("/answer", json={"question": "Who led the Normans?", "passage": PASSAGE})
    assert found.status_code == 200
    body = found.json()
    assert body["answer"] == "Rollo" == PASSAGE[body["start"] : body["end"]]
    assert 0 < body["confidence"] <= 1


def test_no_answer_is_null(client):
    found = client.post("/answer", json={"question": "How old is the moon?", "passage": PASSAGE})
    assert found.json()["answer"] is found.json()["start"] is None


def test_what_cannot_be_used_is_the_clients_fault(client):
    refused = client.post("/answer", json={"question": " ", "passage": PASSAGE})
    assert (refused.status_code, "question" in refused.json()["detail"]) == (422, True)


def test_a_deadline_that_passed_is_504(client, application, monkeypatch):
    def late(*_, **__):
        raise DeadlineExceeded("too late")

    monkeypatch.setattr(application.state, "qa", type("Late", (), {"answer": late})())
    late_answer = client.post("/answer", json={"question": "Who?", "passage": PASSAGE})
    assert (late_answer.status_code, late_answer.json()) == (504, {"detail": "too late"})


def test_the_model_is_closed_with_the_server(application):
    from fastapi.testclient import TestClient

    with TestClient(application):
        qa = application.state.qa
    with pytest.raises(Exception, match="closed"):
        qa.answer("Who led the Normans?", PASSAGE)
