"""Which text of the context two tokens and all between them cover."""

from __future__ import annotations

from fastspan.text.encoder import EncodedPair
from fastspan.text.graphemes import widen_to_graphemes

__all__ = ["covered_characters"]


def covered_characters(pair: EncodedPair, first: int, last: int) -> tuple[int, int] | None:
    """Return the code points that two tokens of the context and all between cover; None: only blanks."""
    start, end = pair.token_span(first)[0], pair.token_span(last)[1]
    text = pair.context[start:end]
    start += len(text) - len(text.lstrip())
    start, end = widen_to_graphemes(pair.context, start, start + len(text.strip()))
    return (start, end) if start < end else None
