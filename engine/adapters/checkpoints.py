"""What users of other tools name as a model, as a bundle: checkpoints are exported once and kept.

They are kept in ``$XDG_CACHE_HOME/fastspan/bundles`` (else ``~/.cache``), in a folder whose name ends with a
key of the checkpoint's content. A checkpoint that changed is another one, and is exported again.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import fastspan
from fastspan.bundle.hub import HubRepository
from fastspan.bundle.manifest import MANIFEST
from fastspan.bundle.source import looks_like_hub_id
from fastspan.bundle.variants import VariantName
from fastspan.bundle.whole_files import sha256_of
from fastspan.errors import BundleError, FastSpanError, InputError, MissingDependency
from fastspan.options import shown

__all__ = ["Source", "bundle_of"]

Source = tuple[str | os.PathLike[str], str | None]
"""What a bundle is loaded from: a folder or hub id, and a revision."""

_CONFIG = "config.json"
_READ = ("*.json", "*.txt", "*.model", "*.safetensors", "*.bin", "*.msgpack")


def bundle_of(model: str | os.PathLike[str], revision: str | None, variant: str) -> Source:
    """Return where a bundle of ``model`` is loaded from, exporting a checkpoint where there is none yet.

    An export writes one line to standard error, and takes the extra ``export``.

    Args:
        model: The folder of a bundle or of a checkpoint, or the hub id of a repository that holds either.
        revision: With a hub id: branch, tag or commit.
        variant: What is to run: ``"fp32"``, ``"fp16"``, ``"int8"`` or ``"auto"``; an export makes it.

    Raises:
        InputError: ``model`` or ``revision`` is unusable.
        BundleError: The hub cannot be reached or has no such model, or the cache cannot be written to.
        CheckpointError: The checkpoint cannot be exported.
        ParityError: What was exported differs too much from the checkpoint.
        MissingDependency: It is a checkpoint or a hub id, and an extra is missing.
    """
    if not isinstance(model, str | os.PathLike):
        raise InputError(
            f"model must be a bundle's folder, a hub id or a checkpoint's folder, not {shown(model)}: save a "
            "model object with save_pretrained, its tokenizer too, and give that folder."
        )
    folder = Path(model)
    if folder.is_dir() and (folder / _CONFIG).exists() and not (folder / MANIFEST).exists():
        if revision is not None:
            raise InputError("revision goes with a hub id; a local folder is taken as it is.")
        return _exported(folder, folder.resolve().name, _content_key(folder), variant), None
    if folder.exists() or not isinstance(model, str) or not looks_like_hub_id(model):
        return model, revision  # what is wrong with it, loading it says
    return _on_the_hub(model, revision, variant)


def _on_the_hub(model: str, revision: str | None, variant: str) -> Source:
    repository = HubRepository(
        model,
        revision,
        probe=_CONFIG,
        without_probe=f"{model!r} on the hub holds no {_CONFIG}, so it is neither a bundle nor a checkpoint.",
        kind=BundleError,
        extra="hub",
    )
    listing = repository.listing()
    if listing is None:
        # Only the cache can be asked, which may hold either.
        try:
            repository.fetch(MANIFEST)
            listing = (MANIFEST,)
        except BundleError:
            listing = ()
    if MANIFEST in listing:
        return model, repository.commit
    with _extra(model):
        from fastspan.export.checkpoint.source import resolve_source

        checkpoint = resolve_source(model, repository.commit).folder
    return _exported(checkpoint, model.replace("/", "--"), repository.commit, variant), None


def _exported(checkpoint: Path, name: str, key: str, variant: str) -> Path:
    variants: tuple[VariantName, ...] = ("fp32", "int8") if variant == "auto" else ("fp32",)
    if variant in ("fp16", "int8"):
        variants = ("fp32", "fp16") if variant == "fp16" else ("fp32", "int8")
    made_of = hashlib.sha256("\0".join((key, fastspan.__version__, *variants)).encode()).hexdigest()[:16]
    out = _cache() / f"{name}-{made_of}"
    if (out / MANIFEST).exists():
        return out
    with _extra(str(checkpoint)):
        from fastspan.export.exporter import ExportOptions, export
    sys.stderr.write(f"fastspan: exporting {checkpoint} to {out}, once.\n")
    sys.stderr.flush()
    return export(checkpoint, out, ExportOptions(variants=variants), progress=_Silent()).bundle.folder


def _content_key(folder: Path) -> str:
    files = sorted({file for pattern in _READ for file in folder.glob(pattern) if file.is_file()})
    return "\n".join(f"{file.name} {sha256_of(file)}" for file in files)


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    try:
        return Path(home or Path.home() / ".cache") / "fastspan" / "bundles"
    except RuntimeError as error:
        raise BundleError(
            "There is no home folder to keep exported checkpoints in: set XDG_CACHE_HOME to a folder that "
            "can be written to, or run `fastspan export` and give the bundle's folder."
        ) from error


@contextmanager
def _extra(model: str) -> Iterator[None]:
    try:
        yield
    except FastSpanError:
        raise
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"{model} is a checkpoint, and to export it {error.name} is missing: run "
            "pip install 'fastspan[export]', or give the folder of a bundle."
        ) from error


class _Silent:
    """An export's progress that says nothing more than the one line."""

    def stage(self, text: str) -> None:
        """Keep silent."""

    @contextmanager
    def bar(self, text: str, total: int) -> Iterator[Callable[[], None]]:
        """Keep silent."""
        yield lambda: None
