"""Loading and pushing work with the newest huggingface_hub as with the one of the plain environment."""

from __future__ import annotations

import subprocess
import sys

import pytest

from support.paths import ROOT

huggingface_hub = pytest.importorskip("huggingface_hub", minversion="2")


@pytest.mark.parametrize(
    "tests", ["export/hub", "engine/bundle/test_hub_loading.py", "export/test_on_demand.py"]
)
def test_the_suite_of_the_hub(tests: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"tests/{tests}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert "passed" in done.stdout
