"""How windows are run: the defaults, or what this machine's profile says."""

from __future__ import annotations

from dataclasses import replace

from fastspan.bundle.beside.machine_profile import RunSettings, find_profile
from fastspan.bundle.folder import Bundle
from fastspan.bundle.variants import Graph, VariantName
from fastspan.machine.cpu import usable_cores
from fastspan.options import LoadOptions
from fastspan.runtime.batching import KERNEL_BATCH_TOKENS, SHORT_BATCH_TOKENS
from fastspan.runtime.providers import bounds_spinning

__all__ = ["default_settings", "settled"]


def default_settings(options: LoadOptions, variant: VariantName, graph: Graph) -> RunSettings:
    """Return how windows are run where no profile says better.

    Args:
        options: ``optimize_for``, ``threads`` and ``spinning`` are used.
        variant: What runs. A dynamic int8 scale spans the batch: alone, a window's answer cannot depend on
            its company.
        graph: Which of its graphs runs. The kernels have a scale a row, so windows may share a run.
    """
    threads = options.threads or usable_cores()
    latency = options.optimize_for == "latency"
    return RunSettings(
        threads=threads if latency else 1,
        workers=1 if latency else threads,
        spinning=latency if options.spinning is None else options.spinning,
        block_base=0,
        batch_tokens=_batch_tokens(variant, graph),
    )


def _batch_tokens(variant: VariantName, graph: Graph) -> int:
    if graph.target == "cpu-kernels":
        return KERNEL_BATCH_TOKENS
    return 1 if variant == "int8" else SHORT_BATCH_TOKENS


def settled(
    bundle: Bundle, options: LoadOptions, variant: VariantName, graph: Graph, kind: str, runtime_version: str
) -> tuple[RunSettings, str]:
    """Choose between the defaults and the profile; what was asked for goes before both.

    Args:
        bundle: Beside which the profile lies.
        options: What was asked for.
        variant: What runs.
        graph: Which of its graphs runs.
        kind: The kind of provider that runs it.
        runtime_version: Of ONNX Runtime.

    Returns:
        The settings, and whether they come from a profile, and why or why not; a sentence.
    """
    settings = default_settings(options, variant, graph)
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
    if measured.spin_duration_us is not None and not bounds_spinning(runtime_version):
        measured = replace(measured, spin_duration_us=None)
        without = f"without spin_duration_us, which ONNX Runtime {runtime_version} does not know"
        return measured, f"in use: {found.state[:-1]}, {without}."
    return measured, f"in use: {found.state}"
