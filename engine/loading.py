"""From a folder or hub id to everything an answerer needs, checked before any of it is read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from fastspan.bundle.beside.machine_profile import RunSettings
from fastspan.bundle.choose_variant import PORTABLE, Choice, choose_variant
from fastspan.bundle.folder import Bundle, GraphBytes
from fastspan.bundle.manifest_file import state_of
from fastspan.bundle.source import open_bundle
from fastspan.bundle.strict_json import parse_object
from fastspan.bundle.variants import Graph, ProviderKind, VariantName
from fastspan.errors import BundleError, ProviderError
from fastspan.kernels import best_path
from fastspan.kernels import unavailable_reason as why_no_kernels
from fastspan.machine.cpu import cpu_features
from fastspan.options import LoadOptions
from fastspan.runtime.kernel_session import KernelSession
from fastspan.runtime.provider_options import default_options, make_cache_folders
from fastspan.runtime.providers import (
    import_onnxruntime,
    provider_kind,
    resolve_provider,
)
from fastspan.runtime.run_settings import settled
from fastspan.runtime.session import OnnxSession, Session, SessionSettings
from fastspan.text.encoder import Encoder

__all__ = ["LoadedBundle", "load_bundle", "with_settings"]

_TRIES = 10


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
    """Open a bundle, choose its variant, read and verify its files, and make encoder and session.

    Every file is verified as it is read, and only what was verified is used. So a bundle that an export
    replaces meanwhile is loaded as it was before or as it is after, never a mixture of both.

    Raises:
        InputError: ``source`` or ``revision`` is unusable.
        BundleError: The bundle is missing, damaged or lacks the variant.
        ProviderError: The requested execution provider cannot run it.
        MissingDependency: onnxruntime (or, for a hub id, huggingface_hub) is not installed.
    """
    version = str(import_onnxruntime().__version__)
    for _ in range(_TRIES - 1):
        before = state_of(source)
        try:
            return _load_somewhere(open_bundle(source, revision), options, version)
        except BundleError:
            # An export that replaced the folder meanwhile left neither bundle whole for this reader.
            if state_of(source) == before:
                raise
    return _load_somewhere(open_bundle(source, revision), options, version)


def _load_somewhere(bundle: Bundle, options: LoadOptions, runtime_version: str) -> LoadedBundle:
    """Load a bundle on the provider that was asked for, or, of ``"auto"``, on one that runs it."""
    provider = resolve_provider(options.provider)
    if options.provider == "auto" and not _has_graph(bundle, options.variant, provider_kind(provider)):
        loaded = _load(bundle, options, resolve_provider("cpu"), runtime_version)
        reason = f"{loaded.choice.reason} On the CPU, because {options.variant} has no graph for {provider}."
        return replace(loaded, choice=replace(loaded.choice, reason=reason))
    try:
        return _load(bundle, options, provider, runtime_version)
    except ProviderError as error:
        # "auto" asked for nothing in particular: a CUDA build without a GPU still has a CPU.
        if options.provider != "auto" or provider_kind(provider) == "cpu":
            raise
        loaded = _load(bundle, options, resolve_provider("cpu"), runtime_version)
        reason = f"{loaded.choice.reason} On the CPU, because {provider} cannot run: {error}"
        return replace(loaded, choice=replace(loaded.choice, reason=reason))


def _has_graph(bundle: Bundle, variant: str, kind: ProviderKind) -> bool:
    """Whether a provider could run what was asked for; another one mends nothing that the bundle lacks."""
    held = bundle.manifest.variants.get(variant)
    return held is None or held.runs_on(kind)


def _load(bundle: Bundle, options: LoadOptions, provider: str, runtime_version: str) -> LoadedBundle:
    kind = provider_kind(provider)
    kernels = best_path() if options.kernels and kind == "cpu" else ""
    choice = choose_variant(bundle.manifest, options.variant, kind, cpu_features(), kernels)
    graph, told = _graph(choice, kind, options)
    choice = replace(choice, reason=f"{choice.reason}{told}")
    model = bundle.manifest.model
    # All at one moment: what is opened stays whole while the folder is replaced.
    contents = bundle.read(*bundle.files_for(graph))
    config = parse_object(contents["config.json"], "config.json")
    encoder = Encoder.from_json(
        contents["tokenizer.json"],
        name=str(bundle.folder / "tokenizer.json"),
        segment_ids=model.segment_ids,
        max_positions=model.max_positions,
    )
    settings, profile = settled(bundle, options, choice.variant.name, graph, kind, runtime_version)
    padding_id = _padding_id(config, model.vocab_size)
    read = _Reader(bundle, graph, GraphBytes.of(graph, contents))
    del contents  # or the weights would lie in memory twice
    session = _session(read, choice.variant.name, provider, options, settings, padding_id)
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


def _graph(choice: Choice, kind: ProviderKind, options: LoadOptions) -> tuple[Graph, str]:
    """The graph that runs, and what is to be said of the kernels: nothing where none is made for them."""
    made_for_them = any(graph.target == "cpu-kernels" for graph in choice.variant.graphs)
    plain = choice.variant.graph_for(kind, dot_product=cpu_features().int8_dot_product is not None)
    if kind != "cpu" or not made_for_them:
        return plain, ""
    unavailable = why_no_kernels() if options.kernels else "kernels=False was asked for"
    if unavailable is not None:
        return plain, f" Its plain graph runs: {unavailable}."
    chosen_for_them = options.variant == "auto" and best_path() != PORTABLE
    told = "" if chosen_for_them else f" FastSpan's own kernels run it ({best_path()})."
    return choice.variant.graph_for(kind, kernels=True), told


def with_settings(loaded: LoadedBundle, settings: RunSettings) -> LoadedBundle:
    """Return the same bundle, verified already, with a session of its own that runs with other settings."""
    provider = loaded.session.settings.provider
    variant = loaded.choice.variant.name
    padding_id = loaded.session.settings.padding_id
    read = _Reader(loaded.bundle, loaded.session.graph)
    session = _session(read, variant, provider, loaded.options, settings, padding_id)
    return replace(loaded, session=session, settings=settings)


def _session(
    read: _Reader,
    variant: VariantName,
    provider: str,
    options: LoadOptions,
    settings: RunSettings,
    padding_id: int,
) -> Session:
    bundle, graph = read.bundle, read.graph
    packed = graph.target == "cuda" and graph.layout == "packed"
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
        alone=settings.threads * settings.workers if options.widen and graph.target == "cpu-kernels" else 0,
        spinning=settings.spinning,
        block_base=settings.block_base,
        spin_duration_us=settings.spin_duration_us,
        padding_id=padding_id,
        capture_up_to=longest,
    )
    if packed:
        from fastspan.runtime.cuda.session import CudaSession  # a CPU never needs it

        return CudaSession(bundle.folder, graph, chosen, read)
    if graph.target == "cpu-kernels":
        return KernelSession(bundle.folder, graph, chosen, read)
    return OnnxSession(bundle.folder, graph, chosen, read)


class _Reader:
    """Reads a graph's verified bytes for a session, and once more for each forked child.

    Args:
        bundle: The bundle.
        graph: Which of its graphs.
        first: What was read already, for the first session.
    """

    def __init__(self, bundle: Bundle, graph: Graph, first: GraphBytes | None = None) -> None:
        self.bundle = bundle
        self.graph = graph
        self._first = first
        self._process = os.getpid()

    def __call__(self) -> GraphBytes:
        first, self._first = self._first, None
        if first is not None:
            return first
        try:
            return self.bundle.read_graph(self.graph)
        except BundleError as error:
            if os.getpid() == self._process:
                raise
            raise BundleError(
                f"{self.bundle.folder} is not what it was when it was loaded, so a forked process cannot use "
                f"it ({error}): load it again, in the parent before it forks or in the child."
            ) from error


def _padding_id(config: Mapping[str, object], rows: int) -> int:
    """Return the token id that fills up; masked as it is, any that has an embedding serves."""
    padding_id = config.get("pad_token_id")
    if isinstance(padding_id, bool) or not isinstance(padding_id, int):
        return 0
    return padding_id if 0 <= padding_id < rows else 0
