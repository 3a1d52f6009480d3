"""The page's files: who gets them, with which headers, and that they load nothing from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

from fastspan import QuestionAnswerer
from support.serving.http_service import ask, raw, serving

pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from fastspan.serving import Service, Settings
from fastspan.serving.page.files import FOLDER, POLICY, wants_html

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
STATIC = Path(str(resources.files("fastspan.serving.page"))) / FOLDER


@pytest.fixture(scope="module")
def qa(tiny_bundle: Path) -> Iterator[QuestionAnswerer]:
    with QuestionAnswerer.load(tiny_bundle, variant="fp32", provider="cpu", threads=1) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def port(qa: QuestionAnswerer) -> Iterator[int]:
    with serving(Service(qa)) as port:
        yield port


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (BROWSER, True),
        ("text/html", True),
        ("TEXT/HTML; q=0.5", True),
        ("application/json, text/html;q=0", False),
        ("*/*", False),
        ("application/json", False),
        ("", False),
    ],
)
def test_who_wants_html(accept: str, expected: bool) -> None:
    assert wants_html(accept) is expected


def test_a_browser_gets_the_page_and_a_program_json(port: int) -> None:
    status, headers, content = raw(port, "GET", "/", Accept=BROWSER)
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert headers["content-security-policy"] == POLICY
    assert headers["vary"] == "accept"
    assert content == (STATIC / "page.html").read_bytes()
    status, told = ask(port, "GET", "/", Accept="*/*")
    assert status == 200
    assert raw(port, "GET", f"/{told['openapi']}")[0] == 200
    assert raw(port, "GET", f"/{told['docs']}")[0] == 200


def test_every_file_is_given_and_kept_by_the_browser(port: int) -> None:
    names = {path.name for path in STATIC.iterdir()}
    assert {"page.html", "page.css", "main.js"} <= names
    for name in names - {"page.html"}:
        status, headers, content = raw(port, "GET", f"/page/{name}")
        assert (status, content) == (200, (STATIC / name).read_bytes())
        assert headers["x-content-type-options"] == "nosniff"
        status, _, content = raw(port, "GET", f"/page/{name}", If_None_Match=headers["etag"])
        assert (status, content) == (304, b"")
    for name in ("page.html", "files.py", "..%2Ffiles.py", "missing.js"):
        assert raw(port, "GET", f"/page/{name}")[0] == 404


def test_the_policy_lets_nothing_inline_and_nothing_foreign_in() -> None:
    rules = dict(rule.split(" ", 1) for rule in POLICY.split("; "))
    assert rules["default-src"] == rules["frame-ancestors"] == rules["form-action"] == "'none'"
    assert "unsafe" not in POLICY
    for path in STATIC.iterdir():
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(?:https?:)?//(?!www\.w3\.org/2000/svg)[\w.]+\.\w", text), path.name
        if path.suffix == ".html":
            assert not re.search(r"\s(?:style|on\w+)=|<style|<script(?![^>]*\ssrc=)", text)
        if path.suffix == ".js":
            assert "innerHTML" not in text
            assert not re.search(r"\beval\(|new Function", text)


def test_the_page_can_be_left_out(qa: QuestionAnswerer) -> None:
    with serving(Service(qa, settings=Settings(page=False))) as port:
        assert ask(port, "GET", "/", Accept=BROWSER)[0] == 405
        assert ask(port, "GET", "/page/main.js")[0] == 404
