"""What a tuning measured, and what was chosen from it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastspan.bundle.beside.machine_profile import Profile, RunSettings, Tuned
from fastspan.bundle.variants import VariantName
from fastspan.options import OptimizeFor

__all__ = ["OtherVariant", "Trial", "Tuning"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One change that was tried.

    Attributes:
        mode: What it was tried for.
        what: The change, for people.
        settings: All settings with the change.
        seconds: Median seconds a question with it.
        before: Median seconds a question without it, in the same minutes.
        cpu_seconds: Median processor seconds of a question with it, until all threads sleep again.
        cpu_before: The same without it.
        turns: How many turns each of the two had.
        thrifty: Whether it takes much less processor time and is hardly slower.
        kept: Whether it was clearly faster, or thrifty where that was asked for.
    """

    mode: OptimizeFor
    what: str
    settings: RunSettings
    seconds: float
    before: float
    cpu_seconds: float
    cpu_before: float
    turns: int
    thrifty: bool
    kept: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherVariant:
    """Another variant that could be loaded, run with the settings chosen for the one that was tuned.

    Attributes:
        seconds: Median seconds of one question of typical length.
        tuned: The same of the variant that was tuned, in the same minutes.
        turns: How many turns each of the two had.
        faster: Whether it was clearly faster; the evidence is what a change of settings takes.
    """

    seconds: float
    tuned: float
    turns: int
    faster: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What was measured, and what was chosen from it.

    Attributes:
        profile: What was written; it keeps what was measured for other variants.
        file: Where.
        variant: What was tuned.
        reason: Why this variant; a sentence.
        tuned: The settings chosen for it.
        trials: What was tried, in order.
        other_variants: Name → how it compares.
        left_out: Changes that the time did not suffice for.
    """

    profile: Profile
    file: Path
    variant: VariantName
    reason: str
    tuned: Tuned
    trials: tuple[Trial, ...]
    other_variants: dict[str, OtherVariant]
    left_out: int

    def to_dict(self) -> dict[str, Any]:
        """Return it as built-in types, ready for ``json.dumps``."""
        return {**asdict(self), "file": str(self.file)}
