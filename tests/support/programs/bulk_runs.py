"""Answer a file again and again, each time killed; print how often, and leave what came of it.

A program of its own, because it forks: no thread of a test session may be copied into its children.

    bulk_runs.py IN OUT moments COUNT   kill so many runs, each at a random moment
    bulk_runs.py IN OUT steps           kill one run before each change that it makes to the file system
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

from fastspan.bulk import chunks, run, work_folder
from fastspan.bulk.columns import Columns
from fastspan.bulk.work_folder import rejects_beside
from fastspan.errors import InputError

CHANGES = ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "fcntl.flock")
PAUSE = 0.008


class StandIn:
    """Gives back each question, slowly; refuses those that say so."""

    ahead = 3

    def __init__(self, pause: float) -> None:
        self.pause = pause

    def start(self, pairs):
        return pairs

    def finish(self, begun):
        time.sleep(self.pause)
        return ["refused" if q in ("refuse", "") else (q, 0, len(c), 0.5, None, 1.0, -1.0) for q, c in begun]

    def close(self):
        pass


class Nobody:
    def at(self, place, rejected):
        pass


def answer(source: Path, out: Path, pause: float = 0.0):
    job = run.FileJob(source=source, out=out, rejects=rejects_beside(out), columns=Columns())
    return run.answer_file(job, lambda: StandIn(pause), lambda size, place: Nobody())


def die_at(step: int) -> None:
    """Have this process kill itself before its ``step``-th change of the file system."""
    taken = 0

    def count():
        nonlocal taken
        taken += 1
        if taken == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(event, arguments):
        writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT
        if event in CHANGES or (event == "open" and (arguments[2] or 0) & writes):
            count()

    sys.addaudithook(audit)
    os.fsync = lambda descriptor: count()


def at_moments(source: Path, out: Path, kills: int) -> dict[str, int]:
    draw = random.Random(7)
    killed = lives = 0
    while True:
        lives += 1
        child = os.fork()
        if child == 0:
            answer(source, out, PAUSE)
            os._exit(0)
        if killed < kills:
            time.sleep(draw.uniform(0.0, 0.12))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            return {"killed": killed, "lives": lives, "status": status}
        killed += 1


def at_steps(source: Path, out: Path) -> dict[str, int]:
    """Kill runs at each step, and let another one finish each; they must all make the same files."""
    made = set()
    for step in range(1, 2000):
        child = os.fork()
        if child == 0:
            die_at(step)
            answer(source, out)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        finished = not os.WIFSIGNALED(status)
        if finished and status:
            raise SystemExit(f"step {step}: the run failed by itself")
        goes_on = out.with_name(f"{out.name}.partial").joinpath("state.json").exists()
        try:
            answer(source, out)
        except InputError:
            # It was done but for clearing up, and the output lies there already.
            if goes_on or not out.exists():
                raise
        made.add((out.read_bytes(), rejects_beside(out).read_bytes()))
        left = sorted(path.name for path in out.parent.iterdir())
        if left != sorted([source.name, out.name, rejects_beside(out).name]):
            raise SystemExit(f"step {step} left {left}")
        if finished:
            return {"steps": step, "outcomes": len(made)}
        out.unlink()
        rejects_beside(out).unlink()
    raise SystemExit("no run ever finished")


if __name__ == "__main__":
    # A killed process loses nothing that it has handed to the system, so nothing need wait for the disk.
    os.fsync = lambda descriptor: None
    chunks.CHUNK_ROWS = 16
    work_folder.COMMIT_SECONDS = 0.0
    given, wanted = Path(sys.argv[1]), Path(sys.argv[2])
    shutil.rmtree(f"{wanted}.partial", ignore_errors=True)
    done = at_steps(given, wanted) if sys.argv[3] == "steps" else at_moments(given, wanted, int(sys.argv[4]))
    sys.stdout.write(json.dumps(done))
