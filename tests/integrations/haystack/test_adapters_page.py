"""The example for Haystack in docs/adapters.md runs."""

from __future__ import annotations

import re

import pytest

from support.paths import ROOT

PAGE = (ROOT / "docs" / "adapters.md").read_text(encoding="utf-8")


def test_the_example_runs(bundled_bundle, capsys, monkeypatch):
    monkeypatch.setenv("HAYSTACK_TELEMETRY_ENABLED", "False")
    pytest.importorskip("haystack")
    first, *_, last = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert "FastSpanExtractiveReader" in last
    (passage,) = re.findall(r"^passage = .*$", first, re.MULTILINE)
    exec(f"{passage}\n{last}".replace("models/exported/minilm-l6-squad2", str(bundled_bundle)), {})
    assert capsys.readouterr().out.splitlines()[-1] == "1843"
