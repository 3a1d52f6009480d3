"""The last step before a bundle is published: load it as its users will, and ask it something."""

from __future__ import annotations

import math
from pathlib import Path

from fastspan.answerer import QuestionAnswerer
from fastspan.bundle.manifest import Manifest
from fastspan.errors import BundleError, FastSpanError

__all__ = ["try_out"]

_QUESTION, _CONTEXT = "Who wrote it?", "Ada wrote it in 1843."


def try_out(folder: Path, manifest: Manifest, threads: int) -> None:
    """Load every variant that this machine's CPU runs through the engine, and let it answer one question.

    Args:
        folder: A whole bundle.
        manifest: What it says about itself.
        threads: Threads to compute with.

    Raises:
        BundleError: A variant does not load or does not answer; the message says why.
    """
    for name, variant in manifest.variants.items():
        if not variant.runs_on("cpu"):
            continue
        try:
            with QuestionAnswerer.load(
                folder, variant=name, provider="cpu", threads=threads, profile=False
            ) as answerer:
                prediction = answerer.answer(_QUESTION, _CONTEXT, truncate_question=True)
        except FastSpanError as error:
            raise BundleError(
                f"The {name} variant was made but does not serve ({error}) Nothing was published; leave the "
                "variant out, or mend the checkpoint's files that the message names."
            ) from error
        if not math.isfinite(prediction.null_score):
            raise BundleError(
                f"The {name} variant gives scores that are not finite, so nothing was published: leave the "
                "variant out."
            )
