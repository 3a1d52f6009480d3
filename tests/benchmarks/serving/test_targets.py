"""Each service that is compared starts, answers the same, and is gone afterwards."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from support.serving.http_service import CONTEXT, LONG_CONTEXT, QUESTION

pytest.importorskip("aiohttp")
pytest.importorskip("uvicorn")

from fastspan.benchmarks.peers.environments import PROJECT
from fastspan.benchmarks.serving.load import ServiceError, fetch
from fastspan.benchmarks.serving.suite import main
from fastspan.benchmarks.serving.targets import TARGETS, started
from fastspan.cli.main import main as command_line


def answers(address: str) -> list[Any]:
    found = []
    for context in (CONTEXT, LONG_CONTEXT):
        body = json.dumps({"question": QUESTION, "context": context}).encode()
        status, content = fetch(f"{address}/answer", body)
        assert status == 200
        found.append(json.loads(content)["answers"][0]["text"])
    return found


def test_they_all_answer_the_same(tiny_bundle: Path) -> None:
    found = {}
    for name, target in TARGETS.items():
        if target.environment != PROJECT or (target.needs and find_spec(target.needs) is None):
            continue
        with started(name, str(tiny_bundle), 1) as address:
            found[name] = answers(address)
        with pytest.raises(ServiceError, match="cannot be reached"):
            fetch(f"{address}/answer")
    assert len(found) >= 2
    assert all(texts == found["FastSpan"] for texts in found.values())


def test_one_that_cannot_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(ServiceError, match=r"ended before it answered: .*missing"),
        started("FastSpan", str(tmp_path / "missing"), 1),
    ):
        pass


@pytest.mark.stress
def test_the_suite_measures_them_and_writes_the_report(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    asked = [{"question": QUESTION, "context": text, "answers": []} for text in (CONTEXT, LONG_CONTEXT) * 8]
    (tmp_path / "asked.jsonl").write_text("\n".join(map(json.dumps, asked)), encoding="utf-8")
    arguments = [
        str(tiny_bundle),
        "--data",
        str(tmp_path / "asked.jsonl"),
        "--seconds",
        "0.2",
        "--services",
        "FastSpan",
        "--shares",
        "1",
        "--threads",
        "1",
        "--out",
        str(tmp_path),
    ]
    assert main(arguments) == 0
    written = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [path.name for path in written] == ["serving.md", "serving.html"]
    record = json.loads((written[0].parent / "serving.json").read_text(encoding="utf-8"))
    loads = [[point["offered"] for point in target["points"]] for target in record["targets"]]
    assert all(one == loads[0] for one in loads)
    assert record["beside"]["service_per_second"] > 0
    assert main([*arguments, "--report-only"]) == 0
    assert main([*arguments, "--services", "nothing of that name"]) == 1
    assert "No service was measured" in capsys.readouterr().err


def test_the_command_measures_a_running_service(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with started("FastSpan", str(tiny_bundle), 1) as address:
        assert command_line(["bench-serve", address, "--loads", "20,5", "--seconds", "0.3", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert [point["offered"] for point in found["points"]] == [5.0, 20.0]
        assert command_line(["bench-serve", address, "--loads", "5", "--seconds", "0.3"]) == 0
        assert "goodput" in capsys.readouterr().out
    assert command_line(["bench-serve", address]) == 1
    assert "cannot be reached" in capsys.readouterr().err
    for wrong in (["bench-serve", "localhost:8080"], ["bench-serve", address, "--loads", "5,-1"]):
        with pytest.raises(SystemExit):
            command_line(wrong)
