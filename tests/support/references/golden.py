"""What PyTorch and transformers gave, kept beside the tests: references for machines that have neither.

A test asks ``golden.value(key, compute)`` for what the reference gives. ``compute`` runs the reference; it is
called only with ``--reference=live``, which holds the kept value against it, and with ``--reference=record``,
which keeps it. Else the kept value is the answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["FOLDER", "Golden"]

FOLDER = Path(__file__).parents[2] / "golden"


class Golden:
    """The references of one module of tests.

    Args:
        name: The module's.
        mode: ``"kept"``, ``"live"`` or ``"record"``.
        folder: Where references are kept.
    """

    def __init__(self, name: str, mode: str, folder: Path = FOLDER) -> None:
        self.mode = mode
        self._path = folder / f"{name}.json"
        self._recorded: dict[str, Any] = {}
        self._kept: dict[str, Any] = {}
        if self._path.is_file():
            self._kept = json.loads(self._path.read_text(encoding="utf-8"))["values"]

    def value(self, key: str, compute: Callable[[], Any], *, within: float = 0.0) -> Any:
        """Return what the reference gives.

        Args:
            key: What it is asked, in words; one of a kind in this module.
            compute: Asks it; returns JSON's types.
            within: How far numbers may lie from those that were kept: processors sum in other orders.
        """
        if self.mode == "record":
            found = json.loads(json.dumps(compute()))
            again = self._recorded.setdefault(key, found)
            assert _equal(again, found, within), f"{key} has two references"
            return again
        assert key in self._kept, f"{self._path.name} holds no {key!r}: run `make golden`"
        if self.mode == "live":
            found = json.loads(json.dumps(compute()))
            assert _equal(self._kept[key], found, within), f"{key}: kept {self._kept[key]}, found {found}"
        return self._kept[key]

    def close(self) -> None:
        """Write what was recorded; what no test asked for any more is gone."""
        if not self._recorded:
            return
        self._path.parent.mkdir(exist_ok=True)
        made_with = {
            name: version(name).partition("+")[0] for name in ("torch", "transformers", "tokenizers")
        }
        lines = [
            f"{json.dumps(key, ensure_ascii=False)}: {json.dumps(value, ensure_ascii=False)}"
            for key, value in sorted(self._recorded.items())
        ]
        self._path.write_text(
            f'{{"made with": {json.dumps(made_with)},\n"made by": "make golden",\n"values": {{\n'
            + ",\n".join(lines)
            + "\n}}\n",
            encoding="utf-8",
        )


def _equal(kept: Any, found: Any, within: float) -> bool:
    """Whether two values are alike, numbers nearly so; long lists of numbers are compared at once."""
    if isinstance(kept, dict) and isinstance(found, dict):
        return kept.keys() == found.keys() and all(_equal(kept[k], found[k], within) for k in kept)
    if isinstance(kept, list) and isinstance(found, list):
        return len(kept) == len(found) and all(_equal(a, b, within) for a, b in zip(kept, found, strict=True))
    if isinstance(kept, float | int) and isinstance(found, float | int):
        return kept == found or bool(np.abs(kept - found) <= within)
    return bool(kept == found)
