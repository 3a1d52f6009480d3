"""Windows as the tokenizers library cuts them, which is what transformers' fast tokenizers have it do."""

from __future__ import annotations

from functools import lru_cache

from tokenizers import Encoding, Tokenizer

__all__ = ["library_windows"]


@lru_cache(maxsize=8)
def _copy(tokenizer: Tokenizer) -> Tokenizer:
    return Tokenizer.from_str(tokenizer.to_str())


def library_windows(
    tokenizer: Tokenizer, question: str, context: str, *, max_length: int, overlap: int
) -> list[Encoding]:
    """The question with each part of the context, as ``run_squad`` and the pipeline have them encoded."""
    own = _copy(tokenizer)
    own.no_padding()
    own.enable_truncation(max_length, stride=overlap, strategy="only_second")
    (encoding,) = own.encode_batch([(question, context)])
    return [encoding, *encoding.overflowing]
