"""``calibration.json``: the no-answer threshold and the confidence curves that come with a checkpoint.

Its format is described in docs/accuracy.md. What ``fastspan calibrate --out`` writes is of it.
"""

from __future__ import annotations

import contextlib
import math
import re
import reprlib
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_args

from fastspan.bundle.beside.calibrations import (
    Calibration,
    Confidence,
    FittedOn,
    Guarantee,
    NoAnswer,
    SetConfidence,
)
from fastspan.bundle.strict_json import decode, parse
from fastspan.bundle.variants import VariantName
from fastspan.errors import BundleError, CheckpointError
from fastspan.export.checkpoint.folder import CheckpointFolder
from fastspan.options import shown

__all__ = ["CALIBRATION", "read_calibration"]

T = TypeVar("T")

CALIBRATION = "calibration.json"
"""The file's name, beside the checkpoint's weights."""

_MEND = "mend the file, or remove it to export without a calibration"
_CURVES = ("answered_scale", "answered_offset", "abstained_scale", "abstained_offset")


def read_calibration(files: CheckpointFolder) -> Calibration | None:
    """Read the checkpoint's ``calibration.json``; None where there is none.

    Raises:
        CheckpointError: The file cannot be read, or a field is missing, unknown or of another kind; the
            message names the file and the field.
    """
    if not files.has(CALIBRATION):
        return None
    path = files.path / CALIBRATION
    try:
        document = parse(files.file(CALIBRATION).read_bytes())
    except ValueError as error:
        raise CheckpointError(f"{path} is not readable JSON ({error}): {_MEND}.") from error
    return _Reader(path).calibration(document)


