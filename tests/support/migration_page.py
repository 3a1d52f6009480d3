"""docs/migrate.md in parts: what a section runs, and what it says that prints."""

from __future__ import annotations

import re

from support.paths import ROOT

__all__ = ["programs", "texts"]

_PAGE = (ROOT / "docs" / "migrate.md").read_text(encoding="utf-8")


def programs(section: str) -> list[str]:
    """A section's blocks of Python, in order."""
    return _blocks(section, "python")


def texts(section: str) -> list[str]:
    """A section's blocks of printed text, in order."""
    return _blocks(section, "text")


def _blocks(section: str, language: str) -> list[str]:
    (text,) = re.findall(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", _PAGE, re.MULTILINE | re.DOTALL)
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
