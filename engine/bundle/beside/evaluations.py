"""What was measured of a bundle on questions with known answers: ``evaluations.json`` beside its manifest.

The file is not part of what the manifest promises: nothing reads it to answer. So a record changes no
checksum, and a profile of the bundle stays in use. Each record names the digests of the files that ran: one
of other files counts no more.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from fastspan.bundle.folder import Bundle
from fastspan.bundle.hub.cache import hub_snapshot
from fastspan.bundle.strict_json import decode, parse_object, require
from fastspan.bundle.variants import VariantName
from fastspan.bundle.whole_files import open_regular, write_whole
from fastspan.errors import BundleError

__all__ = ["EVALUATIONS", "Evaluation", "read_evaluations", "record_evaluation", "refuse_unwritable"]

EVALUATIONS = "evaluations.json"
"""The file's name."""

_LARGEST = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The scores of one variant on one set of questions.

    Attributes:
        variant: The variant.
        graph: The file of the graph that ran.
        provider: The execution provider that ran it.
        sha256: Path → SHA-256 of that graph and its weights, as the manifest had them.
        data: The name of the set of questions.
        hub_data: The id of a hub data set and its split, such as ``squad_v2:validation``; None for a file.
        data_sha256: SHA-256 of the whole set.
        questions: How many questions were asked.
        exact: Exact match as SQuAD's evaluator counts it, in percent.
        f1: Token F1, the same.
        no_answer_threshold: The threshold that the answers were given with.
        max_answer_length: The longest answer, in tokens.
        created_with: The version of FastSpan that measured.
    """

    variant: VariantName
    graph: str
    provider: str
    sha256: Mapping[str, str]
    data: str
    hub_data: str | None
    data_sha256: str
    questions: int
    exact: float
    f1: float
    no_answer_threshold: float
    max_answer_length: int
    created_with: str

    def __post_init__(self) -> None:
        require(0 <= self.exact <= 100 and 0 <= self.f1 <= 100, "scores are in percent")
        require(math.isfinite(self.no_answer_threshold), "a threshold is a finite number")
        require(self.questions > 0, "an evaluation has questions")
        require(self.graph in self.sha256, "an evaluation names the digest of its graph")

    def replaces(self, other: Evaluation) -> bool:
        """Whether this is a newer figure for what the other one measured."""
        same = (self.variant, self.graph, self.data, self.data_sha256)
        return same == (other.variant, other.graph, other.data, other.data_sha256)

    def is_of(self, bundle: Bundle) -> bool:
        """Whether the files that were measured are those that the bundle holds."""
        held, variant = bundle.manifest.files, bundle.manifest.variants.get(self.variant)
        return (
            variant is not None
            and self.graph in variant.files
            and all(path in held and held[path].sha256 == digest for path, digest in self.sha256.items())
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    """What ``evaluations.json`` holds."""

    evaluations: tuple[Evaluation, ...]


def read_evaluations(bundle: Bundle) -> tuple[Evaluation, ...]:
    """Return what was measured of the files that a bundle holds now; records of former ones are left out.

    Raises:
        BundleError: The file is there and cannot be read, or is malformed.
    """
    return tuple(each for each in _all(bundle.folder) if each.is_of(bundle))


def record_evaluation(bundle: Bundle, evaluation: Evaluation) -> Path:
    """Keep an evaluation beside a bundle. An older one of the same graph and questions gives way to it.

    Returns:
        The file.

    Raises:
        BundleError: The file that is there is malformed, or the folder cannot be written to.
    """
    file = bundle.folder / EVALUATIONS
    kept = [each for each in read_evaluations(bundle) if not evaluation.replaces(each)]
    document = {"evaluations": [asdict(each) for each in (*kept, evaluation)]}
    try:
        write_whole(file, json.dumps(document, indent=1, allow_nan=False).encode("ascii") + b"\n")
    except OSError as error:
        raise BundleError(
            f"{file} cannot be written ({error.strerror}): record into a bundle that you may write to."
        ) from error
    return file


def refuse_unwritable(bundle: Bundle) -> None:
    """Refuse a bundle that nothing may be recorded of, before the work begins.

    Raises:
        BundleError: It lies in the hub's cache, which holds what was downloaded and nothing else, or the
            records that are there cannot be read.
    """
    if hub_snapshot(bundle.folder) is not None:
        raise BundleError(
            f"{bundle.folder} is part of the hub's cache, which holds only what was downloaded: copy the "
            "bundle to a folder of its own and record there."
        )
    read_evaluations(bundle)


def _all(folder: Path) -> tuple[Evaluation, ...]:
    file = folder / EVALUATIONS
    try:
        with open_regular(file) as opened:
            data = opened.read(_LARGEST + 1)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise BundleError(f"{file} cannot be read ({error}): remove it, and evaluate again.") from error
    if len(data) > _LARGEST:
        raise BundleError(f"{file} is larger than any record of evaluations: remove it, and evaluate again.")
    try:
        return decode(_Document, parse_object(data, EVALUATIONS), where=EVALUATIONS).evaluations
    except BundleError as error:
        raise BundleError(f"{file} is no record of evaluations ({error}): remove it.") from error