class _Reader:
    """Takes the fields of one file, and names the first that is wrong."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def calibration(self, document: object) -> Calibration:
        """Return what the whole document says."""
        found = self._object(
            document,
            "",
            needed=("no_answer_threshold", "fitted_on"),
            allowed=(
                "variant",
                "confidence",
                "reported_on",
                "target_precision",
                "held_out",
                "stored",
                "reliability",
                "guarantee",
                "sets",
            ),
        )
        if "variant" in found and found["variant"] not in get_args(VariantName):
            self._refuse("variant", f"one of {', '.join(get_args(VariantName))}", found["variant"])
        questions, ece = self._reported(found)
        fitted_on = self._fitted_on(found["fitted_on"], questions)
        threshold = self._number(found["no_answer_threshold"], "no_answer_threshold")
        confidence = None
        if found.get("confidence") is not None:
            curves = self._object(found["confidence"], "confidence", needed=_CURVES, allowed=("tenths",))
            if ece is None:
                self._refuse("reported_on", "the held-out results of the confidence, ece among them", None)
            confidence = Confidence(
                **{name: self._number(curves[name], f"confidence.{name}") for name in _CURVES},
                fitted_on=fitted_on,
                ece=ece,
                tenths=self._tenths(curves.get("tenths")),
            )
        # What `fastspan calibrate` found worse than before it did not store, and it is not taken here either.
        parts = ("no_answer_threshold", "confidence")
        stored = self._object(found["stored"], "stored", needed=parts) if "stored" in found else {}
        for name, value in stored.items():
            if not isinstance(value, bool):
                self._refuse(f"stored.{name}", "true or false", value)
        guarantee = self._decoded(Guarantee, found.get("guarantee"), "guarantee")
        return Calibration(
            no_answer=NoAnswer(threshold=threshold, fitted_on=fitted_on, guarantee=guarantee)
            if stored.get("no_answer_threshold", True)
            else NoAnswer(),
            confidence=confidence if stored.get("confidence", True) else None,
            sets=self._decoded(SetConfidence, found.get("sets"), "sets"),
        )

    def _tenths(self, value: object) -> tuple[int, ...] | None:
        """How many questions had a confidence in each tenth; None where the file does not say it."""
        if value is None:
            return None
        whole = isinstance(value, list) and all(
            type(count) is int and 0 <= count < 1 << 53 for count in value
        )
        if not isinstance(value, list) or not whole or len(value) != 10 or not sum(value):
            self._refuse("confidence.tenths", "ten whole numbers, not all of them 0", value)
        return tuple(value)

    def _decoded(self, kind: type[T], value: object, where: str) -> T | None:
        """A part that has the same fields here as in a bundle's manifest; None where it is missing."""
        if value is None:
            return None
        try:
            return decode(kind, value, where=f"{self._path}: {where}")
        except BundleError as error:
            # Its remedy is one for bundles.
            raise CheckpointError(f"{str(error).rpartition(':')[0]}: {_MEND}.") from error

    def _reported(self, found: dict[str, Any]) -> tuple[int | None, float | None]:
        """How many held-out questions the first report is about, and its calibration error."""
        if "held_out" in found:
            # As `fastspan calibrate --out` writes it; the number of questions stands in fitted_on.
            held = self._mapping(self._mapping(found["held_out"], "held_out").get("after"), "held_out.after")
            return None, self._share(held.get("ece"), "held_out.after.ece")
        reports = found.get("reported_on", [])
        if not isinstance(reports, list):
            self._refuse("reported_on", "an array", reports)
        read = []
        for index, report in enumerate(reports):
            where = f"reported_on[{index}]"
            fields = self._object(report, where, needed=("name", "questions", "ece"), allowed=("exact", "f1"))
            self._text(fields["name"], f"{where}.name")
            for score in {"exact", "f1"} & fields.keys():
                self._number(fields[score], f"{where}.{score}", most=100.0)
            count = self._count(fields["questions"], f"{where}.questions")
            read.append((count, self._share(fields["ece"], f"{where}.ece")))
        return read[0] if read else (None, None)

    def _fitted_on(self, value: object, reported: int | None) -> FittedOn:
        fields = self._object(
            value,
            "fitted_on",
            needed=("name", "questions", "sha256"),
            allowed=("half", "reported_on_questions"),
        )
        if "half" in fields:
            self._text(fields["half"], "fitted_on.half")
        digest = fields["sha256"]
        if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
            self._refuse("fitted_on.sha256", "64 hexadecimal digits in lower case", digest)
        if reported is None:
            reported = 0
            if "reported_on_questions" in fields:
                reported = self._count(fields["reported_on_questions"], "fitted_on.reported_on_questions")
        return FittedOn(
            name=self._text(fields["name"], "fitted_on.name"),
            questions=self._count(fields["questions"], "fitted_on.questions"),
            sha256=digest,
            reported_on_questions=reported,
        )

    def _object(
        self, value: object, where: str, *, needed: tuple[str, ...], allowed: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        fields = self._mapping(value, where)
        prefix = f"{where}." if where else ""
        for name in needed:
            if name not in fields:
                raise CheckpointError(f"{self._path} lacks {prefix}{name}: {_MEND}.")
        for name in fields:
            if name not in needed and name not in allowed:
                raise CheckpointError(
                    f"{self._path} has an unknown field {shown(prefix + name[:80])}: it may hold "
                    f"{', '.join((*needed, *allowed))}."
                )
        return fields

    def _mapping(self, value: object, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            self._refuse(where, "an object", value)
        return value

    def _text(self, value: object, where: str) -> str:
        if not isinstance(value, str) or not value.strip():
            self._refuse(where, "a text", value)
        return value

    def _count(self, value: object, where: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 1 << 53:
            self._refuse(where, "a whole number of at least 1", value)
        return value

    def _share(self, value: object, where: str) -> float:
        number = self._number(value, where)
        if not 0.0 <= number <= 1.0:
            self._refuse(where, "a number from 0 to 1", value)
        return number

    def _number(self, value: object, where: str, most: float = math.inf) -> float:
        number = math.nan
        if isinstance(value, int | float) and not isinstance(value, bool):
            with contextlib.suppress(OverflowError):
                number = float(value)
        if not math.isfinite(number) or number > most:
            limit = "" if math.isinf(most) else f" of at most {most:g}"
            self._refuse(where, f"a finite number{limit}", value)
        return number

    def _refuse(self, where: str, wanted: str, value: object) -> NoReturn:
        subject = f"{self._path}: {where}" if where else str(self._path)
        raise CheckpointError(f"{subject} must be {wanted}, not {reprlib.repr(value)}: {_MEND}.")
