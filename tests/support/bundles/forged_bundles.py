"""Bundles whose files were changed and whose manifest was sealed again, as a forger would."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from fastspan.bundle.folder import Bundle
from fastspan.bundle.manifest import MANIFEST, FileRecord

__all__ = ["forge"]


def forge(source: Path, folder: Path, files: Mapping[str, bytes] | None = None, /, **changes: Any) -> Path:
    """Copy a bundle with other contents of files that it lists, and other fields of its manifest.

    Args:
        source: The bundle.
        folder: Where the copy goes.
        files: Path → content.
        **changes: Fields of ``Manifest``.
    """
    shutil.copytree(source, folder)
    records = dict(Bundle.open(source).manifest.files)
    for path, data in (files or {}).items():
        (folder / path).write_bytes(data)
        records[path] = FileRecord(sha256=sha256(data).hexdigest(), bytes=len(data))
    manifest = replace(Bundle.open(source).manifest, files=records, **changes)
    (folder / MANIFEST).write_bytes(manifest.to_json())
    return folder
