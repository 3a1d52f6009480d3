"""What users of other tools name as a model: a checkpoint's folder is exported once, and its bundle kept.

It is kept in ``$XDG_CACHE_HOME/fastspan/bundles`` (else ``~/.cache``), in a folder whose name ends with a
key of the checkpoint's content. A checkpoint that changed is another one, and is exported again. What lies on
the hub, loading sees to: see ``fastspan.bundle.source``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastspan.bundle.folder import Bundle
from fastspan.bundle.manifest import MANIFEST
from fastspan.bundle.variants import VariantName
from fastspan.bundle.whole_files import sha256_of
from fastspan.errors import BundleError, FastSpanError, InputError, MissingDependency
from fastspan.machine.user_cache import user_cache
from fastspan.options import shown
from fastspan.version import __version__

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
    return model, revision  # what is wrong with it, loading it says


def _exported(checkpoint: Path, name: str, key: str, variant: str) -> Path:
    variants: tuple[VariantName, ...] = ("fp32", "int8") if variant == "auto" else ("fp32",)
    if variant in ("fp16", "int8"):
        variants = ("fp32", "fp16") if variant == "fp16" else ("fp32", "int8")
    made_of = hashlib.sha256("\0".join((key, __version__, *variants)).encode()).hexdigest()[:16]
    out = _cache() / f"{name}-{made_of}"
    try:
        Bundle.open(out)
    except BundleError:
        pass  # there is none yet, or a damaged one, which is made anew
    else:
        return out
    with _extra(str(checkpoint)):
        from fastspan.export.on_demand import export_once
    export_once(str(checkpoint), out, variants=variants)
    return out


def _content_key(folder: Path) -> str:
    files = sorted({file for pattern in _READ for file in folder.glob(pattern) if file.is_file()})
    return "\n".join(f"{file.name} {sha256_of(file)}" for file in files)


def _cache() -> Path:
    try:
        return user_cache() / "bundles"
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
