"""A bundle to a repository on the hub, in one commit: the repository is as it was, or holds the whole bundle.

Every file is compared with the manifest before, and what is sent is what was compared. Files of a former
bundle that this one does not have are removed in the same commit; what a push did not put there stays.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastspan
from fastspan.bundle.beside.evaluations import EVALUATIONS
from fastspan.bundle.folder import Bundle
from fastspan.bundle.manifest import MANIFEST, Manifest
from fastspan.bundle.source import open_bundle
from fastspan.errors import BundleError, FastSpanError, InputError, MissingDependency
from fastspan.export.hub.card import CARD, hub_card
from fastspan.export.hub.refusals import refused
from fastspan.export.publishing.licences import licences_beside

__all__ = ["PushPlan", "Pushed", "plan_push", "push"]

_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_][A-Za-z0-9_.-]*")
# What a hub makes by itself, and what people put into an empty repository.
_NOBODYS = re.compile(
    r"\.gitattributes|\.gitignore|README\.md|(LICEN[CS]E|NOTICE|COPYING)([.-].*)?", re.IGNORECASE
)
# Files of this size are sent out of memory, as they were read and compared.
_SMALL = 8 << 20


@dataclass(frozen=True, slots=True)
class PushPlan:
    """What a push would send.

    Attributes:
        repository: The repository's id.
        card: Its model card.
        files: Path in the repository → size in bytes, the card among them.
        notes: What the card does not say, though readers will look for it: sentences.
    """

    repository: str
    card: str
    files: dict[str, int]
    notes: tuple[str, ...]
    _bundle: Bundle

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(self.files.values())


@dataclass(frozen=True, slots=True)
class Pushed:
    """What became of a push.

    Attributes:
        url: The repository's address.
        commit: The commit that holds the bundle, 40 hexadecimal digits.
        changed: Whether the commit is new; False where the repository held all of it already.
        removed: Files of a former bundle that the commit removed.
    """

    url: str
    commit: str
    changed: bool
    removed: tuple[str, ...]


def plan_push(bundle: str | os.PathLike[str], repository: str) -> PushPlan:
    """Verify a bundle and write its card, without asking the hub anything.

    Args:
        bundle: The bundle's folder.
        repository: The repository's id, ``owner/name``.

    Raises:
        InputError: ``repository`` is no such id.
        BundleError: The bundle is missing or damaged.
        MissingDependency: ``huggingface_hub`` is not installed.
    """
    if not isinstance(repository, str) or not _ID.fullmatch(repository):
        raise InputError(f"{repository!r} is no id of a repository: give owner/name.")
    _require_client()
    # A path: what is pushed lies on this machine, whatever a hub holds under that name.
    opened = open_bundle(Path(bundle), None)
    opened.verify_all()
    card, notes = hub_card(opened, repository)
    others = [*opened.promised, MANIFEST, *(file.name for file in licences_beside(opened.folder))]
    if (opened.folder / EVALUATIONS).is_file():
        others.append(EVALUATIONS)
    sizes = {path: (opened.folder / path).stat().st_size for path in others}
    return PushPlan(repository, card, {CARD: len(card.encode()), **sizes}, tuple(notes), opened)


def push(
    plan: PushPlan,
    *,
    private: bool = False,
    revision: str | None = None,
    say: Callable[[str], None] = lambda text: None,
    bars: bool = False,
) -> Pushed:
    """Make the repository if it is not there, and commit the bundle to it.

    The token is that of the environment variable ``HF_TOKEN``, else of ``hf auth login``; the hub is that of
    ``HF_ENDPOINT``.

    Args:
        plan: What ``plan_push`` returned.
        private: The repository must be private, and is made so.
        revision: The branch to commit to, made from the main one if it is not there; None: the main one.
        say: Told what happens, a line a step.
        bars: Whether huggingface_hub may draw its progress bars on standard error.

    Raises:
        InputError: There is no token, or the repository holds something else or is public against
            ``private``.
        BundleError: The hub refused the push or could not be reached; nothing was published.
    """
    from huggingface_hub import HfApi, get_token

    if not get_token():
        raise InputError(
            "A push needs a token that may write: run `hf auth login`, or set the environment variable "
            "HF_TOKEN."
        )
    api = HfApi(library_name="fastspan", library_version=fastspan.__version__)
    repository = plan.repository
    with _explaining(repository, revision, str(api.endpoint)), _bars(bars):
        api.create_repo(repository, private=private or None, exist_ok=True)
        if revision is not None:
            api.create_branch(repository, branch=revision, exist_ok=True)
        before = api.model_info(repository, revision=revision)
        if private and before.private is False:
            raise InputError(
                f"{repository} is public, and a private one was asked for: make it private in its settings "
                "on the hub, or push without asking for it. Nothing was published."
            )
        held = [file.rfilename for file in before.siblings or ()]
        former = _former(api, repository, str(before.sha), held)
        removed = tuple(path for path in held if path in former and path not in plan.files)
        say(f"sending {len(plan.files)} files, {plan.bytes / 1e6:.1f} MB, to {repository}")
        made = api.create_commit(
            repository,
            operations=[*_additions(plan), *_deletions(removed)],
            commit_message=f"Publish {plan._bundle.manifest.name}, a bundle of FastSpan",
            revision=revision,
            # The hub refuses the commit if somebody else's came in since ``before``.
            parent_commit=str(before.sha),
        )
    commit = str(made.oid)
    return Pushed(f"{api.endpoint}/{repository}", commit, commit != str(before.sha), removed)


def _require_client() -> None:
    try:
        import huggingface_hub  # noqa: F401
    except ImportError as error:
        raise MissingDependency(
            "Pushing to the hub needs huggingface_hub, which is not installed: run "
            "pip install 'fastspan[hub]'."
        ) from error


def _former(api: Any, repository: str, commit: str, held: Sequence[str]) -> set[str]:
    """The files of the bundle that a repository holds; one that holds other things is refused."""
    if MANIFEST not in held:
        foreign = sorted(path for path in held if not _NOBODYS.fullmatch(path))
        if foreign:
            raise InputError(
                f"{repository} holds {foreign[0]} and no {MANIFEST}, so it is no bundle: push to a "
                "repository of its own. Nothing was published."
            )
        return set()
    place = Path(api.hf_hub_download(repository, MANIFEST, revision=commit))
    try:
        return set(Manifest.from_json(place.read_bytes()).files) - {CARD}
    except BundleError:
        # Damaged, or of another format: nothing is removed by its word.
        return set()


def _additions(plan: PushPlan) -> Iterator[Any]:
    from huggingface_hub import CommitOperationAdd

    bundle = plan._bundle
    yield CommitOperationAdd(CARD, plan.card.encode())
    for path in plan.files:
        if path == CARD:
            continue
        record = bundle.manifest.files.get(path) if path in bundle.promised else None
        if record is None:
            yield CommitOperationAdd(path, (bundle.folder / path).read_bytes())
        elif record.bytes <= _SMALL:
            yield CommitOperationAdd(path, bundle.read(path)[path])
        else:
            # Hashed as it is opened here, and sent by that digest: another content would be refused.
            operation = CommitOperationAdd(path, str((bundle.folder / path).resolve()))
            if operation.upload_info.sha256.hex() != record.sha256:
                raise BundleError(f"{path} changed while it was read. Nothing was published: push again.")
            yield operation


def _deletions(paths: Sequence[str]) -> Iterator[Any]:
    from huggingface_hub import CommitOperationDelete

    return (CommitOperationDelete(path, is_folder=False) for path in paths)


@contextmanager
def _explaining(repository: str, revision: str | None, endpoint: str) -> Iterator[None]:
    try:
        yield
    except FastSpanError:
        raise
    except Exception as error:
        raise BundleError(refused(error, repository, revision, endpoint)) from error


@contextmanager
def _bars(wanted: bool) -> Iterator[None]:
    """Keep huggingface_hub's bars off, unless they are wanted or its user's environment demands them."""
    from huggingface_hub import constants
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    demanded = constants.HF_HUB_DISABLE_PROGRESS_BARS is False
    if wanted or demanded or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
