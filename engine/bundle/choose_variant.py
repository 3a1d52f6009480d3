"""Which of a bundle's variants suits this machine, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastspan.bundle.manifest import Manifest
from fastspan.bundle.variants import ProviderKind, Variant, VariantName
from fastspan.errors import BundleError
from fastspan.machine.cpu import CpuFeatures
from fastspan.options import shown

__all__ = ["PORTABLE", "Choice", "choose_variant", "preferred_variants"]

PORTABLE = "portable"
"""The kernels' path for every CPU, which is there to be compared with, not to be fast."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A variant and why it was chosen.

    Attributes:
        variant: What to load.
        reason: A sentence for people.
    """

    variant: Variant
    reason: str


def choose_variant(
    manifest: Manifest, requested: str, provider_kind: ProviderKind, cpu: CpuFeatures, kernels: str = ""
) -> Choice:
    """Choose the variant to load.

    ``"auto"`` takes fp16 on CUDA; int8 on a CPU for which FastSpan's own kernels are made, where the bundle
    has a graph for them, or that sums 8-bit products in one instruction (VNNI, or the dot product of arm64);
    fp32 otherwise. Where the bundle lacks that, or has it for other providers only, or it missed its parity
    gate and nobody accepted the loss, the next best is taken, and the reason says so.

    Args:
        manifest: The bundle's manifest.
        requested: ``"auto"`` or a variant's name.
        provider_kind: Where it will run.
        cpu: This machine's instruction sets; they count only for ``"cpu"``.
        kernels: What FastSpan's own kernels run on here, such as ``"avx2"``; empty where they do not run.

    Raises:
        BundleError: The requested variant is not in the bundle or has no graph for this provider, or
            no variant suits it.
    """
    variants = manifest.variants
    if requested != "auto":
        if requested not in variants:
            raise BundleError(
                f"The bundle holds no variant {shown(requested)}; it holds {', '.join(variants)}: choose one "
                "of these or 'auto', or export the checkpoint again with it."
            )
        variants[requested].graph_for(provider_kind)
        return Choice(variants[requested], f"{requested} was asked for.")

    int8 = variants.get("int8")
    made_for_them = int8 is not None and any(graph.target == "cpu-kernels" for graph in int8.graphs)
    order, because = preferred_variants(provider_kind, cpu, kernels if made_for_them else "")
    passed_over: list[str] = []
    for name in order:
        fault = _fault(variants.get(name), provider_kind)
        if fault is None:
            if not passed_over:
                return Choice(variants[name], f"{name}, because {because}.")
            reason = f"{name} instead of {order[0]} ({because}): {'; '.join(passed_over)}."
            return Choice(variants[name], reason)
        passed_over.append(f"{name} {fault}")
    raise BundleError(
        f"No variant suits the {provider_kind} provider: {'; '.join(passed_over)}. Ask for a variant by "
        "name, choose another provider, or export the checkpoint again."
    )


def preferred_variants(
    provider_kind: ProviderKind, cpu: CpuFeatures, kernels: str = ""
) -> tuple[Sequence[VariantName], str]:
    """Say which variants ``"auto"`` prefers, whatever a bundle holds.

    Args:
        provider_kind: Where it will run.
        cpu: This machine's instruction sets; they count only for ``"cpu"``.
        kernels: What FastSpan's own kernels run on here; empty where they do not run.

    Returns:
        The names, best first, and a clause that says what makes the first the best.
    """
    if provider_kind == "cuda":
        return ("fp16", "fp32", "int8"), "fp16 is the fastest on CUDA"
    if provider_kind == "other":
        return ("fp32", "fp16", "int8"), "fp32 is what every provider can run"
    if kernels not in ("", PORTABLE):
        return (
            "int8",
            "fp32",
            "fp16",
        ), f"FastSpan's own kernels run it on this {cpu.machine} CPU ({kernels})"
    if cpu.int8_dot_product is not None:
        return ("int8", "fp32", "fp16"), f"this {cpu.machine} CPU has {cpu.int8_dot_product}, which int8 uses"
    # Without such an instruction int8 gains so much less over fp32 that its small loss of accuracy is the
    # user's to choose.
    return ("fp32", "fp16", "int8"), f"this {cpu.machine} CPU is not known to have an 8-bit dot product"


def _fault(variant: Variant | None, provider_kind: ProviderKind) -> str | None:
    """Say why ``"auto"`` passes over this variant; None when it does not."""
    if variant is None:
        return "is not in the bundle"
    if not variant.runs_on(provider_kind):
        return f"has no graph for {provider_kind}"
    parity = variant.parity
    if parity is not None and not parity.passed and not parity.accepted_loss:
        return "missed its parity gate"
    return None
