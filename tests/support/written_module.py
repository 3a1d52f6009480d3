"""A Python file that was written somewhere, imported as the platform that it is for imports it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

__all__ = ["import_file"]


def import_file(file: Path) -> ModuleType:
    """Import a file by its path, under its own name, without leaving it among the loaded modules."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
