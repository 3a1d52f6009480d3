"""An export that nobody asked for by name: a checkpoint was given where a bundle is loaded.

``fastspan.bundle.hub.checkpoints`` and ``fastspan.adapters.checkpoints`` call this, and say where the bundle
goes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from fastspan.bundle.beside.file_lock import FileLock
from fastspan.bundle.folder import Bundle
from fastspan.bundle.variants import VariantName
from fastspan.errors import BundleError, ParityError
from fastspan.export.exporter import export
from fastspan.export.options import ExportOptions

__all__ = ["export_once"]

_LONGEST_WAIT_S = 3600.0


class _Silent:
    """A progress that nobody watches: one line says what takes so long."""

    def stage(self, text: str) -> None:
        """Say nothing."""

    @contextmanager
    def bar(self, text: str, total: int) -> Iterator[Callable[[], None]]:
        """Say nothing."""
        yield lambda: None


def export_once(
    source: str,
    folder: Path,
    *,
    revision: str | None = None,
    variants: Sequence[VariantName] = ExportOptions().variants,
) -> None:
    """Export a checkpoint, unless another process is doing so: then wait for it.

    Where a variant misses its gate, fp32 alone is published: the checkpoint loads all the same.

    Args:
        source: A repository's id on the hub, or a checkpoint's folder.
        folder: Where the bundle goes; its parents are made.
        revision: With an id: the commit, of 40 hexadecimal digits.
        variants: What to export; fp32 among them.

    Raises:
        CheckpointError: It is no checkpoint that can be exported.
        ParityError: Not even fp32 agrees with its reference.
        BundleError: The folder cannot be written to, or another process takes too long.
        MissingDependency: The architecture or the weights' format needs a package that is not installed.
    """
    with _alone(folder):
        if _is_whole(folder):
            return
        options = ExportOptions(revision=revision, variants=variants)
        at = "" if revision is None else f" at {revision[:12]}"
        _say(f"fastspan: exporting {source}{at}, once, to {folder}")
        try:
            export(source, folder, options, progress=_Silent())
        except ParityError as error:
            if tuple(variants) == ("fp32",):
                raise
            _say(f"fastspan: fp32 alone, because {error}")
            export(source, folder, replace(options, variants=("fp32",)), progress=_Silent())


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock.take(folder.with_name(f".{folder.name}.exporting"), wait=_LONGEST_WAIT_S)
    except OSError as error:
        raise BundleError(
            f"{folder} cannot be made to keep the bundle in ({error.strerror}): set XDG_CACHE_HOME to a "
            "folder that can be written to."
        ) from error
    if lock is None:
        raise BundleError(
            f"Another process has been exporting to {folder} for {_LONGEST_WAIT_S / 60:.0f} minutes: wait "
            "for it, or end it."
        )
    with lock:
        yield


def _is_whole(folder: Path) -> bool:
    try:
        Bundle.open(folder)
    except BundleError:
        return False
    return True


def _say(line: str) -> None:
    # A program without a console has no standard error.
    if sys.stderr is not None:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
