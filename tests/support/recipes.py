"""The pages of docs/recipes as a reader uses them: their files lie in a folder, their programs run there."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from support.paths import ROOT

__all__ = ["Recipe"]

_BUNDLE = "models/exported/minilm-l6-squad2"


class Recipe:
    """One page in a folder of its own.

    Args:
        name: The page's name, without ``.md``.
        folder: An empty folder.
        bundle: What takes the place of the bundle that the page loads.
        monkeypatch: Undoes the change of ``sys.path``.
    """

    def __init__(self, name: str, folder: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        page = (ROOT / "docs" / "recipes" / f"{name}.md").read_text(encoding="utf-8")
        self.folder = folder
        self.programs: list[str] = []
        files = set()
        for language, text in re.findall(r"^```(\w+)\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
            if language == "text":
                self.shown = text
            if language not in ("python", "proto"):
                continue
            text = text.replace(_BUNDLE, bundle.as_posix())
            if file := re.match(r"(?:#|//) (\w+\.\w+)\n", text):
                (folder / file[1]).write_text(text, encoding="utf-8")
                files.add(Path(file[1]).stem)
            else:
                self.programs.append(text)
        monkeypatch.syspath_prepend(str(folder))
        # Pages give their files the same names.
        for module in files & set(sys.modules):
            monkeypatch.delitem(sys.modules, module)

    def run(self) -> None:
        """Run the programs of the page, those that are not files, one after the other."""
        names: dict[str, object] = {"__name__": "__main__"}
        for program in self.programs:
            # A reader's program has none of this module's imports from __future__.
            exec(compile(program, "<recipe>", "exec", dont_inherit=True), names)
