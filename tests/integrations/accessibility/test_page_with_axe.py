"""axe-core finds nothing on the page, empty, answered and refused, light and dark, narrow and wide."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from fastspan import QuestionAnswerer
from support.serving.browser import Page, browsing
from support.serving.http_service import serving

pytest.importorskip("uvicorn")
AXE = find_spec("axe_playwright_python")
if AXE is None or AXE.origin is None:
    pytest.skip("axe-playwright-python is not installed", allow_module_level=True)

from fastspan.serving import Service  # noqa: E402

SCRIPT = (Path(AXE.origin).parent / "axe.min.js").read_text(encoding="utf-8")
FOUND = (
    "axe.run().then((found) => found.violations.map((one) => "
    "[one.id, one.impact, one.nodes.map((node) => node.html)]))"
)


@pytest.fixture(scope="module")
def port(tiny_bundle: Path) -> Iterator[int]:
    with (
        QuestionAnswerer.load(tiny_bundle, variant="fp32", provider="cpu", threads=1) as qa,
        serving(Service({"small": qa, "other": qa})) as port,
    ):
        yield port


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browsing(tmp_path_factory.mktemp("profile")) as page:
        yield page


def checked(page: Page) -> Any:
    page.run(SCRIPT)
    return page.run(FOUND)


def test_it_finds_what_is_wrong(page: Page, port: int) -> None:
    """So that finding nothing means something."""
    page.open(f"http://127.0.0.1:{port}/")
    page.until("document.querySelectorAll('#examples button').length > 0")
    page.run("document.querySelector('#question').labels[0].remove()")
    page.run("document.querySelector('#question').placeholder = ''")
    assert [one[:2] for one in checked(page)] == [["label", "critical"]]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_it_finds_nothing(page: Page, port: int, width: int, dark: bool) -> None:
    page.shape(width, dark=dark)
    page.open(f"http://127.0.0.1:{port}/")
    page.until("document.querySelectorAll('#examples button').length > 0")
    assert checked(page) == []
    for number in range(4):
        page.run("document.querySelector('#result').hidden = true")
        page.run(f"document.querySelectorAll('#examples button')[{number}].click()")
        page.until("!document.querySelector('#result').hidden && !document.querySelector('#ask').disabled")
        assert checked(page) == []
    page.run("document.querySelector('#edit').click()")
    page.run("document.querySelector('#question').value = ''; document.querySelector('#ask').click()")
    page.until("!document.querySelector('#error').hidden")
    assert checked(page) == []
