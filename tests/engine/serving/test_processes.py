"""Several processes behind one port: they all answer, their metrics add up, and one that dies is replaced."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from support.serving.http_service import PAIR, WAIT, ask, command, raw

psutil = pytest.importorskip("psutil")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from fastspan.cli.main import main  # noqa: E402

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


def test_one_that_takes_anothers_place_needs_no_bundle_on_disk(tiny_bundle: Path, tmp_path: Path) -> None:
    """It runs what was loaded before the fork; SIGHUP, whose load fails then, leaves that as it was."""
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    with command(str(folder), "--variant", "fp32", "--threads", "1", "--workers", "2") as (process, port):
        assert ask(port, "POST", "/answer", PAIR)[0] == 200
        shutil.rmtree(folder)
        process.send_signal(signal.SIGHUP)
        first = answering(process)
        os.kill(max(first), signal.SIGKILL)
        deadline = time.monotonic() + WAIT
        while max(first) in (now := answering(process)) or len(now) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(min(first), signal.SIGSTOP)
        try:
            # Only the new one is left to answer.
            assert ask(port, "POST", "/answer", PAIR)[0] == 200
        finally:
            os.kill(min(first), signal.SIGCONT)


def test_processes_end_with_the_one_that_started_them_and_leave_nothing_behind(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    arguments = (str(tiny_bundle), "--variant", "fp32", "--threads", "1", "--workers", "2")
    with command(*arguments) as (process, port):
        assert ask(port, "POST", "/answer", PAIR)[0] == 200
        children = answering(process)
        process.kill()
        deadline = time.monotonic() + WAIT
        while any(alive(pid) for pid in children):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_loaded_starts_no_process(tmp_path: Path, capfd: Any) -> None:
    assert main(["serve", str(tmp_path / "missing"), "--workers", "2", "--port", "0"]) == 1
    assert "missing" in capfd.readouterr().err


def test_processes_that_cannot_start_are_not_started_for_ever(tmp_path: Path) -> None:
    arguments = [str(tmp_path / "missing"), "--workers", "2", "--optimize-for", "latency", "--port", "0"]
    with subprocess.Popen(
        [sys.executable, "-m", "fastspan", "serve", *arguments], stderr=subprocess.PIPE, text=True
    ) as process:
        _, said = process.communicate(timeout=WAIT)
    assert process.returncode == 1
    assert "ended soon after they began, the last with exit code 1" in said


def shared(pid: int) -> int:
    """Bytes that were written to and that another process has in memory too."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return 1024 * int(re.search(r"^Shared_Dirty: +(\d+) kB$", text, re.MULTILINE)[1])  # type: ignore[index]


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="only Linux tells what is shared")
def test_processes_share_what_was_loaded(tiny_bundle: Path) -> None:
    """What a process alone has written is nobody else's: that it is shared shows that it was inherited."""
    both = []
    for how in ("throughput", "latency"):
        arguments = (str(tiny_bundle), "--variant", "fp32", "--threads", "1", "--optimize-for", how)
        with command(*arguments, "--workers", "2") as (process, port):
            assert ask(port, "POST", "/answer", PAIR)[0] == 200
            both.append(min(shared(pid) for pid in answering(process)))
    # The tokenizer, the session and what else the load makes; with latency, Python and its modules alone.
    assert both[0] > both[1] + 4_000_000


def test_there_is_at_least_one_process(capsys: Any) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "bundle", "--workers", "0"])
    assert "--workers must be at least 1" in capsys.readouterr().err
