"""The programs for Haystack in docs/migrate.md, old and new, print what it says."""

from __future__ import annotations

import os

import pytest

from support.migration_page import programs, texts
from support.paths import MINILM

os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")
pytest.importorskip("haystack")


@pytest.mark.filterwarnings("ignore")
def test_old_and_new_print_what_stands_below(bundled_bundle, capsys):
    pytest.importorskip("haystack_integrations.components.readers.transformers")
    names = {}
    for program, text in zip(programs("From Haystack"), texts("From Haystack"), strict=True):
        bundle = program.replace("models/exported/minilm-l6-squad2", str(bundled_bundle))
        exec(bundle.replace("models/minilm-l6-squad2", str(MINILM)), names)
        assert capsys.readouterr().out == text
