"""What importing and using fastspan loads, each time in a fresh interpreter."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from support.paths import ROOT

HEAVY = {
    *("torch", "transformers", "onnx", "huggingface_hub", "safetensors", "optimum", "onnxruntime"),
    *("matplotlib", "rich", "requests", "httpx"),
    *("starlette", "uvicorn", "prometheus_client", "opentelemetry"),
}
# The distributions that the engine is made of; whatever else is not Python's own would be a new dependency.
ALLOWED = {"fastspan", "numpy", "tokenizers"}

LIST = """
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules} - before)))
print(json.dumps(sorted(name for name in sys.modules if name.startswith("fastspan."))))
print(f"imported in {time.perf_counter() - began:.3f} s")
"""
BEGIN = """
import json, sys, time
before = {name.partition(".")[0] for name in sys.modules} | set(sys.stdlib_module_names)
began = time.perf_counter()
"""


def modules_after(code: str) -> tuple[set[str], set[str], str]:
    """Top-level modules that are not Python's own, fastspan's modules, and how long it took."""
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + code + LIST], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    top, ours, time = done.stdout.strip().splitlines()[-3:]
    return set(json.loads(top)), set(json.loads(ours)), time


def test_importing_loads_nothing_heavy() -> None:
    top, ours, time = modules_after("import fastspan")
    assert not top & HEAVY, time
    assert top <= ALLOWED | {name for name in top if name.startswith("_")}, time
    for stage in ("export", "benchmarks", "serving", "commands", "cli"):
        assert not any(name.split(".")[1] == stage for name in ours), stage


def test_answering_needs_numpy_tokenizers_and_onnxruntime(tiny_bundle: Path) -> None:
    code = f"""
from fastspan import QuestionAnswerer
with QuestionAnswerer.load({str(tiny_bundle)!r}, variant="fp32") as qa:
    qa.answer("who built the tower", "the norse built the tower")
"""
    top, _, time = modules_after(code)
    assert "onnxruntime" in top
    assert not top & (HEAVY - {"onnxruntime"}), time


def test_every_room_of_the_house_is_held_to_its_floor() -> None:
    """A room that no contract names could import torch, or the floor above it, unseen."""
    rooms = {f"fastspan.{path.stem}" for path in (ROOT / "engine").iterdir() if path.suffix == ".py"}
    rooms |= {f"fastspan.{path.parent.name}" for path in (ROOT / "engine").glob("*/__init__.py")}
    rooms -= {"fastspan.__init__", "fastspan.__main__"}
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (layers,) = re.findall(r"^layers = (\[.*?\])", text, flags=re.DOTALL | re.MULTILINE)
    assert set(re.findall(r"[\w.]+", layers)) == rooms | {"fastspan.export", "fastspan.benchmarks"}
    light = re.findall(r"source_modules = (\[.*?\])", text)[-1]
    # What starts the commands may import anything, inside a command's run.
    assert set(re.findall(r'"([^"]+)"', light)) == rooms - {"fastspan.cli"}
