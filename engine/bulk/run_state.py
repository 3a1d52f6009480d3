"""How far a run got, as its last commit says: one small file, replaced in one step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from fastspan.bundle.strict_json import decode, parse_object
from fastspan.bundle.whole_files import write_whole
from fastspan.errors import BundleError, InputError
from fastspan.options import shown

__all__ = ["STATE_FORMAT", "RunState"]

STATE_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """What is on disk for good.

    Attributes:
        format: Which versions of FastSpan can go on with it.
        job: What the run does, in words.
        rows: How many rows of the input are done.
        offset: Where in the input the next row begins.
        answered: How many rows were answered.
        rejected: How many could not be.
        answers_bytes: How much of the file of answers counts.
        rejects_bytes: How much of the file of rejects counts.
        finished: The file in the folder that is the whole output; empty while rows are still to come.
    """

    format: int
    job: Mapping[str, str]
    rows: int = 0
    offset: int = 0
    answered: int = 0
    rejected: int = 0
    answers_bytes: int = 0
    rejects_bytes: int = 0
    finished: str = ""

    @classmethod
    def read(cls, path: Path, job: Mapping[str, str]) -> RunState | None:
        """Return how far a former run got; None: there was none.

        Raises:
            InputError: It cannot be used, or that run did another job.
        """
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            state = decode(cls, parse_object(data, str(path)), where=str(path))
        except BundleError as error:
            raise InputError(f"{path} says nothing of use: begin again with --restart.") from error
        if state.format != STATE_FORMAT:
            raise InputError(f"another version of FastSpan wrote {path}: go on with that, or use --restart.")
        for name in dict.fromkeys((*state.job, *job)):
            then, now = state.job.get(name, "none"), job.get(name, "none")
            if then != now:
                raise InputError(
                    f"the run that was cut off had another {name} ({shown(then)}, now {shown(now)}): give "
                    f"the options and the input of that run, or begin again with --restart ({path.parent} is "
                    "there)."
                )
        return state

    def write(self, path: Path) -> None:
        """Put it in the place of what a former commit said.

        Raises:
            OSError: The disk is full, or fails.
        """
        write_whole(path, f"{json.dumps(asdict(self))}\n".encode())
