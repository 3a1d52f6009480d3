"""A repository on a hub, at one commit: its files, fetched one by one into the hub's cache.

A revision is turned into a commit once, and everything is asked of that commit: a branch may move between two
requests. Reaching a hub needs ``huggingface_hub``, which is imported only then.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fastspan.bundle.hub.cache import COMMIT, is_intact
from fastspan.bundle.hub.failures import explained, says_it_is_missing, unreachable
from fastspan.bundle.whole_files import write_whole
from fastspan.errors import FastSpanError, MissingDependency

__all__ = ["HubRepository", "is_offline"]


class HubRepository:
    """A repository at the commit that a revision stands for when this is made.

    Where ``HF_HUB_OFFLINE`` is set, what the cache holds is used. A hub that cannot be reached is an error
    unless the revision is a commit: what a cached branch stands for may be stale.

    Args:
        repository: Its id, ``owner/name`` or ``name``.
        revision: Branch, tag or commit; None: the main branch.
        probe: A file that every such repository holds; offline, the commit is found by it.
        without_probe: What is raised where a repository lacks it: it says how to mend that.
        kind: The error that is raised where something cannot be had.
        extra: The extra of FastSpan that installs ``huggingface_hub``.

    Raises:
        FastSpanError: Of ``kind``: the hub does not have it, does not give it or cannot be reached.
        MissingDependency: ``huggingface_hub`` is not installed.

    Attributes:
        id: The repository's id.
        commit: 40 hexadecimal digits.
    """

    def __init__(
        self,
        repository: str,
        revision: str | None,
        *,
        probe: str,
        without_probe: FastSpanError,
        kind: type[FastSpanError],
        extra: str,
    ) -> None:
        try:
            from huggingface_hub import HfApi
        except ImportError as error:
            raise MissingDependency(
                f"{repository!r} is no folder here, and to load it from the hub huggingface_hub is missing: "
                f"run pip install 'fastspan[{extra}]', or give the path of a folder."
            ) from error
        self.id = repository
        self._kind = kind
        self._revision = revision
        self._probe = probe
        self._without_probe = without_probe
        self._api = HfApi()
        self._cached_only = False
        self._listing: tuple[str, ...] | None = None
        if revision is not None and COMMIT.fullmatch(revision):
            self.commit = revision
        else:
            self.commit = self._commit_of(revision)

    @property
    def endpoint(self) -> str:
        """The hub's address."""
        return str(self._api.endpoint)

    @property
    def folder(self) -> Path:
        """The cache's snapshot of the commit."""
        return self.fetch(self._probe).parent

    def listing(self) -> tuple[str, ...] | None:
        """Return the paths of all files of the commit; None where only the cache can be asked.

        Raises:
            FastSpanError: The hub does not have the commit, or does not give it.
        """
        if self._listing is None and not self._cached_only:
            with self._explaining():
                try:
                    self._ask(self.commit)
                except Exception as error:
                    if not unreachable(error):
                        raise
                    self._cached_only = True
        return self._listing

    def fetch(self, path: str, *, again: bool = False) -> Path:
        """Return where a file lies in the cache; what the cache lacks is downloaded.

        Args:
            path: The file's path in the repository.
            again: Download it even so, because what the cache holds is damaged.

        Raises:
            FastSpanError: The commit has no such file, or it cannot be had.
        """
        with self._explaining(path):
            file = self._download(path, self.commit, again=again)
        if path == self._probe:
            self._remember(file.parent.parent.parent)
        return file

    def fetch_intact(self, path: str) -> Path:
        """Do as ``fetch``, and compare the file with its ETag; one that is damaged is fetched once more.

        Raises:
            FastSpanError: As for ``fetch``, or the file is damaged still.
        """
        file = self.fetch(path)
        if is_intact(file) or is_intact(file := self.fetch(path, again=True)):
            return file
        raise self._kind(
            f"{path} of {self.id!r} was downloaded twice from {self.endpoint} and is damaged (its checksum "
            "is not the hub's): check the disk and the connection, or give the path of a folder."
        )

    def _commit_of(self, revision: str | None) -> str:
        with self._explaining():
            try:
                return self._ask(revision)
            except Exception as error:
                if not _offline(error):
                    raise
            self._cached_only = True
            return self._download(self._probe, revision, again=False).parent.name

    def _ask(self, revision: str | None) -> str:
        """Ask the hub for the commit of a revision, and for the files it holds."""
        info = self._api.model_info(self.id, revision=revision)
        self._listing = tuple(file.rfilename for file in info.siblings or ())
        return str(info.sha)

    def _download(self, path: str, revision: str | None, *, again: bool) -> Path:
        from huggingface_hub import hf_hub_download

        with _without_bars(hf_hub_download) as silent:
            return Path(
                hf_hub_download(
                    self.id,
                    path,
                    revision=revision,
                    force_download=again,
                    local_files_only=self._cached_only,
                    **silent,
                )
            )

    def _remember(self, repository: Path) -> None:
        """Let the cache say offline what the revision stood for, which requests for a commit do not."""
        refs = repository / "refs"
        ref = refs / (self._revision or "main")
        if self._revision == self.commit or not ref.resolve().is_relative_to(refs.resolve()):
            return
        with suppress(OSError):  # a cache that cannot be written to remembers nothing
            if not ref.is_file() or ref.read_text(encoding="utf-8") != self.commit:
                ref.parent.mkdir(parents=True, exist_ok=True)
                write_whole(ref, self.commit.encode())

    @contextmanager
    def _explaining(self, path: str | None = None) -> Iterator[None]:
        try:
            yield
        except FastSpanError:
            raise
        except Exception as error:
            if path == self._probe and says_it_is_missing(error):
                raise self._without_probe from error
            text = explained(error, self.id, self._revision, path, self.endpoint)
            raise self._kind(text) from error


def is_offline() -> bool:
    """Whether the user has set ``HF_HUB_OFFLINE``."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _offline(error: BaseException) -> bool:
    from huggingface_hub.errors import OfflineModeIsEnabled

    return isinstance(error, OfflineModeIsEnabled)


_GROUPS = ("huggingface_hub.http_get", "huggingface_hub.xet_get")
_quiet = threading.Lock()
_downloads = 0
_silenced: list[str] = []


@contextmanager
def _without_bars(download: Any) -> Iterator[dict[str, Any]]:
    """Keep a download's progress bar out of the program's standard error.

    Yields:
        Further arguments for the download.
    """
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
        tqdm,
    )

    global _downloads
    if "tqdm_class" in inspect.signature(download).parameters:

        class Silent(tqdm):  # type: ignore[misc]
            def __init__(self, *arguments: Any, **options: Any) -> None:
                super().__init__(*arguments, **{**options, "disable": True})

        yield {"tqdm_class": Silent}
        return
    # Before 1.0 a bar can be switched off by its group alone: for as long as a download of ours runs.
    with _quiet:
        _downloads += 1
        if _downloads == 1 and not _bars_are_demanded():
            _silenced[:] = [group for group in _GROUPS if not are_progress_bars_disabled(group)]
            for group in _silenced:
                disable_progress_bars(group)
    try:
        yield {}
    finally:
        with _quiet:
            _downloads -= 1
            if _downloads == 0:
                for group in _silenced:
                    enable_progress_bars(group)
                _silenced.clear()


def _bars_are_demanded() -> bool:
    """Whether the user's environment asks for bars, which no program overrides."""
    from huggingface_hub import constants

    return constants.HF_HUB_DISABLE_PROGRESS_BARS is False
