"""The engine's parts on their own: runs pytest-benchmark, and reads the baselines it saves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from fastspan.benchmarks.paths import ROOT
from fastspan.benchmarks.speed.record import Part
from fastspan.errors import DataError

__all__ = ["measure_parts", "read_parts"]

_TESTS = ROOT / "tests" / "benchmarks" / "speed" / "test_engine_parts_speed.py"
_TIMEOUT_S = 1200


def measure_parts(storage: Path, *, quick: bool) -> tuple[Part, ...]:
    """Measure the parts, save the result as a further baseline, and compare with the one before.

    Args:
        storage: Folder of the baselines.
        quick: Measure each part for a shorter time.

    Raises:
        DataError: pytest failed, which the message has the last words of, or took too long.
    """
    try:
        done = _run_pytest(storage, "0.3" if quick else "2")
    except subprocess.TimeoutExpired as error:
        raise DataError(f"The parts could not be measured within {_TIMEOUT_S} s.") from error
    if done.returncode:
        words = " ".join((done.stdout + done.stderr).strip().splitlines()[-3:])
        raise DataError(f"The parts could not be measured: {words}")
    return read_parts(storage)


def _run_pytest(storage: Path, seconds: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable, "-m", "pytest", str(_TESTS), "--override-ini=addopts=", "--benchmark-only", "-q",
            f"--benchmark-storage=file://{storage}", "--benchmark-autosave", "--benchmark-warmup=on",
            f"--benchmark-max-time={seconds}", "--benchmark-min-rounds=5", "--benchmark-disable-gc",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )  # fmt: skip


def read_parts(storage: Path) -> tuple[Part, ...]:
    """Read the newest baseline, compared with the one before it; nothing where there is none.

    Each kind of machine and Python has a folder of its own, and is compared with itself only.
    """
    files = sorted(storage.glob("*/*.json"), key=lambda path: path.stat().st_mtime)
    if not files:
        return ()
    newest = files[-1]
    earlier = sorted(path for path in newest.parent.glob("*.json") if path.name < newest.name)
    before = _medians(earlier[-1]) if earlier else {}
    return tuple(
        Part(
            name=record["name"].removeprefix("test_").replace("_", " "),
            median=stats["median"],
            iqr=stats["iqr"],
            rounds=stats["rounds"],
            baseline=before.get(record["name"]),
        )
        for record in _benchmarks(newest)
        for stats in (record["stats"],)
    )


def _medians(path: Path) -> dict[str, float]:
    return {record["name"]: record["stats"]["median"] for record in _benchmarks(path)}


def _benchmarks(path: Path) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["benchmarks"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} is no baseline of pytest-benchmark ({error}); remove it.") from error
    return found
