"""Do a tokenizer's offsets point at the text that its tokens were made from?

An answer is cut out of the context at its tokens' offsets. A tokenizer whose offsets leave a letter out makes
answers that nobody can get right, so it is tried on texts of many scripts before anything is exported.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

from tokenizers import Tokenizer, decoders

from fastspan.export.checkpoint.probe_texts import PROBE_TEXTS
from fastspan.options import shown

__all__ = ["offset_fault", "with_offsets_that_fit"]

_UNDECODABLE = "\ufffd"


def with_offsets_that_fit(text: str) -> tuple[str, str | None]:
    """Correct the offsets of a tokenizer where a setting of its post-processor spoils them.

    ByteLevel behind another pre-tokenizer puts a space before every word, and ``trim_offsets`` then takes the
    word's first letter for that space.

    Args:
        text: A ``tokenizer.json`` that the tokenizers package reads.

    Returns:
        The ``tokenizer.json`` to use, with the same ids, and what was changed in it, for people; None for
        nothing.

    Raises:
        ValueError: Some offsets are wrong and cannot be corrected; the message says which.
    """
    fault = offset_fault(Tokenizer.from_str(text))
    if fault is None:
        return text, None
    document = json.loads(text)
    trimming = [node for node in _nodes(document.get("post_processor")) if node.get("trim_offsets") is True]
    for node in trimming:
        node["trim_offsets"] = False
    corrected = json.dumps(document, ensure_ascii=False)
    if not trimming or offset_fault(Tokenizer.from_str(corrected)) is not None:
        raise ValueError(fault)
    return corrected, f"trim_offsets of its post-processor is off now, because {fault}"


def offset_fault(tokenizer: Tokenizer, texts: Sequence[str] = PROBE_TEXTS) -> str | None:
    """Say where a token's offsets miss the text that the token was made from; None where none does.

    Texts that the normalizer rewrites by more than case, accents and compatibility forms are left out: what
    their tokens should point at is open.

    Args:
        tokenizer: Any tokenizer, truncation and padding off.
        texts: What to try it on.
    """
    tokenizer.no_truncation()
    tokenizer.no_padding()
    decoder, unknown = _decoder(tokenizer), getattr(tokenizer.model, "unk_token", None)
    for text in texts:
        normalizer = tokenizer.normalizer
        if normalizer is not None and _letters(normalizer.normalize_str(text)) != _letters(text):
            continue
        encoding = tokenizer.encode(text, add_special_tokens=False)
        words = [decoder.decode([token]) for token in encoding.tokens]
        # A token without letters of its own, such as half of a character, points at what cannot be compared.
        known = [word if _UNDECODABLE not in word else "" for word in words]
        for token, word, (start, end) in zip(encoding.tokens, known, encoding.offsets, strict=True):
            if not 0 <= start <= end <= len(text):
                where = f"{start} to {end}, outside of the text"
                return f"the token {shown(token)} of {shown(text)} stands at {where}"
            if token == unknown or not _of_the_text(word, text):
                continue
            if _letters(word) not in _letters(text[start:end]):
                return f"the token {shown(token)} points at {shown(text[start:end])} in {shown(text)}"
            if len(text[start:end].split()) > max(1, len(word.split())):
                return f"the token {shown(token)} points at all of {shown(text[start:end])}"
    return None


def _letters(text: str) -> str:
    """Letters and digits in one case, without accents and compatibility forms."""
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return "".join(character for character in folded if character.isalnum())


def _of_the_text(word: str, text: str) -> bool:
    """Whether the text holds a token's letters at all: markers of a tokenizer's own are no letters of it."""
    return _letters(word) in _letters(text)


def _decoder(tokenizer: Tokenizer) -> Any:
    """The tokenizer's own decoder, or the one that belongs to how it marks words."""
    if tokenizer.decoder is not None:
        return tokenizer.decoder
    kinds = {node.get("type") for node in _nodes(json.loads(tokenizer.to_str()).get("pre_tokenizer"))}
    if "ByteLevel" in kinds:
        return decoders.ByteLevel()
    return decoders.Metaspace() if "Metaspace" in kinds else decoders.WordPiece()


def _nodes(component: Any) -> Iterator[dict[str, Any]]:
    """A component of a ``tokenizer.json`` and all the components within it."""
    if isinstance(component, dict):
        yield component
        for value in component.values():
            yield from _nodes(value)
    elif isinstance(component, list):
        for value in component:
            yield from _nodes(value)
