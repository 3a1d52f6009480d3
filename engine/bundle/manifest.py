"""``fastspan.json``: what a bundle says about itself, as frozen dataclasses.

The file carries a digest of itself: the SHA-256 of its bytes with the digest's 64 digits
replaced by zeros. It guards against damage and editing by hand, not against forgery.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Literal, get_args

from fastspan.bundle.beside.calibrations import (
    Calibration,
    Confidence,
    FittedOn,
    Guarantee,
    NoAnswer,
    SetConfidence,
    check_digest,
    check_domain,
)
from fastspan.bundle.strict_json import decode, named, parse_object, require
from fastspan.bundle.variants import Graph, Parity, Variant, VariantName
from fastspan.errors import BundleError, ChecksumMismatch, IncompatibleBundle, InputError
from fastspan.options import shown

__all__ = [
    "FORMAT",
    "MANIFEST",
    "Calibration",
    "Confidence",
    "FileRecord",
    "FittedOn",
    "Graph",
    "Guarantee",
    "Manifest",
    "Model",
    "NoAnswer",
    "Parity",
    "SetConfidence",
    "Source",
    "Variant",
    "check_path",
]

FORMAT = "1.2"
"""The format this version writes. A new minor adds keys that a reader may ignore; a new major does not."""

MANIFEST = "fastspan.json"
"""The manifest's file name."""

_ZEROS = b"0" * 64


