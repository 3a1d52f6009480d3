"""The reference for a tokenizer: the ids of transformers' ``AutoTokenizer``, where that is installed."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from pathlib import Path

from tokenizers import Tokenizer

from fastspan.export.checkpoint.folder import CheckpointFolder
from fastspan.export.checkpoint.probe_texts import PROBE_TEXTS
from fastspan.export.third_party import first_sentence, undisturbed
from fastspan.options import shown

__all__ = ["difference_from_transformers"]

_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spm.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)


def difference_from_transformers(files: CheckpointFolder, tokenizer_json: str) -> str | None:
    """Say where a bundle's tokenizer gives other ids than transformers' ``AutoTokenizer`` of the checkpoint.

    The comparison of logits cannot see that, because PyTorch is given the bundle's own ids.

    Args:
        files: The checkpoint's folder.
        tokenizer_json: The bundle's ``tokenizer.json``.

    Returns:
        A sentence without its full stop; None where all ids are the same, or transformers is not installed.
    """
    if any(importlib.util.find_spec(name) is None for name in ("torch", "transformers")):
        return None
    ours = Tokenizer.from_str(tokenizer_json)
    ours.no_truncation()
    ours.no_padding()
    # What transformers reads passes the checks of CheckpointFolder first.
    with tempfile.TemporaryDirectory() as name, undisturbed("torch", "transformers"):
        from transformers import AutoTokenizer

        for file in filter(files.has, _FILES):
            shutil.copyfile(files.file(file), Path(name, file))
        try:
            theirs = AutoTokenizer.from_pretrained(name, trust_remote_code=False, local_files_only=True)
            ids = [list(theirs(text, add_special_tokens=False)["input_ids"]) for text in PROBE_TEXTS]
        except Exception as error:  # noqa: BLE001
            # Whatever a tokenizer's class stumbles over; the bundle's own tokenizer works all the same.
            return (
                f"transformers makes no tokenizer of the checkpoint to compare with ({first_sentence(error)})"
            )
    for text, expected in zip(PROBE_TEXTS, ids, strict=True):
        found = ours.encode(text, add_special_tokens=False).ids
        if found == expected:
            continue
        shared = min(len(found), len(expected))
        at = next((i for i in range(shared) if found[i] != expected[i]), shared)
        here = [ours.id_to_token(index) for index in found[at : at + 3]]
        there = theirs.convert_ids_to_tokens(expected[at : at + 3])
        return f"transformers gives other tokens for {shown(text)}: {there} where the bundle has {here}"
    return None
