"""Whether a tokenizer that a caller gave is the one in the bundle."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from fastspan.bundle.folder import Bundle
from fastspan.errors import InputError
from fastspan.options import shown

__all__ = ["require_own_tokenizer"]

# A word or two of many scripts, with accents, cases, digits, marks and blanks.
_PROBES = (
    "Who led the 1,066 raiders' U.S. e-mail (No. 17)?  two  blanks,\ttabs\n",
    "Straße, Ångström, São Tomé, naïve café, cafe\u0301, Łódź, İstanbul",
    "Москва столица России Σωκράτης ירושלים القاهرة दिल्ली กรุงเทพ",
    "東京は日本の首都です。北京 서울 🚀 ﬁne ½ €5",
)


def require_own_tokenizer(tokenizer: Any, model: Any, bundle: Bundle) -> None:
    """Refuse a tokenizer that makes other tokens than the bundle's.

    Args:
        tokenizer: A folder, a hub id, or a fast tokenizer of transformers or tokenizers.
        model: What the caller named as the model; the same name is its own tokenizer.
        bundle: The bundle.

    Raises:
        InputError: It is another tokenizer, or cannot be compared.
    """
    if isinstance(tokenizer, str | os.PathLike):
        given = os.fspath(tokenizer)
        if given in (_path(model), bundle.manifest.source.id):
            return
        file = Path(given, "tokenizer.json")
        if not file.is_file():
            raise InputError(
                f"tokenizer is {given!r}, and the bundle's is that of {bundle.manifest.source.id!r}: "
                "leave tokenizer out, or give a folder that holds a tokenizer.json to compare."
            )
        other = _read(file)
    else:
        other = _backend(tokenizer)
    if _seen(other) != _seen(_read(bundle.folder / "tokenizer.json")):
        raise InputError(
            "tokenizer makes other tokens than the one the model was exported with, which is always used: "
            "leave tokenizer out, or export the model with the tokenizer you want in its folder."
        )


def _path(model: Any) -> str | None:
    return os.fspath(model) if isinstance(model, str | os.PathLike) else None


def _read(file: Path) -> Any:
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:
        raise InputError(f"{file} cannot be read as a tokenizer ({error}).") from error


def _backend(tokenizer: Any) -> Any:
    found = tokenizer if isinstance(tokenizer, Tokenizer) else getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(found, Tokenizer):
        raise InputError(
            f"tokenizer must be a fast tokenizer, a folder or a hub id, not {shown(tokenizer)}: leave it out "
            "to use the model's own."
        )
    return found


def _seen(tokenizer: Any) -> Any:
    """What a tokenizer makes of the probes, alone and as a pair, and how many tokens it knows."""
    # A copy, because truncation and padding are settings of the object.
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    pair = tokenizer.encode(_PROBES[0], _PROBES[1])
    alone = [tokenizer.encode(text, add_special_tokens=False) for text in _PROBES]
    return tokenizer.get_vocab_size(), pair.ids, pair.type_ids, [(each.ids, each.offsets) for each in alone]
