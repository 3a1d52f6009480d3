"""The pandas UDF of docs/scale.md, on a real Spark of this machine."""

from __future__ import annotations

import re
import shutil
import sys

import pytest

pytest.importorskip("pyspark")

from support.paths import EXPORTED_MINILM, ROOT

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # Spark's own
    pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java"),
    pytest.mark.skipif(not EXPORTED_MINILM.exists(), reason="needs the exported bundle"),
]


def test_the_example_of_the_page_runs(capsys, monkeypatch):
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    (example,) = [
        block
        for block in re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        if "pyspark" in block
    ]
    names: dict[str, object] = {"__name__": "__main__"}
    exec(example.replace("models/exported/minilm-l6-squad2", str(EXPORTED_MINILM)), names)
    try:
        assert capsys.readouterr().out.splitlines()[-1] == "[Row(answer='Rollo'), Row(answer=None)]"
    finally:
        names["spark"].stop()
