"""Links of the documentation lead to files and headings that are there."""

from __future__ import annotations

import json
import re

import pytest

from support.paths import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "docs").rglob("*.ipynb")])
(HOME,) = re.findall(
    r'^Homepage = "(\S+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE
)


def prose(page):
    """A page without its code: there, brackets are no links, and a number sign begins no heading."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def links(page):
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose(page)))


def anchors(page):
    """The headings' anchors, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in links(page):
        path, _, anchor = target.partition("#")
        if path.startswith(f"{HOME}/blob/main/"):
            file = ROOT / path.removeprefix(f"{HOME}/blob/main/")
        elif path.startswith(("http://", "https://")):
            continue
        else:
            file = (page.parent / path) if path else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(file), f"{page.name} links to {target}, and there is {anchors(file)}"


def test_links_of_the_readme_lead_on_from_an_index_page():
    """An index shows the README without the repository around it."""
    targets = links(ROOT / "README.md")
    assert targets
    for target in targets:
        assert target.startswith(("https://", "#")), target
        assert not target.startswith("https://github.com/") or target.startswith(HOME), target


def test_every_page_is_reached_from_the_readme():
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        for target in links(page):
            path = target.partition("#")[0].replace(f"{HOME}/blob/main", str(ROOT))
            if path and not path.startswith("http") and path.endswith((".md", ".ipynb")):
                waiting.append((page.parent / path).resolve())
    assert {*(ROOT / "docs").rglob("*.md"), *(ROOT / "docs").rglob("*.ipynb")} <= reached
