"""Where tests find the project's files, and the data that may lie beside it."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
PROGRAMS = TESTS / "support" / "programs"
MINILM = ROOT / "models" / "minilm-l6-squad2"
EXPORTED_MINILM = ROOT / "models" / "exported" / "minilm-l6-squad2"
DATA = ROOT / ".." / "shared" / "data"
SQUAD_PART = DATA / "squad2-dev-part.json"
