"""Where a checkpoint comes from: a local folder, or a model on a hub, fetched at one commit.

From a hub come the configuration, the tokenizer's files and the weights in one format; nothing that
could run code, and no second copy of the weights. Reaching a hub needs ``huggingface_hub``, which is
imported only then.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from fastspan.errors import CheckpointError, InputError, MissingDependency
from fastspan.export.checkpoint.calibration import CALIBRATION
from fastspan.export.checkpoint.folder import CheckpointFolder
from fastspan.export.checkpoint.weights import LAYOUTS

__all__ = ["ResolvedSource", "resolve_source"]

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
_COMMIT = re.compile(r"[0-9a-f]{40}")


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


def resolve_source(
    source: str | Path,
    revision: str | None = None,
    *,
    cache_dir: str | Path | None = None,
    endpoint: str | None = None,
) -> ResolvedSource:
    """Return the folder that ``source`` names, downloading it from a hub where it is a hub id.

    A folder that exists is taken as it is. Else a string of the form ``owner/name`` or ``name`` is a
    hub id. A ``Path`` is always a folder. A folder that is a snapshot in a hub cache keeps its hub id and
    commit.

    When the user has set ``HF_HUB_OFFLINE``, what the cache holds is used. A hub that cannot be
    reached is an error unless ``revision`` is a commit that the cache holds: a cached branch may be stale.

    Args:
        source: A folder or a hub id.
        revision: A branch, tag or commit of a hub id; None: the main branch.
        cache_dir: The hub cache to use; None: the one huggingface_hub is configured for.
        endpoint: The hub's address; None: the one huggingface_hub is configured for.

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
                f"revision applies to a hub id only, and {str(source)!r} is a folder: leave revision out."
            )
        return _local(folder)
    if not _HUB_ID.fullmatch(str(source)):
        raise _neither(str(source))
    return _download(str(source), revision, cache_dir, endpoint)


def _local(folder: Path) -> ResolvedSource:
    """Describe a folder, be it a hub cache's snapshot: ``models--owner--name/snapshots/<commit>``."""
    real = folder.resolve()
    repository = real.parent.parent
    kind, _, name = repository.name.partition("--")
    if real.parent.name == "snapshots" and kind == "models" and name and _COMMIT.fullmatch(real.name):
        return ResolvedSource(CheckpointFolder.open(folder, repository), name.replace("--", "/"), real.name)
    return ResolvedSource(CheckpointFolder.open(folder), real.name, None)


def _download(
    repository: str, revision: str | None, cache_dir: str | Path | None, endpoint: str | None
) -> ResolvedSource:
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise MissingDependency(
            f"{repository!r} is no folder here, and reaching a hub needs the package huggingface_hub: "
            '`pip install "fastspan[export]"`, or give the path of a folder.'
        ) from error
    api = HfApi(endpoint=endpoint)
    with _in_one_sentence(repository, revision, str(api.endpoint)):
        return _fetch(api, repository, revision, cache_dir)


def _fetch(api: Any, repository: str, revision: str | None, cache_dir: str | Path | None) -> ResolvedSource:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    def snapshot(patterns: list[str], *, cached: bool) -> ResolvedSource:
        """Fetch the files that match, or find them in the cache and ask no hub."""
        folder = Path(
            snapshot_download(
                repository,
                revision=revision,
                cache_dir=cache_dir,
                endpoint=api.endpoint,
                allow_patterns=patterns,
                local_files_only=cached,
            )
        )
        # The snapshot's folder is named after its commit, whatever the revision was called.
        return ResolvedSource(CheckpointFolder.open(folder, folder.parent.parent), repository, folder.name)

    try:
        listing = api.model_info(repository, revision=revision).siblings or ()
    except _transport_errors() as error:
        pinned = revision is not None and _COMMIT.fullmatch(revision) is not None
        unreachable = not isinstance(error, HfHubHTTPError)
        if isinstance(error, OfflineModeIsEnabled) or (pinned and unreachable):
            # Which weights the cache holds is found out when they are read.
            return snapshot([_CONFIG], cached=True)
        raise
    return snapshot(_wanted(repository, [file.rfilename for file in listing]), cached=False)


def _transport_errors() -> tuple[type[BaseException], ...]:
    """Return what huggingface_hub raises when a hub cannot be reached, and the base of its other errors.

    It lets the errors of its HTTP library through, which is requests or httpx by its release; the base of
    its own HTTP error is that library's own.
    """
    from huggingface_hub.errors import HfHubHTTPError

    return (OSError, *HfHubHTTPError.__bases__)


@contextmanager
def _in_one_sentence(repository: str, revision: str | None, endpoint: str) -> Iterator[None]:
    """Turn what huggingface_hub raises into a CheckpointError that says what to do."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    place = f"{repository!r} at revision {revision!r}" if revision is not None else repr(repository)
    try:
        yield
    except HFValidationError as error:
        raise _neither(repository) from error
    except GatedRepoError as error:
        raise CheckpointError(
            f"{repository!r} is gated: accept its conditions at {endpoint}/{repository} and log in "
            "with `hf auth login`."
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{repository!r} is neither a folder here nor a public model at {endpoint}: "
            "check the spelling, or log in with `hf auth login` if it is private."
        ) from error
    except RevisionNotFoundError as error:
        raise CheckpointError(
            f"{repository!r} has no revision {revision!r} at {endpoint}: "
            "give a branch, a tag or a commit of it."
        ) from error
    except LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"{place} is no folder here and not in the hub cache, and {endpoint} cannot be reached or "
            "HF_HUB_OFFLINE is set: go online, or give the path of a folder."
        ) from error
    except HfHubHTTPError as error:
        raise CheckpointError(
            f"{endpoint} refused {place} ({_first_line(error)}): "
            "try again later, or give the path of a folder."
        ) from error
    except _transport_errors() as error:
        reason = _first_line(_root(error))
        raise CheckpointError(
            f"{place} is no folder here, and getting it from {endpoint} failed ({reason}): "
            "check the connection, or give the path of a folder."
        ) from error


def _wanted(repository: str, listing: Collection[str]) -> list[str]:
    """Return the files to download: the small ones, and the weights in the format preferred."""
    if _CONFIG not in listing:
        raise CheckpointError(f"{repository!r} holds no {_CONFIG}: give the id of a transformers checkpoint.")
    small = [name for name in _SMALL_FILES if name in listing]
    for layout in LAYOUTS:
        if layout.single in listing:
            return [*small, layout.single]
        if layout.index in listing:
            return [*small, layout.index, *(name for name in listing if fnmatchcase(name, layout.shards))]
    expected = ", ".join(layout.single for layout in LAYOUTS)
    raise CheckpointError(f"{repository!r} holds no weights in a format that is read: {expected}.")


def _neither(source: str) -> CheckpointError:
    return CheckpointError(
        f"{source!r} is neither a folder that exists nor a hub id: give the path of a checkpoint's folder, "
        "or an id of the form owner/name, such as 'deepset/bert-base-cased-squad2'."
    )


def _root(error: BaseException) -> BaseException:
    """What an HTTP library wrapped, often several times over, into what it raises: the plainest of them."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