def check_path(path: str) -> None:
    """Refuse a path that a bundle may not list, on any operating system.

    Raises:
        BundleError: The path is absolute, holds ``..``, is not in its shortest form, or holds a
            character other than ASCII letters, digits and ``._+-``.
    """
    parts = path.split("/")
    # A component that ends in a dot names another file on Windows; "." and ".." end in one, too.
    if not all(re.fullmatch(r"[A-Za-z0-9._+-]*[A-Za-z0-9_+-]", part) for part in parts):
        raise BundleError(
            f"{shown(path)} is no path that a bundle may list (relative, inside the bundle, with '/' between "
            "names of ASCII letters, digits and ._+-): FastSpan did not write this manifest; export the "
            "checkpoint again."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """What a file of the bundle must be.

    Attributes:
        sha256: Its SHA-256, 64 hexadecimal digits.
        bytes: Its size.
    """

    sha256: str
    bytes: int

    def __post_init__(self) -> None:
        check_digest("a file's sha256", self.sha256)
        require(self.bytes >= 0, "a file's size must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The checkpoint that was exported.

    Attributes:
        id: Its hub id or the name of its folder.
        revision: The hub's commit; None for a local folder.
        sha256: File name → SHA-256, for the files that were read.
        format: How its weights were stored.
    """

    id: str
    revision: str | None
    sha256: Mapping[str, str]
    format: Literal["safetensors", "pytorch", "flax"]

    def __post_init__(self) -> None:
        for name, digest in self.sha256.items():
            check_digest(f"the source's sha256 of {shown(name)}", digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The architecture.

    Attributes:
        model_type: As in ``config.json``: ``"bert"``, ``"roberta"`` …
        route: ``"native"``: lowered by FastSpan. ``"optimum"``: exported through optimum.
        max_positions: Longest window the position embeddings allow, in tokens.
        segment_ids: Whether the graphs take ``token_type_ids``.
        hidden_size: Width of the encoder.
        layers: Number of its layers.
        heads: Attention heads of a layer; 0 where layers mix tokens in another way.
        vocab_size: Rows of the token embedding.
    """

    model_type: str
    route: Literal["native", "optimum"]
    max_positions: int
    segment_ids: bool
    hidden_size: int
    layers: int
    heads: int
    vocab_size: int

    def __post_init__(self) -> None:
        sizes = (self.max_positions, self.hidden_size, self.layers, self.vocab_size)
        require(min(sizes) >= 1 and self.heads >= 0, "the model's sizes must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything a bundle says about itself.

    Attributes:
        format: ``"major.minor"`` of the manifest's format.
        name: The model's name.
        created_with: The version of FastSpan that exported it.
        source: The checkpoint.
        model: The architecture.
        max_length: Default length of a window, in tokens.
        overlap: Default number of context tokens that neighbouring windows share.
        variants: Name → variant.
        files: Path → record, for every file of the bundle but the manifest. Filled in when the bundle is
            written. What loading never reads, such as the model card, may have changed since.
        no_answer: The threshold for "no answer".
        confidence: The calibration of the confidence; None until calibrated.
        sets: The calibration of questions over several passages; None until calibrated.
        domains: Name → the calibration of a domain, in the place of the three above.
    """

    format: str = FORMAT
    name: str
    created_with: str
    source: Source
    model: Model
    max_length: int = 384
    overlap: int = 128
    variants: Mapping[str, Variant]
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    no_answer: NoAnswer = field(default_factory=NoAnswer)
    confidence: Confidence | None = None
    sets: SetConfidence | None = None
    domains: Mapping[str, Calibration] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(
            0 <= self.overlap < self.max_length <= self.model.max_positions,
            "overlap < max_length <= max_positions must hold",
        )
        require(bool(self.variants), "there must be a variant")
        for name, variant in self.variants.items():
            require(
                name in get_args(VariantName) and name == variant.name, f"{shown(name)} names no such variant"
            )
        for path in self.files:
            check_path(path)
        for domain in self.domains:
            check_domain(domain)

    def calibration(self, domain: str | None = None) -> Calibration:
        """Return the calibration of a domain, or the general one.

        Args:
            domain: Its name; None: the general one.

        Raises:
            InputError: The bundle has none of that name; the message names those there are.
        """
        if domain is None:
            return Calibration(no_answer=self.no_answer, confidence=self.confidence, sets=self.sets)
        if domain not in self.domains:
            known = ", ".join(map(repr, self.domains)) or "none; fastspan calibrate --domain makes one"
            raise InputError(f"{shown(domain)} is no domain of this bundle, which has {known}.")
        return self.domains[domain]

    def with_calibration(self, domain: str | None, calibration: Calibration) -> Manifest:
        """Return the manifest with another calibration of a domain, or, of None, another general one."""
        if domain is not None:
            return replace(self, domains={**self.domains, domain: calibration})
        return replace(
            self,
            no_answer=calibration.no_answer,
            confidence=calibration.confidence,
            sets=calibration.sets,
        )

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """Read the bytes of ``fastspan.json``.

        Keys that a newer minor format added are left out.

        Raises:
            IncompatibleBundle: Its format has another major number.
            ChecksumMismatch: The bytes are not those that were written.
            BundleError: A key is missing, unknown or of the wrong type; a path is unsafe; a file that
                every bundle holds or that a graph reads is not listed.
        """
        document = parse_object(data, MANIFEST)
        written = document.get("format")
        version = re.fullmatch(r"(\d{1,9})\.(\d{1,9})", written) if isinstance(written, str) else None
        if version is None:
            raise BundleError(
                f"{MANIFEST} has no format number such as {FORMAT!r}, but {shown(written)}: copy the bundle "
                "again or export it again."
            )
        major, minor = (int(part) for part in FORMAT.split("."))
        if int(version[1]) != major:
            raise IncompatibleBundle(
                f"The bundle has format {written}, this version of FastSpan reads format {major}.x: export "
                "the checkpoint again with this version, or upgrade to the FastSpan that wrote the bundle."
            )
        digest = document.pop("digest", None)
        if not isinstance(digest, str) or not _seals(digest, data):
            raise ChecksumMismatch(
                f"{MANIFEST} is not the file that was exported (its digest differs): copy the bundle again "
                "or export it again."
            )
        manifest = decode(cls, document, where=MANIFEST, ignore_unknown=int(version[2]) > minor)
        needed = (path for variant in manifest.variants.values() for path in variant.files)
        for path in ("config.json", "tokenizer.json", *needed):
            require(path in manifest.files, f"it needs {named(path)} but does not list it")
        require(MANIFEST not in manifest.files, f"it lists {MANIFEST} itself")
        return manifest

    def to_json(self) -> bytes:
        """Return the bytes of ``fastspan.json``, its digest included.

        Raises:
            BundleError: A number is not finite.
        """
        try:
            text = json.dumps({**asdict(self), "digest": _ZEROS.decode()}, indent=2, allow_nan=False)
        except ValueError as error:
            raise BundleError(
                f"The manifest holds a number that is not finite ({error}): give a finite threshold and "
                "calibration, and export again if they are."
            ) from error
        data = text.encode("ascii") + b"\n"
        head, _, tail = data.rpartition(_ZEROS)
        return head + hashlib.sha256(data).hexdigest().encode() + tail


def _seals(digest: str, data: bytes) -> bool:
    """Whether ``data``, which carries ``digest``, is what the digest was made for."""
    if not re.fullmatch("[0-9a-f]{64}", digest):
        return False
    return hashlib.sha256(data.replace(digest.encode(), _ZEROS)).hexdigest() == digest
