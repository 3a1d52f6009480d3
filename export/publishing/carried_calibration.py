"""Calibrations outlive the export that replaces their bundle, as long as the weights are the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fastspan.bundle.beside.calibrations import Calibration
from fastspan.bundle.manifest import MANIFEST, Manifest
from fastspan.bundle.manifest_file import read_manifest
from fastspan.errors import BundleError

__all__ = ["carry_over"]


def carry_over(manifest: Manifest, target: Path) -> tuple[Manifest, str]:
    """Take the threshold and the calibrations of the bundle that is about to be replaced.

    What the checkpoint brings itself goes before; what it says nothing of, sets of passages and domains, is
    taken all the same.

    Args:
        manifest: That of the bundle that replaces it.
        target: Where the bundle lies that is replaced, if there is one.

    Returns:
        The manifest to publish, and a sentence that says what becomes of the calibrations; it is empty where
        nothing is lost or taken.
    """
    try:
        former = read_manifest(target / MANIFEST)
    except BundleError:
        return manifest, ""
    before, own = former.calibration(), manifest.calibration()
    known = f"the calibration of the former bundle (threshold {before.no_answer.threshold:g})"
    more = _more(former, own)
    if not (_fitted(before) or more) or (_same_decision(before, own) and not more):
        return manifest, ""
    if not former.source.sha256 or former.source.sha256 != manifest.source.sha256:
        if _fitted(own) and not more:
            return manifest, f"{known} gives way to the checkpoint's own"
        lost = known if not _fitted(own) else f"what the former bundle held of {more}"
        return manifest, f"{lost} is dropped, because the weights are others: run `fastspan calibrate` again"
    kept = replace(own if _fitted(own) else before, sets=own.sets or before.sets)
    carried = replace(manifest.with_calibration(None, kept), domains=former.domains)
    if _fitted(own) and not _same_decision(before, own):
        rest = f", and what it held of {more} is kept" if more else ""
        return carried, f"{known} gives way to the checkpoint's own{rest}"
    what = f"what the former bundle held of {more}" if _fitted(own) or not _fitted(before) else known
    return carried, f"{what} is kept: the weights are the same"


def _fitted(calibration: Calibration) -> bool:
    """Whether a decision over one context was fitted."""
    return not _same_decision(calibration, Calibration())


def _same_decision(one: Calibration, other: Calibration) -> bool:
    return (one.no_answer, one.confidence) == (other.no_answer, other.confidence)


def _more(former: Manifest, own: Calibration) -> str:
    """What a bundle holds beside its general calibration that the checkpoint does not bring, for people."""
    parts = ["sets"] if former.sets is not None and own.sets is None else []
    parts += [f"the domain {name}" for name in former.domains]
    return " and ".join(parts)
