"""From a folder or hub id to everything an answerer needs, checked before any of it is read."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

from fastspan.bundle import Bundle
from fastspan.choice import Choice, choose_variant
from fastspan.config import LoadOptions
from fastspan.cpu import cpu_features, usable_cores
from fastspan.encoding import Encoder
from fastspan.errors import BundleError, InputError, MissingDependency, ProviderError
from fastspan.providers import import_onnxruntime, provider_kind, resolve_provider
from fastspan.session import Session, SessionSettings

__all__ = ["LoadedBundle", "load_bundle"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedBundle:
    """A verified bundle with its encoder and session.

    Attributes:
        bundle: Where it lies and what it says of itself.
        options: What was asked for.
        choice: The variant that runs, and why.
        encoder: Text to windows.
        session: Windows to logits.
        threads: Threads that compute.
        onnxruntime: The version of ONNX Runtime.
    """

    bundle: Bundle
    options: LoadOptions
    choice: Choice
    encoder: Encoder
    session: Session
    threads: int
    onnxruntime: str


def load_bundle(source: str | os.PathLike[str], revision: str | None, options: LoadOptions) -> LoadedBundle:
    """Open a bundle, choose its variant, verify what will be read, and make encoder and session.

    Raises:
        InputError: ``source`` or ``revision`` is unusable.
        BundleError: The bundle is missing, damaged or lacks the variant.
        ProviderError: The requested execution provider cannot run it.
        MissingDependency: onnxruntime (or, for a hub id, huggingface_hub) is not installed.
    """
    runtime = import_onnxruntime()
    bundle = _open(source, revision)
    provider = resolve_provider(options.provider)
    try:
        return _load(bundle, options, provider, str(runtime.__version__))
    except ProviderError as error:
        # "auto" asked for nothing in particular: a CUDA build without a GPU still has a CPU.
        if options.provider != "auto" or provider_kind(provider) == "cpu":
            raise
        loaded = _load(bundle, options, resolve_provider("cpu"), str(runtime.__version__))
        reason = f"{loaded.choice.reason} On the CPU, because {provider} cannot run: {error}"
        return replace(loaded, choice=replace(loaded.choice, reason=reason))


def _load(bundle: Bundle, options: LoadOptions, provider: str, runtime_version: str) -> LoadedBundle:
    kind = provider_kind(provider)
    cpu = cpu_features()
    choice = choose_variant(bundle.manifest, options.variant, kind, cpu)
    graph = choice.variant.graph_for(kind, dot_product=cpu.int8_dot_product is not None)
    bundle.verified(bundle.files_for(graph))
    threads = options.threads or usable_cores()
    latency = options.optimize_for == "latency"
    settings = SessionSettings(
        provider=provider,
        provider_options=options.provider_options,
        threads=threads if latency else 1,
        spinning=latency if options.spinning is None else options.spinning,
        padding_id=_padding_id(bundle),
    )
    model = bundle.manifest.model
    encoder = Encoder.from_folder(
        bundle.folder, segment_ids=model.segment_ids, max_positions=model.max_positions
    )
    return LoadedBundle(
        bundle=bundle,
        options=options,
        choice=choice,
        encoder=encoder,
        session=Session(bundle.folder, graph, settings),
        threads=threads,
        onnxruntime=runtime_version,
    )


def _padding_id(bundle: Bundle) -> int:
    config = json.loads((bundle.folder / "config.json").read_text(encoding="utf-8"))
    padding_id = config.get("pad_token_id")
    return padding_id if isinstance(padding_id, int) else 0


def _open(source: str | os.PathLike[str], revision: str | None) -> Bundle:
    if not isinstance(source, str | os.PathLike) or not isinstance(os.fspath(source), str):
        raise InputError(f"source must be a folder or a hub id, not {source!r}.")
    if revision is not None and not isinstance(revision, str):
        raise InputError(f"revision must be a string or None, not {revision!r}.")
    folder = Path(source)
    # A path object is never a hub id: a folder that vanished must not be sought on the network.
    if folder.exists() or not isinstance(source, str) or not _looks_like_hub_id(source):
        if revision is not None:
            raise InputError("revision goes with a hub id; a local folder is taken as it is.")
        return _opened(folder)
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingDependency(
            f"{os.fspath(source)!r} is no folder here, and to load it from the hub huggingface_hub is "
            "missing: run pip install 'fastspan[hub]'."
        ) from error
    try:
        snapshot = Path(snapshot_download(os.fspath(source), revision=revision))
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BundleError(
            f"{os.fspath(source)!r} is no folder here and could not be had from the hub: {reason}"
        ) from error
    return _opened(snapshot)


def _opened(folder: Path) -> Bundle:
    bundle = Bundle.open(folder, links_into=_blobs_of(folder))
    # Pickles and forked children load it again, maybe from another working directory.
    return replace(bundle, folder=folder.absolute())


def _blobs_of(folder: Path) -> Path | None:
    """Where the files of a hub cache's snapshot truly lie; None for any other folder.

    A snapshot is ``models--owner--name/snapshots/<commit>`` and holds links to ``models--owner--name/blobs``.
    """
    snapshots = folder.resolve().parent
    if snapshots.name == "snapshots" and snapshots.parent.name.startswith("models--"):
        return snapshots.parent / "blobs"
    return None


def _looks_like_hub_id(source: str) -> bool:
    owner, _, name = source.partition("/")
    return bool(owner and name) and "/" not in name and owner[0] not in ".~" and "\\" not in source
