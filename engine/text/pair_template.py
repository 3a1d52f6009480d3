"""What a tokenizer puts around a question and a context: read from the tokenizer, not from its name.

BERT writes ``[CLS] question [SEP] context [SEP]``, RoBERTa ``<s> question </s></s> context </s>``. The
tokenizer's own post-processor knows; encoding one pair shows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from fastspan.errors import BundleError
from fastspan.options import shown

__all__ = ["Ids", "PairTemplate", "read_pair_template"]

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class PairTemplate:
    """The special tokens of a pair, *Shapes:* ``(tokens,)``, int64, and the segment of each part."""

    before: Ids
    before_types: tuple[int, ...]
    question_type: int
    between: Ids
    between_types: tuple[int, ...]
    context_type: int
    after: Ids
    after_types: tuple[int, ...]

    @property
    def special_tokens(self) -> int:
        """How many special tokens one window holds."""
        return len(self.before) + len(self.between) + len(self.after)

    @property
    def cls_id(self) -> int | None:
        """Id of the special token that opens a window, None where none does."""
        return int(self.before[0]) if len(self.before) else None

    def type_ids(self, first: int, count: int) -> Ids:
        """Return the segment ids of a window whose ``count`` context tokens begin at ``first``."""
        # One call of numpy: a run of the model leaves little of it in the caches.
        asked = (self.question_type,) * (first - len(self.before_types) - len(self.between_types))
        given = (self.context_type,) * count
        return np.array(self.before_types + asked + self.between_types + given + self.after_types, np.int64)


def read_pair_template(tokenizer: Tokenizer) -> PairTemplate:
    """Read the template from how the tokenizer, with truncation and padding off, encodes one pair.

    Raises:
        BundleError: It does not write the question, then the context, each in one piece and one segment.
    """
    question, context = "who is it", "it is she"
    probe = tokenizer.encode(question, context)
    ids, types = np.array(probe.ids, np.int64), np.array(probe.type_ids, np.int64)
    owners: list[int] = []
    parts: list[slice] = []
    position = 0
    for owner, group in groupby(probe.sequence_ids):
        length = sum(1 for _ in group)
        if owner is not None:
            owners.append(owner)
            parts.append(slice(position, position + length))
        position += length
    alone = [tokenizer.encode(text, add_special_tokens=False).ids for text in (question, context)]
    if (
        owners != [0, 1]
        or [ids[part].tolist() for part in parts] != alone
        or any(len(np.unique(types[part])) != 1 for part in parts)
    ):
        raise BundleError(
            "The tokenizer does not write a pair as question, then context, between special tokens: it made "
            f"{shown(probe.tokens)} of {question!r} and {context!r}; mend post_processor in tokenizer.json."
        )
    asked, given = parts
    between = slice(asked.stop, given.start)
    return PairTemplate(
        before=ids[: asked.start],
        before_types=tuple(types[: asked.start].tolist()),
        question_type=int(types[asked.start]),
        between=ids[between],
        between_types=tuple(types[between].tolist()),
        context_type=int(types[given.start]),
        after=ids[given.stop :],
        after_types=tuple(types[given.stop :].tolist()),
    )
