"""One checkpoint in, one verified bundle out."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import fastspan
from fastspan.bundle.folder import Bundle
from fastspan.bundle.manifest import Manifest, Model, Source
from fastspan.bundle.onnx_files import check_graphs
from fastspan.bundle.variants import Variant, VariantName
from fastspan.errors import InputError, ParityError
from fastspan.export.checkpoint.calibration import Calibration, read_calibration
from fastspan.export.checkpoint.reader import Checkpoint, read_checkpoint
from fastspan.export.checkpoint.source import resolve_source
from fastspan.export.checkpoint.tokenizer import tokenizer_json
from fastspan.export.graphs.families import describe, unsupported_reason
from fastspan.export.int8.recipe import Int8Recipe
from fastspan.export.native_route import lower_natively
from fastspan.export.progress import Progress
from fastspan.export.publishing.bundle_writer import write_bundle
from fastspan.export.publishing.model_card import model_card
from fastspan.export.verification.checks import measure, misses, not_run_here, parity_of
from fastspan.export.verification.pytorch_reference import has_pytorch
from fastspan.machine.cpu import usable_cores
from fastspan.text.encoder import Encoder as TextEncoder

__all__ = ["VARIANTS", "ExportReport", "Progress", "export"]

VARIANTS: tuple[VariantName, ...] = ("fp32", "fp16", "int8")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """What an export made.

    Attributes:
        bundle: The published bundle.
        route: ``"native"`` or ``"optimum"``.
        route_reason: Why that route, for people.
        seconds: How long it took.
        not_run: Files of the graphs that were not compared, being made for other machines than this one.
    """

    bundle: Bundle
    route: str
    route_reason: str
    seconds: float
    not_run: tuple[str, ...] = ()


def export(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    progress: Progress,
    variants: Sequence[VariantName] = VARIANTS,
    revision: str | None = None,
    allow_parity_loss: bool = False,
    int8: Int8Recipe | None = None,
    threads: int | None = None,
) -> ExportReport:
    """Export a checkpoint to a bundle, verified against its reference before it is published.

    Args:
        source: A checkpoint's folder, or a hub id.
        out: The bundle's folder; a bundle that lies there is replaced once the new one is whole.
        progress: Told what happens.
        variants: Which variants to make; fp32 is always made, being the interchange graph.
        revision: With a hub id: branch, tag or commit.
        allow_parity_loss: Publish variants that miss their gate; the manifest records it.
        int8: How int8 is made; None: the defaults.
        threads: Threads to compute with; None: the cores this process may use.

    Raises:
        CheckpointError: The checkpoint cannot be read or its architecture cannot be exported.
        ParityError: A variant differs from its reference by more than its gate allows; nothing is published.
        BundleError: The destination is taken or cannot be written to.
        InputError: ``variants`` names none, or one that there is not.
        MissingDependency: The architecture or the weights' format needs a package that is not installed.
    """
    began = time.perf_counter()
    unknown = [name for name in variants if name not in VARIANTS]
    if unknown or not variants:
        raise InputError(
            f"variants must be some of {', '.join(VARIANTS)}, not {', '.join(unknown) or 'none'}."
        )
    progress.stage("reading the checkpoint")
    checkpoint = read_checkpoint(resolve_source(os.fspath(source), revision))
    calibration = read_calibration(checkpoint.files)
    with write_bundle(out) as draft:
        _copy_texts(checkpoint, draft.folder)
        (draft.folder / "onnx").mkdir()
        manifest, reason = _lower(
            checkpoint,
            draft.folder,
            Path(out).resolve().name,
            variants,
            int8 or Int8Recipe(),
            threads,
            progress,
        )
        manifest = _calibrated(manifest, calibration)
        manifest = _verify(checkpoint, draft.folder, manifest, threads, allow_parity_loss, progress)
        not_run = not_run_here(manifest)
        card = draft.folder / "README.md"
        card.write_text(model_card(manifest, _source_card(checkpoint), not_run), encoding="utf-8")
        check_graphs(draft.folder, manifest.variants)
        progress.stage("publishing")
        bundle = draft.commit(manifest)
        if draft.calibration:
            progress.stage(draft.calibration)
    return ExportReport(
        bundle=bundle,
        route=manifest.model.route,
        route_reason=reason,
        seconds=time.perf_counter() - began,
        not_run=tuple(not_run),
    )


def _copy_texts(checkpoint: Checkpoint, folder: Path) -> None:
    """Configuration and tokenizer, so that other tools can read the bundle too."""
    files = checkpoint.files
    for name in ("config.json", "tokenizer_config.json", "special_tokens_map.json"):
        if files.has(name):
            (folder / name).write_bytes(files.file(name).read_bytes())
    (folder / "tokenizer.json").write_text(tokenizer_json(files, checkpoint.config), encoding="utf-8")


def _calibrated(manifest: Manifest, calibration: Calibration | None) -> Manifest:
    if calibration is None:
        return manifest
    return replace(manifest, no_answer=calibration.no_answer, confidence=calibration.confidence)


def _source_card(checkpoint: Checkpoint) -> str | None:
    if not checkpoint.files.has("README.md"):
        return None
    return checkpoint.files.file("README.md").read_text(encoding="utf-8", errors="replace")


def _lower(
    checkpoint: Checkpoint,
    folder: Path,
    name: str,
    variants: Sequence[VariantName],
    recipe: Int8Recipe,
    threads: int | None,
    progress: Progress,
) -> tuple[Manifest, str]:
    """Write the graphs by whichever route the architecture takes."""
    config = checkpoint.config
    unsupported = unsupported_reason(config)
    if unsupported is None:
        encoder = describe(config, checkpoint.weights)
        model = Model(
            model_type=encoder.model_type,
            route="native",
            max_positions=encoder.max_positions,
            segment_ids=encoder.takes_segment_ids,
            hidden_size=encoder.hidden_size,
            layers=len(encoder.layers),
            heads=encoder.heads,
            vocab_size=encoder.words.shape[0],
        )
        max_length = min(384, model.max_positions)
        text_encoder = TextEncoder.from_folder(
            folder, segment_ids=model.segment_ids, max_positions=model.max_positions
        )
        made = lower_natively(
            encoder,
            text_encoder,
            folder / "onnx",
            variants,
            recipe,
            threads or usable_cores(),
            progress.stage,
        )
        reason = f"{encoder.model_type} is lowered natively"
    else:
        from fastspan.export.traced.route import lower_with_optimum

        made = lower_with_optimum(checkpoint, folder / "onnx", variants, progress.stage)
        model = _model_of(config, made)
        max_length = min(384, model.max_positions)
        reason = f"{unsupported}, so optimum exported it"
    return (
        Manifest(
            name=name,
            created_with=fastspan.__version__,
            source=Source(
                id=checkpoint.source,
                revision=checkpoint.revision,
                sha256=dict(checkpoint.sha256),
                format=checkpoint.format,
            ),
            model=model,
            max_length=max_length,
            overlap=min(128, max_length // 3),
            variants={variant.name: variant for variant in made},
        ),
        reason,
    )


def _model_of(config: dict[str, Any], variants: Sequence[Variant]) -> Model:
    """What the configuration says, under the common names that transformers gives to every architecture's."""
    from transformers import CONFIG_MAPPING

    # from_dict may change what it is given, and fills in what config.json leaves at its default.
    described = CONFIG_MAPPING[str(config.get("model_type"))].from_dict(copy.deepcopy(config))

    def size(name: str) -> int:
        """A whole number of the configuration; 0 where it is missing or null."""
        return int(getattr(described, name, None) or 0)

    positions = size("max_position_embeddings") or 512
    # RoBERTa's relatives number positions from behind the padding id; -1 marks relative positions.
    if config.get("model_type") in {
        "mpnet",
        "longformer",
        "xlm-roberta-xl",
        "roberta-prelayernorm",
        "data2vec-text",
    }:
        positions -= (1 if described.pad_token_id is None else int(described.pad_token_id)) + 1
    return Model(
        model_type=str(config.get("model_type")),
        route="optimum",
        max_positions=positions if positions > 0 else 512,
        segment_ids="token_type_ids" in variants[0].graphs[0].inputs,
        hidden_size=size("hidden_size"),
        layers=size("num_hidden_layers"),
        heads=size("num_attention_heads"),
        vocab_size=size("vocab_size"),
    )


def _verify(
    checkpoint: Checkpoint,
    folder: Path,
    manifest: Manifest,
    threads: int | None,
    allow_parity_loss: bool,
    progress: Progress,
) -> Manifest:
    """Measure every variant's parity and hold it against its gate.

    Raises:
        ParityError: A variant misses its gate and no loss is allowed.
    """
    reference = checkpoint.folder if has_pytorch() else None
    checks = measure(
        folder,
        manifest,
        checkpoint=reference,
        threads=threads,
        progress=progress,
        appeal=not allow_parity_loss,
    )
    verified = {
        name: replace(variant, parity=parity_of([check for check in checks if check.variant == name]))
        for name, variant in manifest.variants.items()
    }
    missed = misses(verified)
    if missed and not allow_parity_loss:
        raise ParityError(
            f"The export differs from its reference: {'; '.join(missed)}. Nothing was published. Leave the "
            "variant out (--variants), or publish it all the same with --allow-parity-loss."
        )
    accepted = {
        name: variant
        if variant.parity is None or variant.parity.passed
        else replace(variant, parity=replace(variant.parity, accepted_loss=True))
        for name, variant in verified.items()
    }
    return replace(manifest, variants=accepted)
