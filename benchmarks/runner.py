"""Whole systems side by side: each in a process of its own, sampled in turns A B A B, stopped in between.

A machine is never equally fast for long, so systems measured one after the other are measured on different
machines. Here every round asks each system in turn. While one answers, the others are stopped (SIGSTOP):
their idle threads, which in most runtimes spin for a while after a run, get no core. Each sample records the
processor time that the stopped ones used all the same, and what everything else on the machine used.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from fastspan.errors import FastSpanError, MissingDependency

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["PeerError", "PeerProcess", "Rounds", "Turn", "interleave"]

_WORKER = "fastspan.benchmarks.peers.worker"
_END_S = 10.0


class PeerError(FastSpanError):
    """A peer's process failed, ended or did not answer in time; the message says what it said last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """How often everything is asked.

    Attributes:
        least: Rounds to take whatever they cost.
        most: Rounds to take if there is time.
        seconds: Begin no further round after so long, once the least are taken.
        per_turn: Recorded runs of a turn.
        unrecorded: Runs before these, which find the processor's caches full of another system's data.
        warmups: Runs of each system before the first round.
    """

    least: int
    most: int
    seconds: float
    per_turn: int = 1
    unrecorded: int = 0
    warmups: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one system took when its turn came.

    Attributes:
        peer: Its name.
        round: The number of the round, from 0.
        seconds: Wall-clock seconds of each recorded run.
        cpu_seconds: Processor seconds of each, over all of the process's threads.
        stopped_cpu_seconds: Processor seconds that the stopped systems used meanwhile.
        background: Processors' worth of work that the rest of the machine did meanwhile.
    """

    peer: str
    round: int
    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...]
    stopped_cpu_seconds: float
    background: float


class PeerProcess:
    """A system in a process of its own, stopped except while it answers.

    Args:
        name: Its name.
        python: Interpreter of its environment.
        module: Its module in ``fastspan.benchmarks.peers``.
        job: What it is to load, as ``Job.to_json`` gives it.
        log: File for whatever it prints.
        load_timeout: Seconds that loading may take; the first time, some peers quantize a model.
        worker: Module to run.

    Attributes:
        usable: Whether it can be asked anything further.
        start_seconds: From starting the process until it was loaded.
        load_seconds: Loading alone.
        description: What runs, name → value.

    Raises:
        PeerError: It does not start, or loading fails.
    """

    def __init__(
        self,
        name: str,
        *,
        python: str,
        module: str,
        job: Mapping[str, Any],
        log: Path,
        load_timeout: float = 900.0,
        worker: str = _WORKER,
    ) -> None:
        self.name = name
        self._log = log
        self.usable = True
        ours, theirs = Pipe()
        self._pipe: Connection = ours
        began = time.perf_counter()
        with log.open("wb") as output, theirs:
            self._process = subprocess.Popen(
                [python, "-m", worker, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # A group of its own, so that its children are stopped and ended with it.
                start_new_session=True,
            )
        try:
            loaded = self.ask("load", timeout=load_timeout, module=module, job=dict(job))
        except BaseException:
            self.close()
            raise
        self.start_seconds = time.perf_counter() - began
        self.load_seconds = float(loaded["seconds"])
        self.description: dict[str, str] = loaded["description"]

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def ask(self, do: str, *, timeout: float = 600.0, **arguments: Any) -> dict[str, Any]:
        """Let it run, send a request, wait for the answer, and stop it again.

        Raises:
            PeerError: It failed, ended, or did not answer within ``timeout`` seconds.
        """
        self._signal(signal.SIGCONT)
        try:
            self._pipe.send_bytes(json.dumps({"do": do, **arguments}).encode())
            if not self._pipe.poll(timeout):
                # Its answer may still come, and would be taken for that to a later request.
                self.usable = False
                raise PeerError(f"{self.name} did not answer {do!r} within {timeout:.0f} s.")
            reply: dict[str, Any] = json.loads(self._pipe.recv_bytes())
        except (EOFError, OSError) as error:
            self.usable = False
            raise PeerError(f"{self.name} ended while asked to {do}: {self._last_words()}") from error
        finally:
            self._signal(signal.SIGSTOP)
        if "error" in reply:
            raise PeerError(f"{self.name} could not {do}: {reply['error']}")
        return reply

    def cpu_seconds(self) -> float:
        """Processor seconds its process has used so far."""
        times = _psutil().Process(self.pid).cpu_times()
        return float(times.user + times.system)

    def memory(self) -> int:
        """The most memory it held resident so far, in bytes; what it holds now where that is not known."""
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii", errors="replace")
            for line in status.splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        return int(_psutil().Process(self.pid).memory_info().rss)

    def close(self) -> None:
        """End it, by force where it does not end by itself."""
        if self._process.poll() is None:
            self._signal(signal.SIGCONT)
            with contextlib.suppress(OSError):
                self._pipe.send_bytes(b'{"do": "end"}')
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_S)
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            text = self._log.read_text(encoding="utf-8", errors="replace").strip()
            if text:
                return text.splitlines()[-1][-300:]
        return "it left no message"


