"""A calibration outlives the export that replaces its bundle, as long as the weights are the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fastspan.bundle.calibrations import Calibration
from fastspan.bundle.folder import read_manifest
from fastspan.bundle.manifest import MANIFEST, Manifest
from fastspan.errors import BundleError

__all__ = ["carry_over"]


def carry_over(manifest: Manifest, target: Path) -> tuple[Manifest, str]:
    """Take the threshold and the calibration of the bundle that is about to be replaced.

    Args:
        manifest: That of the bundle that replaces it.
        target: Where the bundle lies that is replaced, if there is one.

    Returns:
        The manifest to publish, and a sentence that says what becomes of the calibration; it is empty where
        there was none.
    """
    try:
        former = read_manifest(target / MANIFEST)
    except BundleError:
        return manifest, ""
    if _fitted(former) in (_fitted(manifest), _fitted(None)):
        return manifest, ""
    if _fitted(manifest) != _fitted(None):
        return manifest, (
            f"the calibration of the former bundle (threshold {former.no_answer.threshold:g}) gives way to "
            "the checkpoint's own"
        )
    if not former.source.sha256 or former.source.sha256 != manifest.source.sha256:
        return manifest, (
            f"the calibration of the former bundle (threshold {former.no_answer.threshold:g}) is dropped, "
            "because the weights are others: run `fastspan calibrate` again"
        )
    kept = replace(manifest.with_calibration(None, former.calibration()), domains=former.domains)
    return kept, (
        f"the calibration of the former bundle (threshold {former.no_answer.threshold:g}) is kept: the "
        "weights are the same"
    )


def _fitted(manifest: Manifest | None) -> tuple[Calibration, dict[str, Calibration]]:
    """What calibrations fit; of None, what stands there before."""
    if manifest is None:
        return Calibration(), {}
    return manifest.calibration(), dict(manifest.domains)
