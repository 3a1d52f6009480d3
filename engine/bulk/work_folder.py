"""What a run leaves on disk until it is done: answers and rejects so far, and how far that is.

``OUT.partial`` holds both and ``state.json``. A commit brings the files to disk, then replaces the state
in one step. What lies in the files behind the last commit is cut off when the run goes on. So a row's answer
is written once, wherever the run was killed.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO

from fastspan.bulk.chunks import Place
from fastspan.bulk.run_state import STATE_FORMAT, RunState
from fastspan.bundle.beside.file_lock import FileLock
from fastspan.errors import InputError

__all__ = ["Counts", "WorkFolder", "rejects_beside"]

_ANSWERS, _REJECTS, _STATE, _LOCK = "answers", "rejects", "state.json", "lock"

COMMIT_SECONDS = 1.0
"""How much work, about, a run that is killed has to do again."""


@dataclass(slots=True)
class Counts:
    """How many rows were answered, and how many could not be."""

    answered: int = 0
    rejected: int = 0


def rejects_beside(out: Path) -> Path:
    """Return where the rows that could not be answered go, unless another file is named."""
    return out.with_name(f"{out.name}.rejects.jsonl")


@dataclass(slots=True)
class WorkFolder:
    """A run's folder; ``open`` makes one, and it is locked until it is left by ``with``.

    Attributes:
        out: The file that the run makes.
        rejects_out: The file for rows that could not be answered, made only where there are any.
        job: What the run does, in words: another job does not go on with its files.
        counts: Rows until now.
        place: Where in the input the next chunk begins.
        finished: The file in the folder that is the output, once all is done and files need only be moved.
    """

    out: Path
    rejects_out: Path
    job: Mapping[str, str]
    counts: Counts
    place: Place
    finished: str
    _lock: FileLock
    _answers: IO[bytes] = field(init=False)
    _rejects: IO[bytes] = field(init=False)
    # So that the first chunk is committed at once.
    _committed: float = field(init=False, default=-COMMIT_SECONDS)

    @classmethod
    def open(cls, out: Path, rejects_out: Path, job: Mapping[str, str], *, restart: bool) -> WorkFolder:
        """Begin a run, or go on with one that was cut off.

        Args:
            out: The file that the run makes.
            rejects_out: The file for rows that could not be answered.
            job: What the run does: names and values.
            restart: Forget what was cut off.

        Raises:
            InputError: Such a file is there already, another run is under way, or what was cut off was
                another job or cannot be used.
        """
        folder = out.with_name(f"{out.name}.partial")
        try:
            return cls._open(folder, out, rejects_out, job, restart)
        except OSError as error:
            raise InputError(f"{folder} cannot be written ({error.strerror or error}).") from error

    @classmethod
    def _open(
        cls, folder: Path, out: Path, rejects_out: Path, job: Mapping[str, str], restart: bool
    ) -> WorkFolder:
        folder.mkdir(exist_ok=True)
        lock = FileLock.take(folder / _LOCK)
        if lock is None:
            raise InputError(f"another run writes to {out} just now: let it end, or stop it.")
        try:
            for left in folder.glob(f".{_STATE}.*"):
                left.unlink()
            if restart:
                (folder / _STATE).unlink(missing_ok=True)
            state = RunState.read(folder / _STATE, job)
            if state is None:
                _refuse_existing(out, rejects_out)
                state = RunState(format=STATE_FORMAT, job=job)
                for name in (_ANSWERS, _REJECTS):
                    (folder / name).write_bytes(b"")
                state.write(folder / _STATE)
            opened = cls(
                out=out,
                rejects_out=rejects_out,
                job=job,
                counts=Counts(state.answered, state.rejected),
                place=Place(state.rows, state.offset),
                finished=state.finished,
                _lock=lock,
            )
            if not state.finished:
                opened._answers = _cut(folder / _ANSWERS, state.answers_bytes)
                opened._rejects = _cut(folder / _REJECTS, state.rejects_bytes)
        except BaseException:
            if not (folder / _STATE).exists():
                # Nothing was committed, or a finished run was killed as it cleared up.
                _clear(folder)
            lock.release()
            _remove(folder)
            raise
        return opened

    @property
    def folder(self) -> Path:
        """Where everything lies until the run is done."""
        return self.out.with_name(f"{self.out.name}.partial")

    @property
    def answers(self) -> Path:
        """The file of answers so far."""
        return self.folder / _ANSWERS

    def begin(self, head: bytes) -> None:
        """Write what stands before the first row, where nothing was written yet."""
        if self._answers.tell() == 0:
            self._answers.write(head)

    def add(self, answers: bytes, rejects: bytes, answered: int, rejected: int, end: Place) -> None:
        """Write a chunk's rows; once a second what was written is committed.

        Args:
            answers: What is added to the answers.
            rejects: What is added to the rejects.
            answered: How many rows were answered.
            rejected: How many were not.
            end: Where the next chunk begins.

        Raises:
            InputError: The disk is full, or fails.
        """
        with self._told():
            self._answers.write(answers)
            self._rejects.write(rejects)
        self.counts.answered += answered
        self.counts.rejected += rejected
        self.place = end
        if time.monotonic() - self._committed >= COMMIT_SECONDS:
            self.commit()

    def commit(self, *, finished: Path | None = None) -> None:
        """Bring to disk what was written, and then how far that is.

        Args:
            finished: The whole output, in the folder; None: rows are still to come.

        Raises:
            InputError: The disk is full, or fails.
        """
        with self._told():
            self._commit(finished)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(
                f"{self.folder} cannot be written ({error.strerror or error}): make room, and give the same "
                "command again; it goes on where it was."
            ) from error

    def _commit(self, finished: Path | None) -> None:
        if finished is not None:
            _sync(finished)
        sizes = []
        for file in (self._answers, self._rejects):
            file.flush()
            os.fsync(file.fileno())
            sizes.append(file.tell())
        state = RunState(
            format=STATE_FORMAT,
            job=self.job,
            rows=self.place.rows,
            offset=self.place.offset,
            answered=self.counts.answered,
            rejected=self.counts.rejected,
            answers_bytes=sizes[0],
            rejects_bytes=sizes[1],
            finished=finished.name if finished else "",
        )
        state.write(self.folder / _STATE)
        self.finished = state.finished
        self._committed = time.monotonic()

    def publish(self) -> None:
        """Move a finished run's files to where they belong; killed meanwhile, the next run does the rest.

        Raises:
            InputError: Another file has come to lie there.
        """
        rejects = self.folder / _REJECTS
        if rejects.exists():
            if rejects.stat().st_size:
                _move(rejects, self.rejects_out)
            else:
                rejects.unlink()
        if (result := self.folder / self.finished).is_file():
            _move(result, self.out)
        _clear(self.folder)

    def __enter__(self) -> WorkFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in ("_answers", "_rejects"):
            if (file := getattr(self, name, None)) is not None and not file.closed:
                file.close()
        self._lock.release()
        _remove(self.folder)


def _clear(folder: Path) -> None:
    """Remove what a run left, the state last: while that is there, the rest may be needed."""
    for left in sorted(folder.iterdir(), key=lambda path: path.name == _STATE):
        if left.name != _LOCK:
            left.unlink()


def _remove(folder: Path) -> None:
    """Remove a folder that nothing is left in; another run may have come to use it."""
    with contextlib.suppress(OSError):
        folder.rmdir()


def _refuse_existing(*paths: Path) -> None:
    for path in paths:
        if path.exists():
            raise InputError(f"{path} is there already: name another file, or remove it first.")


def _cut(path: Path, size: int) -> IO[bytes]:
    """Open a file to be added to, without what lies behind its first ``size`` bytes."""
    there = path.stat().st_size if path.exists() else -1
    if there < size:
        raise InputError(f"{path} has lost what was written to it: begin again with --restart.")
    file = path.open("r+b")
    file.truncate(size)
    file.seek(size)
    return file


def _move(source: Path, target: Path) -> None:
    _refuse_existing(target)
    source.replace(target)
    if os.name == "posix":
        # Elsewhere a folder cannot be opened.
        _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
