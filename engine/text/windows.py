"""What an encoder makes of a question and its context: windows, and the way back to the context."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastspan.text.pair_template import Ids

__all__ = ["EncodedPair", "Window"]


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """One model input: special tokens, the question, and a stretch of the context.

    Attributes:
        input_ids: Token ids. *Shape:* ``(length,)``, int64.
        type_ids: Segment ids; zeros for a model without segments. *Shape:* ``(length,)``, int64.
        first: Position in the window of its first context token.
        count: Number of its context tokens; 0 when the context holds none.
        origin: Index, in the whole context, of its first context token.
    """

    input_ids: Ids
    type_ids: Ids
    first: int
    count: int
    origin: int


@dataclass(frozen=True, slots=True, eq=False)
class EncodedPair:
    """A question and a context, ready for the model, and the way back to the context's characters.

    Attributes:
        context: The context as the caller gave it.
        windows: Its windows in order, never empty. A context without tokens (empty, white space) has one
            window without context tokens, so that even then the model says what "no answer" scores.
        context_encoding: The ``tokenizers.Encoding`` of the context alone, without special tokens; of a long
            context, its pieces' encodings joined.
        cls_id: Id of the special token that opens every window, None where the tokenizer opens with none.
    """

    context: str
    windows: tuple[Window, ...]
    context_encoding: Any
    cls_id: int | None

    def token_span(self, index: int) -> tuple[int, int]:
        """Return where context token ``index`` starts and ends in the context, in code points."""
        start, end = self.context_encoding.token_to_chars(index)
        return start, end

    def token_word(self, index: int) -> int | None:
        """Return the number of the word that context token ``index`` belongs to.

        Words are what the tokenizer's pre-tokenizer splits off; None where the tokenizer knows none.
        """
        word: int | None = self.context_encoding.token_to_word(index)
        return word
