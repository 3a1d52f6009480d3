"""The lock excludes others for as long as its holder lives, and no longer."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fastspan.bundle.beside import file_lock
from fastspan.bundle.beside.file_lock import FileLock

HOLD = """
import sys, time
from pathlib import Path
from fastspan.bundle.beside.file_lock import FileLock
lock = FileLock.take(Path(sys.argv[1]))
print("held" if lock else "refused", flush=True)
time.sleep(600)
"""
COUNT = """
import sys
from pathlib import Path
from fastspan.bundle.beside.file_lock import FileLock
lock, counter = Path(sys.argv[1]), Path(sys.argv[2])
for _ in range(50):
    with FileLock.take(lock, wait=300):
        counter.write_text(str(int(counter.read_text()) + 1))
"""


def test_one_holder_at_a_time(tmp_path):
    path = tmp_path / "lock"
    with FileLock.take(path):
        assert FileLock.take(path) is None
        assert FileLock.take(path, wait=0.05) is None
    assert not path.exists()
    with FileLock.take(path):
        assert path.exists()


def test_a_file_that_a_dead_holder_left_excludes_nobody(tmp_path):
    (tmp_path / "lock").write_text("")
    with FileLock.take(tmp_path / "lock"):
        pass
    assert not (tmp_path / "lock").exists()


def test_a_file_that_was_removed_before_it_could_be_locked_is_not_relied_on(tmp_path, monkeypatch):
    path = tmp_path / "lock"
    try_lock = file_lock._try_lock
    removals = iter([path.unlink])

    def removed_meanwhile(descriptor):
        next(removals, lambda: None)()
        return try_lock(descriptor)

    monkeypatch.setattr(file_lock, "_try_lock", removed_meanwhile)
    with FileLock.take(path, wait=60):
        assert path.exists()
        assert FileLock.take(path) is None


def test_a_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        FileLock.take(tmp_path / "nothing" / "lock")


def test_the_folder_may_go_while_the_lock_is_held(tmp_path):
    (tmp_path / "folder").mkdir()
    with FileLock.take(tmp_path / "folder" / "lock"):
        (tmp_path / "folder" / "lock").unlink()
        (tmp_path / "folder").rmdir()


def test_death_frees_the_lock(tmp_path):
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        assert FileLock.take(path) is None
        holder.kill()
        holder.wait()
    with FileLock.take(path):
        pass


@pytest.mark.stress
def test_many_processes_exclude_each_other(tmp_path):
    counter = tmp_path / "counter"
    counter.write_text("0")
    workers = [subprocess.Popen([sys.executable, "-c", COUNT, tmp_path / "lock", counter]) for _ in range(4)]
    assert [worker.wait(timeout=300) for worker in workers] == [0] * 4
    assert counter.read_text() == "200"
    assert not (tmp_path / "lock").exists()
