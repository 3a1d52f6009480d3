"""The real worker process with a made-up peer, whose behaviour its options name."""

from __future__ import annotations

import os
import sys
import threading
import time
import types

from fastspan.benchmarks.peers import worker


class FakePeer:
    def __init__(self, behaviour):
        self.behaviour = behaviour
        self.runs = 0

    def describe(self):
        return {"behaviour": self.behaviour}

    def prepare(self, workload):
        return "1"

    def run(self, workload):
        self.runs += 1
        if self.behaviour == "spins" and self.runs == 1:
            threading.Thread(target=spin, daemon=True).start()
        elif self.behaviour == "sleeps":
            time.sleep(0.3)
        elif self.behaviour == "raises later" and self.runs > 2:
            raise RuntimeError("broke on purpose")
        elif self.behaviour == "dies":
            print("last words", flush=True)
            os._exit(3)
        elif self.behaviour == "hangs":
            time.sleep(60)
        return ["answer"] * workload.questions


def spin():
    while True:
        pass


def load(job):
    if job.options["behaviour"] == "cannot load":
        raise ValueError("no such model")
    return FakePeer(job.options["behaviour"])


if __name__ == "__main__":
    module = types.ModuleType("fake")
    module.load = load
    sys.modules["fastspan.benchmarks.peers.systems.fake"] = module
    worker.main(sys.argv[1:])
