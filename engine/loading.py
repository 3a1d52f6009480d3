"""From a folder or hub id to everything an answerer needs, checked before any of it is read."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace

from fastspan.bundle.choose_variant import Choice, choose_variant
from fastspan.bundle.folder import Bundle
from fastspan.bundle.machine_profile import RunSettings, find_profile
from fastspan.bundle.source import open_bundle
from fastspan.bundle.variants import Graph, ProviderKind, VariantName
from fastspan.errors import ProviderError
from fastspan.machine.cpu import cpu_features, usable_cores
from fastspan.options import LoadOptions
from fastspan.runtime.batching import SHORT_BATCH_TOKENS
from fastspan.runtime.provider_options import default_options, make_cache_folders
from fastspan.runtime.providers import import_onnxruntime, provider_kind, resolve_provider
from fastspan.runtime.session import OnnxSession, Session, SessionSettings
from fastspan.text.encoder import Encoder

__all__ = ["LoadedBundle", "default_settings", "load_bundle", "with_settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedBundle:
    """A verified bundle with its encoder and session.

    Attributes:
        bundle: Where it lies and what it says of itself.
        options: What was asked for.
        choice: The variant that runs, and why.
        encoder: Text to windows.
        session: Windows to logits.
        settings: How windows are run.
        profile: Whether ``settings`` come from a profile, and why or why not; a sentence.
        onnxruntime: The version of ONNX Runtime.
    """

    bundle: Bundle
    options: LoadOptions
    choice: Choice
    encoder: Encoder
    session: Session
    settings: RunSettings
    profile: str
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
    bundle = open_bundle(source, revision)
    provider = resolve_provider(options.provider)
    if options.provider == "auto" and not _has_graph(bundle, options.variant, provider_kind(provider)):
        loaded = _load(bundle, options, resolve_provider("cpu"), str(runtime.__version__))
        reason = f"{loaded.choice.reason} On the CPU, because {options.variant} has no graph for {provider}."
        return replace(loaded, choice=replace(loaded.choice, reason=reason))
    try:
        return _load(bundle, options, provider, str(runtime.__version__))
    except ProviderError as error:
        # "auto" asked for nothing in particular: a CUDA build without a GPU still has a CPU.
        if options.provider != "auto" or provider_kind(provider) == "cpu":
            raise
        loaded = _load(bundle, options, resolve_provider("cpu"), str(runtime.__version__))
        reason = f"{loaded.choice.reason} On the CPU, because {provider} cannot run: {error}"
        return replace(loaded, choice=replace(loaded.choice, reason=reason))


def _has_graph(bundle: Bundle, variant: str, kind: ProviderKind) -> bool:
    """Whether a provider could run what was asked for; another one mends nothing that the bundle lacks."""
    held = bundle.manifest.variants.get(variant)
    return held is None or held.runs_on(kind)


def _load(bundle: Bundle, options: LoadOptions, provider: str, runtime_version: str) -> LoadedBundle:
    kind = provider_kind(provider)
    choice = choose_variant(bundle.manifest, options.variant, kind, cpu_features())
    graph = choice.variant.graph_for(kind)
    bundle.verified(bundle.files_for(graph))
    settings, profile = _settle(bundle, options, choice.variant.name, kind, runtime_version)
    model = bundle.manifest.model
    encoder = Encoder.from_folder(
        bundle.folder, segment_ids=model.segment_ids, max_positions=model.max_positions
    )
    session = _session(bundle, choice.variant.name, graph, provider, options, settings)
    if session.shared_with_cpu:
        choice = replace(choice, reason=f"{choice.reason} {session.shared_with_cpu}")
    return LoadedBundle(
        bundle=bundle,
        options=options,
        choice=choice,
        encoder=encoder,
        session=session,
        settings=settings,
        profile=profile,
        onnxruntime=runtime_version,
    )


def with_settings(loaded: LoadedBundle, settings: RunSettings) -> LoadedBundle:
    """Return the same bundle, verified already, with a session of its own that runs with other settings."""
    provider = loaded.session.settings.provider
    variant = loaded.choice.variant.name
    session = _session(loaded.bundle, variant, loaded.session.graph, provider, loaded.options, settings)
    return replace(loaded, session=session, settings=settings)


def default_settings(options: LoadOptions, variant: VariantName) -> RunSettings:
    """Return how windows are run where no profile says better.

    Args:
        options: ``optimize_for``, ``threads`` and ``spinning`` are used.
        variant: What runs. A dynamic int8 scale spans the batch: alone, a window's answer cannot depend on
            its company.
    """
    threads = options.threads or usable_cores()
    latency = options.optimize_for == "latency"
    return RunSettings(
        threads=threads if latency else 1,
        workers=1 if latency else threads,
        spinning=latency if options.spinning is None else options.spinning,
        block_base=0,
        batch_tokens=1 if variant == "int8" else SHORT_BATCH_TOKENS,
    )


def _settle(
    bundle: Bundle, options: LoadOptions, variant: VariantName, kind: str, runtime_version: str
) -> tuple[RunSettings, str]:
    """Choose between the defaults and the profile; what was asked for goes before both."""
    settings = default_settings(options, variant)
    if not options.profile:
        return settings, "none: profile=False was asked for."
    if kind != "cpu":
        return settings, "none: what fastspan tune measures is for the CPU."
    found = find_profile(bundle, runtime_version)
    if found.profile is None:
        return settings, found.state
    tuned = found.profile.variants.get(variant)
    if tuned is None:
        return settings, f"{found.state[:-1]}, not for {variant}."
    measured = tuned.latency if options.optimize_for == "latency" else tuned.throughput
    compute = measured.threads * measured.workers
    if options.threads is not None and options.threads != compute:
        # Its other figures were measured with that many threads.
        return settings, f"{found.state[:-1]}, with {compute} threads; {options.threads} were asked for."
    if options.spinning is not None:
        measured = replace(measured, spinning=options.spinning)
    # However the file came by another figure, an answer must not depend on it.
    if settings.batch_tokens == 1:
        measured = replace(measured, batch_tokens=1)
    return measured, f"in use: {found.state}"


def _session(
    bundle: Bundle,
    variant: VariantName,
    graph: Graph,
    provider: str,
    options: LoadOptions,
    settings: RunSettings,
) -> Session:
    packed = graph.layout == "packed"
    # A replayed run is one launch instead of hundreds, which is what a single window waits for.
    longest = bundle.manifest.max_length if packed and options.optimize_for == "latency" else 0
    defaults = default_options(
        provider,
        half=variant == "fp16",
        capture=longest > 0,
        memory_limit=options.gpu_memory_limit,
        digests=[bundle.manifest.files[path].sha256 for path in (graph.file, *graph.data)],
    )
    provider_options = {**defaults, **options.provider_options}
    make_cache_folders(provider_options)
    chosen = SessionSettings(
        provider=provider,
        provider_options=provider_options,
        threads=settings.threads,
        spinning=settings.spinning,
        block_base=settings.block_base,
        padding_id=_padding_id(bundle),
        capture_up_to=longest,
    )
    if packed:
        from fastspan.runtime.cuda.session import CudaSession  # a CPU never needs it

        return CudaSession(bundle.folder, graph, chosen)
    return OnnxSession(bundle.folder, graph, chosen)


def _padding_id(bundle: Bundle) -> int:
    config = json.loads((bundle.folder / "config.json").read_text(encoding="utf-8"))
    padding_id = config.get("pad_token_id")
    return padding_id if isinstance(padding_id, int) else 0
