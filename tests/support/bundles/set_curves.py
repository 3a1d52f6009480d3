"""A calibration for sets whose curves are easy to compute by hand."""

from __future__ import annotations

from fastspan.bundle.beside.calibrations import FittedOn, SetConfidence, SetCurve, SetCurves

__all__ = ["FITTED", "SETS"]

FITTED = FittedOn(name="x", questions=10, sha256="0" * 64, reported_on_questions=10)


def curve(**weights: float) -> SetCurve:
    none = {"margin": 0.0, "rival": 0.0, "agreement": 0.0, "retriever": 0.0, "offset": 0.0}
    return SetCurve(**{**none, **weights})


SETS = SetConfidence(
    passages=5,
    threshold=1e6,
    curves=SetCurves(
        answered=curve(margin=0.5, rival=-2.0, agreement=0.7, offset=0.1),
        abstained=curve(margin=-0.5, offset=-0.2),
    ),
    with_retriever=SetCurves(answered=curve(retriever=3.0, offset=-1.0), abstained=curve(offset=-9.0)),
    fitted_on=FITTED,
    ece=0.1,
)
