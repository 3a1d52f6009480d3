"""docs/design.md names what there is, where it is."""

from __future__ import annotations

import ast
import re

import pytest

from support.paths import ROOT

PAGE = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
PLACES = re.findall(r"^\| [^|]+ \| `([\w.]+)`.* in `([\w/]+\.py)` \|$", PAGE, re.MULTILINE)
FOLDERS = re.findall(r"^\| folder of `(\w+)/` \|.*\n\|---\|---\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)


def defined(tree: ast.Module | ast.ClassDef) -> dict[str, ast.stmt]:
    """Name → what defines it: a class, a function or an assignment."""
    found: dict[str, ast.stmt] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign):
            found |= {target.id: node for target in node.targets if isinstance(target, ast.Name)}
    return found


def test_it_says_where_a_stranger_finds_what_matters() -> None:
    assert len(PLACES) >= 10
    for what in ("spans are searched", "int8's rounding is chosen", "a request is admitted"):
        assert f"| {what}" in PAGE


@pytest.mark.parametrize(("name", "file"), PLACES)
def test_what_it_names_is_there(name: str, file: str) -> None:
    within: ast.Module | ast.ClassDef = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    for part in name.split("."):
        found = defined(within)
        assert part in found, f"{file} defines no {name}"
        node = found[part]
        if isinstance(node, ast.ClassDef):
            within = node


@pytest.mark.parametrize(("top", "rows"), FOLDERS)
def test_every_folder_has_its_line(top: str, rows: str) -> None:
    named = {name for row in rows.splitlines() for name in re.findall(r"`([\w/]+)/`", row.split("|")[1])}
    there = {
        path.parent.relative_to(ROOT / top).as_posix()
        for path in (ROOT / top).rglob("__init__.py")
        if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
    }
    # A folder within one that has a line need not have one of its own.
    missing = {folder for folder in there - {"."} if not {folder, folder.split("/")[0]} & named}
    assert missing == set()
    assert all((ROOT / top / folder).is_dir() for folder in named)
