"""Run a bundle writer again and again, each time killed one step later; report what each kill left.

A program of its own, because it forks: no thread of a test session may be copied into its children.

    kill_at_step.py FOLDER new|exchange|aside|update   print a JSON list, one object for each kill
    kill_at_step.py FOLDER export NAME COUNT           export a bundle of that name so many times
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

from fastspan.bundle.folder import Bundle
from fastspan.bundle.manifest import NoAnswer
from fastspan.export.publishing import placing
from fastspan.export.publishing.bundle_writer import update_manifest, write_bundle

# It is run by itself, without the path that pytest makes.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from support.bundles.tiny_manifest import tiny_graph, tiny_manifest, tiny_variant

CHANGES = ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "fcntl.flock")

# A killed process loses nothing that it has handed to the system, so nothing need wait for the disk.
os.fsync = lambda descriptor: None


def manifest_named(name):
    graph = tiny_graph(data=("onnx/model.onnx_data",))
    return tiny_manifest(tiny_variant("fp32", graph), name=name)


def fill(folder, name):
    """Write a bundle's files, each in two goes so that a kill can fall between them."""
    (folder / "onnx").mkdir()
    for path in ("config.json", "tokenizer.json", "onnx/model.onnx", "onnx/model.onnx_data"):
        data = f"{path} of {name} ".encode() * 50
        descriptor = os.open(folder / path, os.O_WRONLY | os.O_CREAT)
        os.write(descriptor, data[:300])
        os.write(descriptor, data[300:])
        os.close(descriptor)


def export(destination, name):
    with write_bundle(destination) as draft:
        fill(draft.folder, name)
        draft.commit(manifest_named(name))


def recalibrate(destination):
    manifest = Bundle.open(destination).manifest
    update_manifest(destination, replace(manifest, no_answer=NoAnswer(threshold=1.0)))


def die_at(step, destination):
    """Have this process kill itself, as the power might, before its ``step``-th change of the file system."""
    taken = 0

    def count():
        nonlocal taken
        taken += 1
        if taken == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(event, arguments):
        if event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            count()
            path = Path(os.fsdecode(arguments[0]))
            if destination in path.parents and not path.name.startswith("."):
                # A reader would see the file half written.
                os._exit(1)
        elif event in CHANGES:
            count()

    def before(action):
        def counted(*arguments):
            count()
            return action(*arguments)

        return counted

    sys.addaudithook(audit)
    os.write = before(os.write)
    os.fsync = before(os.fsync)
    placing.exchange = before(placing.exchange)


def state(destination):
    """What lies at the destination: nothing, a whole bundle's name and threshold, or what is wrong."""
    if not destination.exists():
        return "absent"
    try:
        bundle = Bundle.open(destination)
        bundle.verify_all()
    except Exception as error:
        return f"broken: {error}"
    return f"{bundle.manifest.name} {bundle.manifest.no_answer.threshold}"


def run(folder, scenario):
    destination = folder / "model"
    export(folder / "old", "old")
    found = []
    for step in range(1, 500):
        shutil.rmtree(destination, ignore_errors=True)
        if scenario != "new":
            shutil.copytree(folder / "old", destination)
        child = os.fork()
        if child == 0:
            if scenario == "aside":
                placing.exchange = lambda one, other: False
            die_at(step, destination)
            if scenario == "update":
                recalibrate(destination)
            else:
                export(destination, "new")
            os._exit(0)
        _, status = os.waitpid(child, 0)
        finished = status == 0
        if not finished and not os.WIFSIGNALED(status):
            raise SystemExit(f"step {step}: the writer failed by itself")
        entry = {"step": step, "finished": finished, "found": state(destination)}
        # Whoever writes next finds its way and leaves nothing else behind.
        if scenario == "update":
            recalibrate(destination)
        else:
            export(destination, "next")
        entry["after"] = state(destination)
        entry["left"] = sorted(path.name for path in [*folder.iterdir(), *destination.glob(".*")])
        found.append(entry)
        if finished:
            return found
    raise SystemExit("the writer never finished")


if __name__ == "__main__":
    place = Path(sys.argv[1])
    if sys.argv[2] == "export":
        for _ in range(int(sys.argv[4])):
            export(place / "model", sys.argv[3])
    else:
        sys.stdout.write(json.dumps(run(place, sys.argv[2])))
