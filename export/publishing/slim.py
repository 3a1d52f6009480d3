"""A bundle with fewer variants: for a container, which needs one and pays for every megabyte."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fastspan.bundle.beside.evaluations import EVALUATIONS
from fastspan.bundle.folder import Bundle
from fastspan.bundle.source import open_bundle
from fastspan.bundle.variants import VariantName
from fastspan.errors import BundleError, InputError
from fastspan.export.publishing.bundle_writer import write_bundle
from fastspan.export.publishing.licences import licences_beside
from fastspan.export.publishing.model_card import model_card, uncovered_in
from fastspan.options import shown

__all__ = ["slim"]

_CARD = "README.md"


def slim(
    bundle: str | os.PathLike[str],
    out: str | os.PathLike[str],
    variants: Sequence[VariantName],
    *,
    revision: str | None = None,
) -> Bundle:
    """Copy a bundle with some of its variants: every file verified as it is read, published in one step.

    Licences and scores beside the bundle go along, and the model card is written anew. The calibration stays.

    Args:
        bundle: The bundle's folder, or a hub id, of which no other files are fetched.
        out: Where the smaller bundle is to lie. A bundle that lies there is replaced.
        variants: Names of those to keep.
        revision: With a hub id: branch, tag or commit.

    Returns:
        The smaller bundle.

    Raises:
        InputError: ``variants`` names none, or ``out`` is the bundle itself.
        BundleError: The bundle is damaged or lacks a variant, or ``out`` holds anything that no export wrote
            or cannot be written to.
        MissingDependency: ``bundle`` is a hub id and ``huggingface_hub`` is not installed.
    """
    if isinstance(variants, str) or not variants:
        raise InputError("variants must name those to keep, such as ['int8'].")
    source = open_bundle(bundle, revision)
    held = source.manifest.variants
    unknown = [name for name in variants if name not in held]
    if unknown:
        raise BundleError(
            f"The bundle holds no variant {', '.join(map(shown, unknown))}; it holds {', '.join(held)}: "
            "choose some of these, or export the checkpoint again."
        )
    if os.path.realpath(out) == os.path.realpath(source.folder):
        raise InputError(f"out is the bundle itself, {source.folder}: the variants left out would be lost.")
    manifest = replace(source.manifest, variants={name: held[name] for name in held if name in variants})
    with write_bundle(out) as draft:
        kept_files = [path for kept in manifest.variants.values() for path in kept.files]
        for path in dict.fromkeys((*source.files_beside, *kept_files)):
            place = draft.folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            # One at a time: the bundle need not fit into memory.
            place.write_bytes(source.read(path)[path])
        former = _text_of(source.folder / _CARD)
        not_run = [file for file in uncovered_in(former) if file in kept_files]
        card = model_card(manifest, former, not_run)
        (draft.folder / _CARD).write_text(card, encoding="utf-8", errors="replace")
        if (scores := source.folder / EVALUATIONS).is_file():
            # Those of variants that are left out count no more: a record names the files it is of.
            (draft.folder / EVALUATIONS).write_bytes(scores.read_bytes())
        for licence in licences_beside(source.folder):
            (draft.folder / licence.name).write_bytes(licence.read_bytes())
        return draft.commit(manifest)


def _text_of(card: Path) -> str:
    """The model card; a bundle needs none, and a hub's is not fetched."""
    try:
        return card.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
