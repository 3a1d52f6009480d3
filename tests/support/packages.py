"""Packages that are installed here, and are to be missing for a test."""

from __future__ import annotations

import sys

import pytest

__all__ = ["hide"]


def hide(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let imports of these packages fail as they do where they are not installed."""
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)
