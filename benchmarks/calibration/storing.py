"""A fitted calibration in a bundle's manifest, beside those of other domains."""

from __future__ import annotations

from dataclasses import replace

from fastspan.benchmarks.calibration.calibrate import Calibrated
from fastspan.bundle.beside.calibrations import Calibration, Confidence, NoAnswer
from fastspan.bundle.folder import Bundle
from fastspan.bundle.manifest import Manifest
from fastspan.export.publishing.bundle_writer import update_manifest

__all__ = ["present_calibration", "store"]


def store(bundle: Bundle, calibrated: Calibrated, domain: str | None = None) -> None:
    """Write what is to be kept of the threshold and the confidence into a bundle's manifest, in one step.

    Args:
        bundle: The bundle.
        calibrated: The calibration.
        domain: The domain it is for; None: the general one. What a new domain does not get it takes from the
            general one.

    Raises:
        BundleError: The bundle was exported again meanwhile, or cannot be written to.
    """
    kept = present_calibration(bundle.manifest, domain)
    if calibrated.keep_threshold:
        fitted = NoAnswer(
            threshold=calibrated.threshold,
            fitted_on=calibrated.fitted_on,
            guarantee=calibrated.guarantee,
        )
        kept = replace(kept, no_answer=fitted)
    if calibrated.keep_confidence:
        curves = Confidence(
            **calibrated.confidence.to_dict(),
            fitted_on=calibrated.fitted_on,
            ece=calibrated.kept_ece,
            tenths=calibrated.tenths,
        )
        kept = replace(kept, confidence=curves)
    update_manifest(bundle.folder, bundle.manifest.with_calibration(domain, kept))


def present_calibration(manifest: Manifest, domain: str | None) -> Calibration:
    """Return the calibration of a domain, or the general one where it has none yet."""
    return manifest.calibration(domain if domain in manifest.domains else None)
