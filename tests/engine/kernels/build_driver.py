"""Builds the kernels' test driver into a folder, for this machine or another, under sanitizers or not."""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "engine" / "kernels"))
SANITIZE = "-O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer"


def main() -> None:
    """Compile every source with the flags that the package is built with, and the driver."""
    from build_kernels import flags, sources

    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--compiler", default="c++")
    parser.add_argument("--machine", default=platform.machine().lower())
    parser.add_argument("--sanitize", action="store_true")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    extra = [*(SANITIZE.split() if asked.sanitize else []), "-Wall", "-Wextra", "-Werror", "-Wno-psabi"]
    # GCC 12 takes what its own AVX-512 header leaves undefined for a mistake.
    extra += ["-Wno-uninitialized", "-Wno-maybe-uninitialized"]
    driver = Path(__file__).with_name("driver.cpp")

    def compiled(source: Path, chosen: list[str]) -> str:
        made = asked.out / f"{source.stem}.o"
        command = [asked.compiler, *chosen, *extra, "-c", str(source), "-o", str(made)]
        subprocess.run(command, check=True)
        return str(made)

    without_runtime = [source for source in sources() if source.name != "operator.cpp"]
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(compiled, source, chosen)
            for source in [*without_runtime, driver]
            if (chosen := flags(source, asked.machine)) is not None
        ]
        objects = [job.result() for job in jobs]
    link = [asked.compiler, *extra, *objects, "-o", str(asked.out / "driver"), "-lpthread"]
    subprocess.run(link, check=True)


if __name__ == "__main__":
    main()
