"""Question and context to windows: token ids, segment ids and, lazily, character offsets.

A context that does not fit beside its question is cut into overlapping windows. They are, id for id, those
of a transformers fast tokenizer called with ``truncation="only_second"``, ``max_length``, ``stride=overlap``
and ``return_overflowing_tokens=True``; but every distinct string is tokenized once, and no offset becomes a
Python object before an answer needs it.

Two slips of tokenizers are not copied. From the second window on, it forgets that a template puts the context
in segment 0; and where byte-level tokenizers add a blank before the text, it counts the blank before such a
window's first token as part of that token.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from tokenizers import Tokenizer

from fastspan.bundle.strict_json import named
from fastspan.errors import BundleError, InputError
from fastspan.options import AnswerOptions
from fastspan.text.inputs import argument_name, check_pair
from fastspan.text.pair_template import Ids, read_pair_template

__all__ = ["EncodedPair", "Encoder", "Window"]

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


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
        context_encoding: The ``tokenizers.Encoding`` of the context alone, without special tokens.
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


class Encoder:
    """Turns questions and contexts into windows. Immutable once made, so threads may share it."""

    def __init__(self, tokenizer: Tokenizer, *, segment_ids: bool, max_positions: int) -> None:
        """Read the tokenizer's pair template.

        Args:
            tokenizer: Any tokenizer; it is left as it is, even if it truncates or pads.
            segment_ids: Whether the model tells question from context by segment ids.
            max_positions: Longest window the model takes, in tokens, special tokens included.

        Raises:
            BundleError: The tokenizer does not put the question before the context.
        """
        if tokenizer.truncation is not None or tokenizer.padding is not None:
            tokenizer = Tokenizer.from_str(tokenizer.to_str())
            tokenizer.no_truncation()
            tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._template = read_pair_template(tokenizer)
        self._segment_ids = segment_ids
        self._max_positions = max_positions

    @classmethod
    def from_folder(cls, path: str | Path, *, segment_ids: bool, max_positions: int) -> Encoder:
        """Load ``tokenizer.json`` from a folder; see ``__init__`` for the other arguments.

        Raises:
            BundleError: The file is missing, or is not a tokenizer that serves.
        """
        file = Path(path) / "tokenizer.json"
        if not file.is_file():
            raise BundleError(f"{file} is missing; export the checkpoint again, with its fast tokenizer.")
        try:
            data = file.read_bytes()
        except OSError as error:
            raise BundleError(f"{file} cannot be read ({error}); export it again.") from error
        return cls.from_json(data, name=str(file), segment_ids=segment_ids, max_positions=max_positions)

    @classmethod
    def from_json(cls, data: bytes, *, name: str, segment_ids: bool, max_positions: int) -> Encoder:
        """Read the bytes of a ``tokenizer.json``; see ``__init__`` for the other arguments.

        Args:
            data: The file's bytes.
            name: The file's name, for messages.
            segment_ids: See ``__init__``.
            max_positions: See ``__init__``.

        Raises:
            BundleError: It is not a tokenizer that serves.
        """
        try:
            tokenizer = Tokenizer.from_buffer(data)
            return cls(tokenizer, segment_ids=segment_ids, max_positions=max_positions)
        except BundleError:
            raise
        except BaseException as error:
            # What tokenizers does not expect is a panic of Rust's, which is no Exception.
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            reason = named(str(error))
            raise BundleError(f"{name} cannot be read as a tokenizer: {reason}; export it again.") from error

    def encode(
        self,
        questions: Sequence[str],
        contexts: Sequence[str],
        options: AnswerOptions,
        first_index: int | None = None,
        known: EncodedPair | None = None,
    ) -> list[EncodedPair]:
        """Encode pairs; each distinct string is tokenized once.

        Args:
            questions: One question a pair.
            contexts: One context a pair; may be empty strings.
            options: ``max_length``, ``overlap`` and ``truncate_question`` are used.
            first_index: Position of the first pair in the caller's list, for messages. None: a lone pair is
                called ``question`` and ``context``, several are counted from 0.
            known: A pair encoded before, whose context need not be tokenized again.

        Raises:
            InputError: A text is unusable (see ``check_pair``), a question leaves no room for its context,
                ``max_length`` is more than the model takes, or ``overlap`` is not smaller than it.
        """
        max_length, _ = options.window
        if len(questions) != len(contexts):
            raise InputError(
                f"{len(questions)} questions but {len(contexts)} contexts; pass as many of each."
            )
        if max_length > self._max_positions:
            raise InputError(
                f"max_length is {max_length}, but the model takes windows of at most "
                f"{self._max_positions} tokens; lower max_length."
            )
        indexes: list[int | None] = [None]
        if first_index is not None or len(questions) != 1:
            indexes = [(first_index or 0) + i for i in range(len(questions))]
        for question, context, index in zip(questions, contexts, indexes, strict=True):
            check_pair(question, context, index)
        encodings = {} if known is None else {known.context: known.context_encoding}
        encodings |= self._tokenize(
            text for text in dict.fromkeys((*questions, *contexts)) if text not in encodings
        )
        ids = {text: np.array(encoding.ids, np.int64) for text, encoding in encodings.items()}
        pairs = []
        for question, context, index in zip(questions, contexts, indexes, strict=True):
            fitted = self._fit(ids[question], len(ids[context]), options, index)
            windows = self._windows(fitted, ids[context], options)
            pairs.append(EncodedPair(context, windows, encodings[context], self._template.cls_id))
        return pairs

    def _tokenize(self, texts: Iterable[str]) -> dict[str, Any]:
        """Return the encoding of every text, without special tokens."""
        distinct = list(texts)
        try:
            encodings = self._encode_batches(distinct)
        except (TypeError, UnicodeEncodeError):
            # Rust strings hold no lone surrogates. One code point replaces one, so offsets still fit.
            mended = [_LONE_SURROGATE.sub("\ufffd", text) for text in distinct]
            if mended == distinct:
                raise
            encodings = self._encode_batches(mended)
        return dict(zip(distinct, encodings, strict=True))

    def _encode_batches(self, texts: list[str]) -> list[Any]:
        # encode_batch, unlike encode, releases the interpreter lock. Waking its threads costs more than they
        # save on the two texts of a lone pair, one of which is far longer than the other.
        batches = [texts] if len(texts) > 2 else [[text] for text in texts]
        encode_batch = self._tokenizer.encode_batch
        return [encoding for batch in batches for encoding in encode_batch(batch, add_special_tokens=False)]

    def _fit(self, question: Ids, count: int, options: AnswerOptions, index: int | None) -> Ids:
        """Return the question, cut if it must and may be, so that ``count`` context tokens find room."""
        name, special_tokens = argument_name("question", index), self._template.special_tokens
        if not len(question):
            raise InputError(f"{name} holds only characters that the tokenizer drops; ask something.")
        # Either the whole context fits, or neighbouring windows must advance by at least one token.
        max_length, overlap = options.window
        limit = max_length - special_tokens - max(1, min(count, overlap + 1))
        if len(question) <= limit:
            return question
        windows = f"windows of {max_length} tokens that overlap by {overlap}"
        if limit < 1:
            raise InputError(
                f"No question fits into {windows} and hold {special_tokens} special tokens; "
                "raise max_length or lower overlap."
            )
        if not options.truncate_question:
            raise InputError(
                f"{name} has {len(question)} tokens; at most {limit} leave its context room in {windows}; "
                "shorten it, raise max_length, lower overlap, or set truncate_question=True."
            )
        return question[:limit]

    def _windows(self, question: Ids, context: Ids, options: AnswerOptions) -> tuple[Window, ...]:
        """Lay out one pair of token ids that is known to fit."""
        template = self._template
        head = np.concatenate((template.before, question, template.between))
        first = len(head)
        max_length, overlap = options.window
        room = max_length - first - len(template.after)
        if len(context) <= room:
            return (self._window(head, context, 0),)
        step = room - overlap
        full = -(-(len(context) - room) // step)
        ids = np.empty((full, max_length), np.int64)
        ids[:, :first] = head
        ids[:, first : first + room] = sliding_window_view(context, room)[: full * step : step]
        ids[:, first + room :] = template.after
        types = self._type_ids(first, room)
        windows = [Window(ids[i], types, first, room, i * step) for i in range(full)]
        return (*windows, self._window(head, context[full * step :], full * step))

    def _window(self, head: Ids, context: Ids, origin: int) -> Window:
        first, count = len(head), len(context)
        ids = np.concatenate((head, context, self._template.after))
        return Window(ids, self._type_ids(first, count), first, count, origin)

    def _type_ids(self, first: int, count: int) -> Ids:
        if self._segment_ids:
            return self._template.type_ids(first, count)
        return np.zeros(first + count + len(self._template.after), np.int64)
