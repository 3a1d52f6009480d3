"""Where the project's folder is, for what runs from a checkout."""

from __future__ import annotations

from pathlib import Path

__all__ = ["ROOT"]


ROOT = Path(__file__).resolve().parents[1]
"""The project's folder."""
