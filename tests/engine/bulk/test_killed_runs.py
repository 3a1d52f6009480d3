"""A run that is killed, wherever that is, loses no row and writes none twice."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastspan.cli.main import main
from support.paths import PROGRAMS

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked and killed")

RUNS = PROGRAMS / "bulk_runs.py"


def rows_of(count: int) -> list[dict[str, object]]:
    """Rows that tell apart; every 50th is refused by the worker, and every 70th, but in CSV, before."""
    return [
        {
            "number": n,
            "question": "refuse" if n % 50 == 49 else ("" if n % 70 == 69 else f"What is {n}?"),
            "context": None if n % 70 == 69 else f"Text {n}.\n{'é' * (n % 13)}",
        }
        for n in range(count)
    ]


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
    else:
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=37)
    return path


def numbers(path: Path) -> list[int]:
    """The rows of an output, as the column that was carried to it says, and as they were numbered."""
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    elif path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    else:
        rows = pytest.importorskip("pyarrow.parquet").read_table(path).to_pylist()
    assert [int(row["row"]) for row in rows] == [int(row["number"]) for row in rows]
    assert all(row["answer"] == f"What is {row['number']}?" for row in rows)
    return [int(row["number"]) for row in rows]


def rejected(path: Path) -> list[int]:
    lines = path.with_name(f"{path.name}.rejects.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["row"] for line in lines]


def runs(*arguments: object) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, RUNS, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("suffix", "kills", "count"), [(".jsonl", 20, 3200), (".csv", 8, 1400), (".parquet", 8, 1400)]
)
def test_killed_at_random_moments_every_row_is_there_once_and_in_order(tmp_path, suffix, kills, count):
    source = write(tmp_path / f"in{suffix}", rows_of(count))
    out = tmp_path / f"out{suffix}"
    found = runs(source, out, "moments", kills)
    assert found == {"killed": kills, "lives": kills + 1, "status": 0}
    good = numbers(out)
    assert good == sorted(set(good))
    refused = rejected(out)
    assert refused == sorted(set(refused))
    assert sorted([*good, *refused]) == list(range(count))
    assert not out.with_name(f"{out.name}.partial").exists()


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_killed_before_any_change_of_the_file_system_the_next_run_makes_the_same_files(tmp_path, suffix):
    source = write(tmp_path / f"in{suffix}", rows_of(75))
    found = runs(source, tmp_path / f"out{suffix}", "steps")
    assert found["outcomes"] == 1
    assert found["steps"] > 20


def test_the_command_goes_on_where_it_was_killed_and_its_workers_end_with_it(tiny_bundle, tmp_path):
    rows = [{"question": "who built it?", "context": f"rollo built tower {n} " * 15} for n in range(2000)]
    source, out, whole = write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl", tmp_path / "whole.jsonl"
    command = [sys.executable, "-m", "fastspan", "bulk", source]
    options = ["--bundle", tiny_bundle, "--variant", "fp32", "--workers", "2", "--threads", "1"]
    state = tmp_path / "out.jsonl.partial" / "state.json"
    first = subprocess.Popen([*command, out, *options], stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and first.poll() is None:
            if state.exists() and json.loads(state.read_text())["rows"]:
                break
            time.sleep(0.02)
        children = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(first.pid)], capture_output=True, text=True, check=False
        ).stdout.split()
        first.send_signal(signal.SIGKILL)
        assert first.wait(20) == -signal.SIGKILL
    finally:
        first.kill()
        first.communicate()
    assert 0 < json.loads(state.read_text())["rows"] < len(rows)
    assert not out.exists()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < deadline, "workers outlived the command"
        time.sleep(0.05)
    options[options.index("--workers") + 1] = "1"
    for target in (out, whole):
        assert main(["bulk", str(source), str(target), *map(str, options)]) == 0
    assert out.read_bytes() == whole.read_bytes()
    assert len(out.read_text(encoding="utf-8").splitlines()) == len(rows)
