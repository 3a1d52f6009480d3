"""Every variant of a bundle against its checkpoint in PyTorch: run, compare, judge, write down."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from fastspan.benchmarks.accuracy.evaluation import evaluate
from fastspan.benchmarks.parity.figures import VariantParity, compare_runs
from fastspan.benchmarks.parity.gates import ACCURACY_GATES, held_against
from fastspan.benchmarks.parity.markdown import parity_markdown
from fastspan.benchmarks.parity.record import ParityReport
from fastspan.benchmarks.parity.runs import (
    VariantRun,
    encode_questions,
    find_checkpoint,
    run_pytorch,
    run_variant,
)
from fastspan.benchmarks.questions.evaluation_set import EvaluationSet, file_name
from fastspan.benchmarks.reporting.files import write_text
from fastspan.benchmarks.reporting.machine import describe_machine
from fastspan.bundle.folder import Bundle
from fastspan.bundle.manifest import MANIFEST, FileRecord
from fastspan.errors import BundleError, InputError
from fastspan.export.progress import Progress
from fastspan.machine.cpu import usable_cores
from fastspan.options import LoadOptions
from fastspan.runtime.providers import provider_kind, resolve_provider

__all__ = ["compare_with_pytorch", "save_parity_report"]

_PACKAGES = ("fastspan", "onnxruntime", "numpy", "tokenizers", "torch", "transformers")


def compare_with_pytorch(
    bundle: Bundle,
    data: EvaluationSet,
    *,
    checkpoint: str | None,
    variants: Sequence[str] | None,
    threads: int | None,
    progress: Progress,
    command: str,
    provider: str = "auto",
) -> ParityReport:
    """Run PyTorch and every variant on the same windows, and compare what they give.

    Args:
        bundle: The bundle.
        data: What to ask.
        checkpoint: The checkpoint's folder or hub id; None: what the manifest names.
        variants: Which variants; None: all that run on the provider. fp32 is always among them.
        threads: Threads to compute with, PyTorch's too; None: the cores this process may use.
        progress: Told what happens.
        command: The command line that asked for this, for the report.
        provider: Where to run the variants; ``"auto"`` takes CUDA where this onnxruntime has it.

    Raises:
        BundleError: The bundle is damaged or lacks a variant.
        CheckpointError: The checkpoint is not found, or is not the one that was exported.
        DataError: A question cannot be asked; the message names it.
        MissingDependency: PyTorch is not installed.
        ProviderError: The provider cannot run a variant.
    """
    # Also fetches what a bundle from the hub holds here in part only.
    bundle.verify_all()
    cores = threads or usable_cores()
    names = _chosen(bundle, variants, resolve_provider(provider))
    source = find_checkpoint(bundle, checkpoint)
    pairs = encode_questions(bundle, data.questions)
    windows = sum(len(pair.windows) for pair in pairs)
    with progress.bar("running the checkpoint in PyTorch", windows) as step:
        reference = run_pytorch(bundle, source, data.questions, pairs, threads=cores, step=step)
    stored = bundle.manifest.no_answer.threshold
    thresholds = (stored,) if stored == 0 else (stored, 0.0)
    compared: list[VariantParity] = []
    for name in names:
        options = LoadOptions(variant=name, provider=provider, threads=threads, optimize_for="throughput")
        with progress.bar(f"answering with {name}", len(data.questions)) as step:
            found = run_variant(bundle, options, data.questions, pairs, step=step)
        files = _files_of(bundle, name, found.graph)
        compared.append(compare_runs(name, files, reference, found, thresholds))
    expected = evaluate(reference.outcomes, stored)
    fp32_f1 = next(parity.agreements[0].f1 for parity in compared if parity.variant == "fp32")
    return ParityReport(
        name=bundle.manifest.name,
        data=data.name,
        data_sha256=data.sha256,
        questions=len(data.questions),
        unanswerable=data.unanswerable,
        windows=windows,
        threshold=stored,
        exact=float(expected.official["exact"]),
        f1=float(expected.official["f1"]),
        reference_seconds=reference.outcomes.seconds,
        variants=tuple(compared),
        demands={
            p.variant: held_against(ACCURACY_GATES[p.variant], p, fp32_f1, len(data.questions))
            for p in compared
        },
        environment=_environment(bundle, data, reference, compared),
        command=command,
    )


def save_parity_report(report: ParityReport, folder: Path) -> tuple[Path, Path]:
    """Write ``parity-MODEL-DATA.md`` and ``parity-MODEL-DATA.json``, and return their paths.

    Raises:
        InputError: They cannot be written.
    """
    name = f"parity-{file_name(report.name)}-{report.data}"
    markdown, document = (folder / f"{name}.{kind}" for kind in ("md", "json"))
    write_text(markdown, parity_markdown(report))
    text = json.dumps(report.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(document, f"{text}\n")
    return markdown, document


def _chosen(bundle: Bundle, wanted: Sequence[str] | None, provider: str) -> list[str]:
    kind = provider_kind(provider)
    held = bundle.manifest.variants
    if wanted is None:
        return [name for name, variant in held.items() if variant.runs_on(kind)]
    for name in wanted:
        if name not in held:
            raise InputError(f"The bundle holds no variant {name!r}; it holds {', '.join(held)}.")
        if not held[name].runs_on(kind):
            raise BundleError(f"Variant {name} has no graph for {provider}: choose another provider.")
    # The other gates are measured from fp32.
    return list(dict.fromkeys(("fp32", *wanted)))


def _files_of(bundle: Bundle, name: str, graph: str) -> dict[str, FileRecord]:
    chosen = next(g for g in bundle.manifest.variants[name].graphs if g.file == graph)
    return {path: bundle.manifest.files[path] for path in (chosen.file, *chosen.data)}


def _environment(
    bundle: Bundle, data: EvaluationSet, reference: VariantRun, compared: Sequence[VariantParity]
) -> dict[str, str]:
    manifest = bundle.manifest
    digest = json.loads((bundle.folder / MANIFEST).read_bytes())["digest"]
    source = manifest.source
    return {
        **describe_machine(_PACKAGES),
        "provider": ", ".join(dict.fromkeys(p for parity in compared for p in parity.providers)),
        "threads": ", ".join(dict.fromkeys(str(parity.threads) for parity in compared)),
        "PyTorch's threads": str(reference.threads),
        "data": f"{data.name}, sha256 {data.sha256}",
        "bundle": f"{manifest.name}, digest {digest}",
        "checkpoint": ", ".join(
            [f"{source.id}{f'@{source.revision}' if source.revision else ''}"]
            + [f"{name} sha256 {value}" for name, value in source.sha256.items()]
        ),
        "windows": f"at most {manifest.max_length} tokens, overlap {manifest.overlap}",
    }
