"""Several processes behind one port: they all answer, their metrics add up, and one that dies is replaced."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from support.http_service import PAIR, WAIT, ask, command, raw

psutil = pytest.importorskip("psutil")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from fastspan import InputError  # noqa: E402
from fastspan.cli.main import main  # noqa: E402
from fastspan.serving.processes import SOCKET_VARIABLE, inherited_socket  # noqa: E402

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows inherits no sockets")


def answering(process: Any) -> set[int]:
    return {child.pid for child in psutil.Process(process.pid).children()}


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended may wait for somebody to take note of it."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_processes_share_port_and_metrics_and_are_replaced(tiny_bundle: Path) -> None:
    arguments = (str(tiny_bundle), "--variant", "fp32", "--threads", "1", "--workers", "2")
    with command(*arguments) as (process, port):
        deadline = time.monotonic() + WAIT
        while len(first := answering(process)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        for _ in range(12):
            assert ask(port, "POST", "/answer", PAIR)[0] == 200
        counts = re.findall(
            r'^fastspan_requests_total\{.*status="200"\} (\S+)$',
            raw(port, "GET", "/metrics")[2].decode(),
            re.MULTILINE,
        )
        assert sum(map(float, counts)) == 12
        killed = min(first)
        os.kill(killed, signal.SIGKILL)
        while killed in answering(process) or len(answering(process)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert ask(port, "POST", "/answer", PAIR)[0] == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT) == 0
        assert f"process {killed} ended with exit code -9" in process.stderr.read()
    assert not any(alive(pid) for pid in first)


def test_processes_end_with_the_one_that_started_them(tiny_bundle: Path) -> None:
    arguments = (str(tiny_bundle), "--variant", "fp32", "--threads", "1", "--workers", "2")
    with command(*arguments) as (process, port):
        assert ask(port, "POST", "/answer", PAIR)[0] == 200
        children = answering(process)
        process.kill()
        deadline = time.monotonic() + WAIT
        while any(alive(pid) for pid in children):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_processes_that_cannot_start_are_not_started_for_ever(tmp_path: Path, capfd: Any) -> None:
    assert main(["serve", str(tmp_path / "missing"), "--workers", "2", "--port", "0"]) == 1
    assert "ended soon after they began, the last with exit code 1" in capfd.readouterr().err


def test_an_inherited_socket_must_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SOCKET_VARIABLE, raising=False)
    assert inherited_socket() is None
    for named in ("9999", "none"):
        monkeypatch.setenv(SOCKET_VARIABLE, named)
        with pytest.raises(InputError, match="no open socket"):
            inherited_socket()


def test_there_is_at_least_one_process(capsys: Any) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "bundle", "--workers", "0"])
    assert "--workers must be at least 1" in capsys.readouterr().err
