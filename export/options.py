"""How a checkpoint is exported, as one object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import get_args

from fastspan.bundle.variants import VariantName
from fastspan.errors import InputError
from fastspan.export.int8.recipe import Int8Recipe
from fastspan.export.verification.checks import Effort
from fastspan.machine.cpu import usable_cores

__all__ = ["VARIANTS", "ExportOptions"]

VARIANTS: tuple[VariantName, ...] = get_args(VariantName)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """How a checkpoint is exported.

    Attributes:
        variants: Which variants to make; fp32 is always made, being the interchange graph.
        revision: With a hub id: branch, tag or commit; None: the main branch.
        allow_parity_loss: Publish variants that miss their gate; the manifest records it.
        int8: How int8 is made.
        threads: Threads to compute with; None: the cores this process may use.
        pytorch: Compare logits with PyTorch and token ids with transformers, where both are installed. False:
            the fp32 graph is the reference.
        effort: On how many questions the graphs are compared; None: ``verification.checks.THOROUGH``.
    """

    variants: Sequence[VariantName] = VARIANTS
    revision: str | None = None
    allow_parity_loss: bool = False
    int8: Int8Recipe = field(default_factory=Int8Recipe)
    threads: int | None = None
    pytorch: bool = True
    effort: Effort | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no sense.

        Raises:
            InputError: ``variants`` names none, or one that there is not; ``threads`` is less than 1.
        """
        unknown = [str(name) for name in self.variants if name not in VARIANTS]
        if unknown or not self.variants:
            raise InputError(
                f"variants must be some of {', '.join(VARIANTS)}, not {', '.join(unknown) or 'none'}."
            )
        if self.threads is not None and self.threads < 1:
            raise InputError(f"threads must be at least 1, not {self.threads}.")

    @property
    def cores(self) -> int:
        """The threads to compute with, as a number."""
        return self.threads or usable_cores()
