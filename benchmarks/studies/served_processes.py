"""Memory of the processes of ``fastspan serve --workers``: with one copy of the weights, and with one each.

Processes that run for latency load a copy each; with one thread they compute as those that share one.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fastspan.benchmarks.serving.load import fetch
from fastspan.benchmarks.serving.measure import bodies

__all__ = ["main"]

_KINDS = ("Rss", "Pss", "Private_Dirty")
_ADDRESS = re.compile(r"at (http://127\.0\.0\.1:\d+);")


def main(arguments: Sequence[str] | None = None) -> int:
    """Start processes, ask them, and print what each holds, in megabytes, as a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--questions", type=int, default=60)
    options = parser.parse_args(arguments)
    print(f"| weights | process | {' | '.join(_KINDS)} |\n|---|---|{'---:|' * len(_KINDS)}")
    for variant in ("int8", "fp32"):
        for mode, copies in (("throughput", "one copy"), ("latency", "a copy each")):
            words = ["--variant", variant, "--optimize-for", mode, "--workers", str(options.workers)]
            with _served([options.bundle, *words]) as (address, process):
                for body in bodies()[: options.questions]:
                    fetch(f"{address}/answer", body)
                _print(f"{variant}, {copies}", process)
    return 0


@contextmanager
def _served(words: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Start the service; yields its address and its first process."""
    command = [sys.executable, "-m", "fastspan", "serve", *words, "--threads", "1", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            said = process.stderr.readline()
            found = _ADDRESS.search(said)
            if found is None:
                raise SystemExit(said + process.stderr.read())
            yield found[1], process.pid
        finally:
            process.terminate()


def _print(name: str, first: int) -> None:
    others = Path(f"/proc/{first}/task/{first}/children").read_text(encoding="ascii").split()
    held = {"first": _held(first), **{f"answering {n}": _held(int(pid)) for n, pid in enumerate(others, 1)}}
    held["together"] = [sum(column) for column in zip(*held.values(), strict=True)]
    for process, megabytes in held.items():
        print(f"| {name} | {process} | {' | '.join(f'{number:.0f}' for number in megabytes)} |", flush=True)


def _held(process: int) -> list[float]:
    text = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii")
    return [int(re.findall(rf"^{kind}: +(\d+) kB$", text, re.MULTILINE)[0]) * 1024 / 1e6 for kind in _KINDS]


if __name__ == "__main__":
    sys.exit(main())
