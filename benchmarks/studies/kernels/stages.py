"""A build of the int8 kernels that counts where their time goes, and what it counts.

It is compiled from the sources beside it, for this study alone: the installed library counts nothing.
"""

from __future__ import annotations

import ctypes
import hashlib
import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fastspan.benchmarks.paths import ROOT
from fastspan.errors import MissingDependency
from fastspan.kernels.build_kernels import KERNELS, flags, sources
from fastspan.machine.cpu import cpu_features
from fastspan.runtime.providers import import_onnxruntime

__all__ = ["STAGES", "CountingKernels", "counting_kernels"]

STAGES = (
    "waiting for other threads",
    "products of linear layers",
    "their floats, activations",
    "attention's products",
    "softmax",
    "normalization, residual",
    "rounding",
    "everything else",
)
"""What the kernels count apart, in the order of ``encoder/stages.h``."""


class CountingKernels:
    """The counting library.

    Args:
        file: The compiled library.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._library = ctypes.CDLL(str(file))
        self._library.fastspan_kernels_product_rate.argtypes = [ctypes.c_char_p, ctypes.c_double]
        self._library.fastspan_kernels_product_rate.restype = ctypes.c_double
        self._library.fastspan_kernels_take_stage_ticks.restype = None

    def peak(self, path: str, threads: int, seconds: float = 0.02, tries: int = 30) -> float:
        """Operations a second of a path's product where nothing waits for memory, on so many threads at once.

        A product of (m, k) by (k, n) is 2 · m · k · n operations. The best of all tries, because whatever
        else the machine does makes it only slower. 0 where the path cannot run here.
        """
        rate = self._library.fastspan_kernels_product_rate
        with ThreadPoolExecutor(threads) as pool:
            return max(
                sum(pool.map(lambda _: float(rate(path.encode(), seconds)), range(threads)))
                for _ in range(tries)
            )

    def shares(
        self, graph: Path, feeds: Mapping[str, Any], path: str, *, threads: int, runs: int
    ) -> dict[str, float]:
        """Run a graph and return the share of each stage in its threads' time.

        Args:
            graph: A graph of the kernels' operator.
            feeds: Its inputs.
            path: Which instructions run it.
            threads: Threads of a run.
            runs: How many runs count; as many go before them.
        """
        ort = import_onnxruntime()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("fastspan.kernel_threads", str(threads))
        options.add_session_config_entry("fastspan.kernel_path", path)
        options.register_custom_ops_library(str(self._file))
        session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        ticks = (ctypes.c_ulonglong * len(STAGES))()
        for _ in range(2):
            self._library.fastspan_kernels_take_stage_ticks(ticks)
            for _ in range(runs):
                session.run(None, feeds)
        self._library.fastspan_kernels_take_stage_ticks(ticks)
        whole = max(1, sum(ticks))
        return {stage: count / whole for stage, count in zip(STAGES, ticks, strict=True)}


def counting_kernels(
    folder: Path = ROOT / "build" / "kernels" / "counting", *, sources: Callable[[], list[Path]] = sources
) -> CountingKernels:
    """Compile the counting library, where it is not there for these sources yet.

    Args:
        folder: Where it is kept.
        sources: Returns the kernels' sources.

    Raises:
        MissingDependency: There is no compiler, or there are no sources.
    """
    machine = cpu_features().machine
    chosen = {source: found for source in sources() if (found := flags(source, machine)) is not None}
    digest = hashlib.sha256()
    for file in sorted(path for kind in ("*.cpp", "*.h", "build_kernels.py") for path in KERNELS.rglob(kind)):
        digest.update(file.read_bytes())
    library = folder / f"counting-{digest.hexdigest()[:16]}.so"
    if not library.exists():
        if not chosen:
            raise MissingDependency("The kernels' sources are not here: run this in a checkout of FastSpan.")
        folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(2) as pool:
            objects = list(pool.map(lambda source: _compiled(source, chosen[source], folder), chosen))
        _run(["c++", "-shared", *objects, "-o", str(library), "-lpthread"])
    return CountingKernels(library)


def _compiled(source: Path, chosen: Sequence[str], folder: Path) -> str:
    made = str(folder / f"{source.stem}.o")
    _run(["c++", *chosen, "-DFS_STAGES", "-c", str(source), "-o", made])
    return made


def _run(command: Sequence[str]) -> None:
    try:
        subprocess.run(command, capture_output=True, text=True, check=True)
    except FileNotFoundError as error:
        raise MissingDependency("Counting stages needs a C++ compiler, c++: install one.") from error
    except subprocess.CalledProcessError as error:
        message = error.stderr.strip().splitlines()
        raise MissingDependency(
            f"This C++ compiler cannot compile the kernels ({message[0] if message else error}): "
            "install GCC 12 or Clang 15."
        ) from error
