"""One checkpoint in, one verified bundle out."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import fastspan
from fastspan.bundle.folder import Bundle
from fastspan.bundle.manifest import Manifest, Model, Source
from fastspan.bundle.onnx_files import check_graphs
from fastspan.errors import BundleError, CheckpointError, ParityError
from fastspan.export.checkpoint.calibration import read_calibration
from fastspan.export.checkpoint.folder import CheckpointFolder
from fastspan.export.checkpoint.read_tokenizer import CheckpointTokenizer, read_tokenizer
from fastspan.export.checkpoint.reader import Checkpoint, read_checkpoint
from fastspan.export.checkpoint.soundness import require_finite
from fastspan.export.checkpoint.source import name_of, resolve_source
from fastspan.export.destination import default_destination
from fastspan.export.graphs.families import describe, unsupported_reason
from fastspan.export.graphs.model import EncoderModel
from fastspan.export.hub.other_runtimes import tell_transformers_js
from fastspan.export.native_route import lower_natively
from fastspan.export.options import VARIANTS, ExportOptions
from fastspan.export.progress import Progress
from fastspan.export.publishing.bundle_writer import write_bundle
from fastspan.export.publishing.model_card import model_card
from fastspan.export.verification.checks import measure, not_run_here
from fastspan.export.verification.graph_check import misses, parity_of
from fastspan.export.verification.pytorch_reference import has_pytorch
from fastspan.export.verification.tokenizer_reference import difference_from_transformers
from fastspan.export.verification.try_out import try_out
from fastspan.text.encoder import Encoder

__all__ = ["VARIANTS", "ExportOptions", "ExportReport", "Progress", "export"]

_WINDOW, _OVERLAP = 384, 128
_LEAST_POSITIONS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """The result of an export.

    Attributes:
        bundle: The published bundle.
        route: ``"native"`` or ``"optimum"``.
        route_reason: Why that route, for people.
        seconds: How long it took.
        not_run: Files of the graphs that were not compared, being made for other machines than this one.
        notes: What was changed in the checkpoint's tokenizer, and what of it differs from transformers, for
            people; each without a full stop.
    """

    bundle: Bundle
    route: str
    route_reason: str
    seconds: float
    not_run: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the report as built-in types, ready for JSON."""
        manifest = self.bundle.manifest
        return {
            "bundle": str(self.bundle.folder),
            "route": self.route,
            "route_reason": self.route_reason,
            "seconds": self.seconds,
            "variants": {name: asdict(variant) for name, variant in manifest.variants.items()},
            "no_answer": asdict(manifest.no_answer),
            "confidence": asdict(manifest.confidence) if manifest.confidence is not None else None,
            "sets": asdict(manifest.sets) if manifest.sets is not None else None,
            "not_run": list(self.not_run),
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class _Source:
    """A checkpoint that was checked as a whole.

    Attributes:
        checkpoint: Its files and weights.
        tokenizer: Its tokenizer.
        described: The model, where it has a native lowering.
        reason: Why it takes the route it takes, for people.
    """

    checkpoint: Checkpoint
    tokenizer: CheckpointTokenizer
    described: EncoderModel | None
    reason: str


def export(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    options: ExportOptions | None = None,
    *,
    progress: Progress,
) -> ExportReport:
    """Export a checkpoint to a bundle, verified against its reference before it is published.

    Args:
        source: A checkpoint's folder, or a hub id.
        out: The bundle's folder; a bundle that lies there is replaced once the new one is whole. None: the
            one that ``default_destination`` gives.
        options: How; None: the defaults.
        progress: Told what happens.

    Raises:
        CheckpointError: The checkpoint cannot be read, is not whole, or its architecture cannot be exported.
        ParityError: A variant differs from its reference by more than its gate allows; nothing is published.
        BundleError: The destination is taken or cannot be written to, or the bundle would not serve.
        InputError: There is no default destination for the source.
        MissingDependency: The architecture or the weights' format needs a package that is not installed.
    """
    began = time.perf_counter()
    options = options or ExportOptions()
    target = Path(out if out is not None else default_destination(source, options))
    _refuse_unreadable(target)
    progress.stage("reading the checkpoint")
    read = _read(source, options)
    checkpoint = read.checkpoint
    calibration = read_calibration(checkpoint.files)
    difference = (
        difference_from_transformers(checkpoint.files, read.tokenizer.json) if options.pytorch else None
    )
    with write_bundle(target) as draft:
        _copy_texts(read, draft.folder)
        (draft.folder / "onnx").mkdir()
        manifest = _lower(read, draft.folder, name_of(target), options, progress)
        if calibration is not None:
            manifest = manifest.with_calibration(None, calibration)
        tell_transformers_js(draft.folder, manifest)
        manifest = _verify(checkpoint, draft.folder, manifest, options, progress)
        not_run = not_run_here(manifest)
        card = draft.folder / "README.md"
        text = model_card(manifest, _source_card(checkpoint), not_run)
        card.write_text(text, encoding="utf-8", errors="replace")
        check_graphs(draft.folder, manifest.variants)
        progress.stage("publishing")
        bundle = draft.commit(manifest, check=lambda folder: try_out(folder, manifest, options.cores))
        if draft.calibration:
            progress.stage(draft.calibration)
    return ExportReport(
        bundle=bundle,
        route=manifest.model.route,
        route_reason=read.reason,
        seconds=time.perf_counter() - began,
        not_run=tuple(not_run),
        notes=(*read.tokenizer.notes, *([difference] if difference is not None else [])),
    )


def _refuse_unreadable(target: Path) -> None:
    """Refuse a destination that the onnx package, which checks what was written, cannot open."""
    try:
        os.path.realpath(target).encode("utf-8")
    except UnicodeEncodeError as error:
        raise BundleError(
            f"{target} cannot be the bundle's folder: its path holds bytes that are no UTF-8; choose another."
        ) from error


def _read(source: str | os.PathLike[str], options: ExportOptions) -> _Source:
    """Read the checkpoint and check it as a whole, before any work begins."""
    checkpoint = read_checkpoint(resolve_source(os.fspath(source), options.revision))
    config = checkpoint.config
    require_finite(checkpoint.weights)
    unsupported = unsupported_reason(config)
    tokenizer = read_tokenizer(checkpoint.files, config)
    if unsupported is None:
        described = describe(config, checkpoint.weights)
        tokenizer.require_rows(described.words.shape[0])
        _require_room(described.max_positions)
        return _Source(checkpoint, tokenizer, described, f"{described.model_type} is lowered natively")
    if isinstance(rows := config.get("vocab_size"), int):
        tokenizer.require_rows(rows)
    return _Source(checkpoint, tokenizer, None, f"{unsupported}, so optimum exported it")


def _require_room(positions: int) -> None:
    if positions < _LEAST_POSITIONS:
        raise CheckpointError(
            f"The model takes windows of at most {positions} tokens, and a question with a piece of its "
            f"context needs {_LEAST_POSITIONS}: give a checkpoint with more positions."
        )


def _copy_texts(read: _Source, folder: Path) -> None:
    """Configuration and tokenizer, so that other tools can read the bundle too."""
    files = read.checkpoint.files
    for name in ("config.json", "tokenizer_config.json", "special_tokens_map.json"):
        if files.has(name):
            (folder / name).write_text(_json_text(files, name), encoding="utf-8", newline="")
    (folder / "tokenizer.json").write_text(read.tokenizer.json, encoding="utf-8", newline="")


def _json_text(files: CheckpointFolder, name: str) -> str:
    """The text of a JSON object, without the byte order mark that most readers stumble over."""
    files.json(name)
    data = files.file(name).read_bytes()
    return data.decode(json.detect_encoding(data)).removeprefix("\ufeff")


def _source_card(checkpoint: Checkpoint) -> str | None:
    if not checkpoint.files.has("README.md"):
        return None
    return checkpoint.files.file("README.md").read_text(encoding="utf-8", errors="replace")


def _lower(read: _Source, folder: Path, name: str, options: ExportOptions, progress: Progress) -> Manifest:
    """Write the graphs by whichever route the architecture takes."""
    checkpoint, described = read.checkpoint, read.described
    if described is not None:
        model = Model(
            model_type=described.model_type,
            route="native",
            max_positions=described.max_positions,
            segment_ids=described.takes_segment_ids,
            hidden_size=described.hidden_size,
            layers=len(described.layers),
            heads=described.heads,
            vocab_size=described.words.shape[0],
        )
        texts = Encoder.from_folder(folder, segment_ids=model.segment_ids, max_positions=model.max_positions)
        made = lower_natively(described, texts, folder / "onnx", options, progress.stage)
    else:
        from fastspan.export.traced.route import lower_with_optimum
        from fastspan.export.traced.sizes import traced_model

        made = lower_with_optimum(checkpoint, folder / "onnx", options.variants, progress.stage)
        model = traced_model(checkpoint.config, segment_ids="token_type_ids" in made[0].graphs[0].inputs)
        read.tokenizer.require_rows(model.vocab_size)
        _require_room(model.max_positions)
    window = min(_WINDOW, model.max_positions)
    return Manifest(
        name=name,
        created_with=fastspan.__version__,
        source=Source(
            id=checkpoint.source,
            revision=checkpoint.revision,
            sha256=dict(checkpoint.sha256),
            format=checkpoint.format,
        ),
        model=model,
        max_length=window,
        overlap=min(_OVERLAP, window // 3),
        variants={variant.name: variant for variant in made},
    )


def _verify(
    checkpoint: Checkpoint,
    folder: Path,
    manifest: Manifest,
    options: ExportOptions,
    progress: Progress,
) -> Manifest:
    """Measure every variant's parity and hold it against its gate.

    Raises:
        ParityError: A variant misses its gate and no loss is allowed.
    """
    reference = checkpoint.folder if options.pytorch and has_pytorch() else None
    checks = measure(
        folder,
        manifest,
        checkpoint=reference,
        threads=options.threads,
        progress=progress,
        appeal=not options.allow_parity_loss,
        effort=options.effort,
    )
    verified = {
        name: replace(variant, parity=parity_of([check for check in checks if check.variant == name]))
        for name, variant in manifest.variants.items()
    }
    missed = misses(verified)
    if missed and not options.allow_parity_loss:
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
