"""Licences that lie beside a bundle or a checkpoint: whoever copies it passes them on."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["licences_beside"]

_LICENCE = re.compile(r"(LICEN[CS]E|NOTICE|COPYING)([.-].*)?", re.IGNORECASE)


def licences_beside(folder: Path) -> list[Path]:
    """Return the files of a folder that are licences by their names, in order."""
    return [file for file in sorted(folder.iterdir()) if _LICENCE.fullmatch(file.name) and file.is_file()]
