"""Packages that are to be missing for a test, or others in their place."""

from __future__ import annotations

import sys

import pytest

__all__ = ["hide", "put_in_place_of"]


def hide(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let imports of these packages fail as they do where they are not installed."""
    for name in names:
        put_in_place_of(monkeypatch, name, None)


def put_in_place_of(monkeypatch: pytest.MonkeyPatch, name: str, module: object) -> None:
    """Let imports of a package give this object; None: let them fail."""
    monkeypatch.setitem(sys.modules, name, module)
