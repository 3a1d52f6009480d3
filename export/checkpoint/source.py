"""Where a checkpoint comes from: a local folder, or a model on a hub, fetched at one commit.

From a hub come the configuration, the tokenizer's files and the weights in one format; nothing that
could run code, and no second copy of the weights. Reaching a hub needs ``huggingface_hub``, which is
imported only then.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from fastspan.bundle.hub.cache import hub_snapshot
from fastspan.bundle.hub.repository import HubRepository
from fastspan.bundle.strict_json import named
from fastspan.errors import CheckpointError, InputError
from fastspan.export.checkpoint.calibration import CALIBRATION
from fastspan.export.checkpoint.folder import CheckpointFolder
from fastspan.export.checkpoint.weights import LAYOUTS

__all__ = ["ResolvedSource", "name_of", "resolve_source"]

_CONFIG = "config.json"

# The model card says under which license an exported copy may be passed on.
_SMALL_FILES = (
    _CONFIG,
    "README.md",
    CALIBRATION,
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spm.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)

_HUB_ID = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]*/)?[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class ResolvedSource:
    """A checkpoint's folder on this machine, and what it is a copy of.

    Attributes:
        files: The folder, as the place to read files from.
        id: The hub id, or the folder's name.
        revision: The hub commit, 40 hexadecimal digits; None for a folder that is not from a hub.
    """

    files: CheckpointFolder
    id: str
    revision: str | None

    @property
    def folder(self) -> Path:
        """The folder."""
        return self.files.path


def resolve_source(source: str | Path, revision: str | None = None) -> ResolvedSource:
    """Return the folder that ``source`` names, downloading it from a hub where it is a hub id.

    A folder that exists is taken as it is. Else a string of the form ``owner/name`` or ``name`` is a
    hub id. A ``Path`` is always a folder. A folder that is a snapshot in a hub cache keeps its hub id and
    commit.

    When the user has set ``HF_HUB_OFFLINE``, what the cache holds is used. A hub that cannot be
    reached is an error unless ``revision`` is a commit that the cache holds: a cached branch may be stale.

    Args:
        source: A folder or a hub id.
        revision: A branch, tag or commit of a hub id; None: the main branch.

    Raises:
        InputError: ``revision`` is given with a folder.
        CheckpointError: ``source`` is neither a folder nor a model that can be had.
        MissingDependency: ``source`` is a hub id and ``huggingface_hub`` is not installed.
    """
    if source == "":
        raise _neither(source)
    try:
        folder = Path(source).expanduser()
    except RuntimeError as error:
        raise _neither(str(source)) from error
    if isinstance(source, Path) or folder.exists():
        if revision is not None:
            raise InputError(
                f"revision applies to a hub id only, and {named(repr(str(source)))} is a folder: leave "
                "revision out."
            )
        return _local(folder)
    if not _HUB_ID.fullmatch(str(source)):
        raise _neither(str(source))
    return _download(str(source), revision)


def name_of(folder: Path) -> str:
    """Return the name of the folder that a path leads to; bytes of it that are no UTF-8 become U+FFFD."""
    return os.fsencode(Path(os.path.realpath(folder)).name).decode("utf-8", "replace")


def _local(folder: Path) -> ResolvedSource:
    """Describe a folder, be it a hub cache's snapshot."""
    snapshot = hub_snapshot(folder)
    if snapshot is not None and snapshot.commit is not None:
        files = CheckpointFolder.open(folder, snapshot.repository)
        return ResolvedSource(files, snapshot.id, snapshot.commit)
    return ResolvedSource(CheckpointFolder.open(folder), name_of(folder), None)


def _download(hub_id: str, revision: str | None) -> ResolvedSource:
    """Fetch what an export reads, each file compared with its ETag."""
    without_config = CheckpointError(
        f"{named(repr(hub_id))} holds no {_CONFIG}: give the id of a transformers checkpoint."
    )
    repository = HubRepository(
        hub_id,
        revision,
        probe=_CONFIG,
        without_probe=without_config,
        kind=CheckpointError,
        extra="export",
    )
    listing = repository.listing()
    if listing is None:
        # Which weights the cache holds is found out when they are read.
        wanted = [_CONFIG]
    elif _CONFIG in listing:
        wanted = _wanted(hub_id, listing)
    else:
        raise without_config
    for path in wanted:
        repository.fetch_intact(path)
    folder = repository.folder
    # The snapshot's folder is named after its commit, whatever the revision was called.
    return ResolvedSource(CheckpointFolder.open(folder, folder.parent.parent), hub_id, repository.commit)


def _wanted(repository: str, listing: Collection[str]) -> list[str]:
    """Return the files to download: the small ones, and the weights in the format preferred."""
    small = [name for name in _SMALL_FILES if name in listing]
    for layout in LAYOUTS:
        if layout.single in listing:
            return [*small, layout.single]
        if layout.index in listing:
            return [*small, layout.index, *(name for name in listing if fnmatchcase(name, layout.shards))]
    expected = ", ".join(layout.single for layout in LAYOUTS)
    raise CheckpointError(f"{named(repr(repository))} holds no weights in a format that is read: {expected}.")


def _neither(source: str) -> CheckpointError:
    return CheckpointError(
        f"{named(repr(source))} is neither a folder that exists nor a hub id: give the path of a "
        "checkpoint's folder, or an id of the form owner/name, such as 'deepset/bert-base-cased-squad2'."
    )