def interleave(
    peers: Sequence[PeerProcess],
    rounds: Rounds,
    *,
    failed: Callable[[PeerProcess, PeerError], None],
    record: Callable[[Turn], None],
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Ask every system in turns.

    The order turns by one place a round, so that none always follows the same other.

    Args:
        peers: Systems with a workload prepared.
        rounds: How often.
        failed: Told of a system that fails; it is not asked again.
        record: Given every turn, as soon as it is over.
        clock: Tells the time, in seconds.
    """
    alive = list(peers)

    def attempt(peer: PeerProcess, work: Callable[[], object]) -> None:
        try:
            work()
        except PeerError as failure:
            alive.remove(peer)
            failed(peer, failure)

    def take(peer: PeerProcess, number: int) -> None:
        record(_turn(peer, [other for other in alive if other is not peer], number, rounds))

    if rounds.warmups:
        for peer in peers:
            attempt(peer, partial(_run, peer, rounds.warmups, 0))
    began = clock()
    for number in range(rounds.most):
        if not alive or (number >= rounds.least and clock() - began > rounds.seconds):
            break
        shift = number % len(alive)
        for peer in alive[shift:] + alive[:shift]:
            attempt(peer, partial(take, peer, number))


def _run(peer: PeerProcess, unrecorded: int, times: int) -> Mapping[str, Any]:
    return peer.ask("run", unrecorded=unrecorded, times=times)


def _turn(peer: PeerProcess, others: Sequence[PeerProcess], number: int, rounds: Rounds) -> Turn:
    before = _Usage.now(peer, others)
    found = _run(peer, rounds.unrecorded, rounds.per_turn)
    after = _Usage.now(peer, others)
    elapsed = max(after.at - before.at, 1e-9)
    elsewhere = (after.machine - before.machine) - (after.peer - before.peer)
    return Turn(
        peer=peer.name,
        round=number,
        seconds=tuple(found["seconds"]),
        cpu_seconds=tuple(found["cpu_seconds"]),
        stopped_cpu_seconds=after.others - before.others,
        background=max(0.0, elsewhere / elapsed),
    )


@dataclass(frozen=True, slots=True)
class _Usage:
    """Processor seconds used so far: by a system, by the stopped ones, by the whole machine."""

    at: float
    peer: float
    others: float
    machine: float

    @classmethod
    def now(cls, peer: PeerProcess, others: Sequence[PeerProcess]) -> _Usage:
        times = _psutil().cpu_times()
        # Time that the hypervisor gave to other machines is not this one's, but it slows what is measured.
        busy = sum(getattr(times, name, 0.0) for name in ("user", "system", "irq", "softirq", "steal"))
        return cls(
            time.perf_counter(), peer.cpu_seconds(), sum(other.cpu_seconds() for other in others), busy
        )


def _psutil() -> Any:
    try:
        import psutil
    except ImportError as error:
        raise MissingDependency(
            'Measuring needs psutil: run pip install "fastspan[bench]", or `make dev`.'
        ) from error
    return psutil
