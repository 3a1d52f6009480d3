"""Manifests of bundles that were never exported: enough to write, open and choose from."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from fastspan.bundle.manifest import FileRecord, Manifest, Model, Source
from fastspan.bundle.variants import Graph, Variant

__all__ = ["tiny_graph", "tiny_manifest", "tiny_variant"]


def tiny_graph(
    file: str = "onnx/model.onnx",
    target: str = "any",
    *,
    data: tuple[str, ...] = (),
    layout: str = "padded",
) -> Graph:
    """A graph of a file that need not be there."""
    inputs = ("input_ids", "attention_mask", "token_type_ids")
    return Graph(
        file=file, target=target, layout=layout, inputs=inputs, data=data, opset=20, ir_version=10, note=""
    )


def tiny_variant(name: str, *graphs: Graph, target: str = "any", size: int = 0) -> Variant:
    """A variant whose parity was not measured, of one graph unless others are given."""
    return Variant(name=name, graphs=graphs or (tiny_graph(),), parity=None, target=target, bytes=size)


def tiny_manifest(
    *variants: Variant, name: str = "tiny", files: Mapping[str, bytes] | None = None, **others: Any
) -> Manifest:
    """A manifest of these variants, or of fp32 alone.

    Args:
        *variants: The variants.
        name: The bundle's name.
        files: Contents of the bundle's files; a writer fills in its own.
        **others: Further fields of ``Manifest``.
    """
    contents = (files or {}).items()
    return Manifest(
        name=name,
        created_with="0.1.0",
        source=Source(id="tiny", revision=None, sha256={}, format="safetensors"),
        model=Model(
            model_type="bert",
            route="native",
            max_positions=512,
            segment_ids=True,
            hidden_size=8,
            layers=1,
            heads=1,
            vocab_size=9,
        ),
        variants={each.name: each for each in variants or (tiny_variant("fp32"),)},
        files={path: FileRecord(sha256=sha256(data).hexdigest(), bytes=len(data)) for path, data in contents},
        **others,
    )
