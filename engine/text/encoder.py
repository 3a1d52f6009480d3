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

import copy
import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from tokenizers import Tokenizer

from fastspan.bundle.folder import Bundle
from fastspan.bundle.strict_json import named
from fastspan.errors import BundleError, InputError, TooManyWindows
from fastspan.options import AnswerOptions
from fastspan.text.inputs import argument_name, check_pair
from fastspan.text.pair_template import Ids, read_pair_template
from fastspan.text.pieces import PIECE, PieceTokenizer
from fastspan.text.windows import EncodedPair, Window

__all__ = ["EncodedPair", "Encoder", "Window"]

# As tokenizers gives them, or, of a text in pieces, as an array.
AnyIds = Sequence[int] | Ids

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")

# Neighbouring windows advance by at least this part of a window: else a legal option makes a window a token.
_LEAST_STEP = 1 / 8


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
        template = self._template = read_pair_template(tokenizer)
        # As lists: most windows are short, and made of what tokenizers gives as lists.
        self._before, self._between, self._after = (
            part.tolist() for part in (template.before, template.between, template.after)
        )
        self._segment_ids = segment_ids
        self._max_positions = max_positions
        self._pieces: PieceTokenizer | None = None

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

    @classmethod
    def of_bundle(cls, bundle: Bundle) -> Encoder:
        """Load a bundle's tokenizer, for its model.

        Raises:
            BundleError: The tokenizer is missing, or does not serve.
        """
        model = bundle.manifest.model
        return cls.from_folder(
            bundle.folder, segment_ids=model.segment_ids, max_positions=model.max_positions
        )

    def without_segment_ids(self) -> Encoder:
        """Return an encoder whose windows have segment 0 throughout, though the model tells segments apart.

        No model was trained like that; it shows what a program gives that leaves segment ids out.
        """
        other = copy.copy(self)
        other._segment_ids = False
        return other

    def encode(
        self,
        questions: Sequence[str],
        contexts: Sequence[str],
        options: AnswerOptions,
        first_index: int | None = None,
        known: EncodedPair | None = None,
        between: Callable[[], None] | None = None,
    ) -> list[EncodedPair]:
        """Encode pairs; each distinct string is tokenized once.

        Args:
            questions: One question a pair.
            contexts: One context a pair; may be empty strings.
            options: ``max_length``, ``overlap``, ``max_windows``, ``max_question_length``, the decoding's own
                limit where that is None, and ``truncate_question`` are used.
            first_index: Position of the first pair in the caller's list, for messages. None: a lone pair is
                called ``question`` and ``context``, several are counted from 0.
            known: A pair encoded before, whose context need not be tokenized again.
            between: Called before the texts, and every few pieces of a long text, are tokenized; what it
                raises ends the work.

        Raises:
            InputError: A text is unusable (see ``check_pair``), a question leaves its context too little
                room, ``max_length`` is more than the model takes, or ``overlap`` is not smaller than it.
            TooManyWindows: A pair makes more than ``max_windows``.
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
            (text for text in dict.fromkeys((*questions, *contexts)) if text not in encodings), between
        )
        # One window is laid out from lists; several are cut from an array, which many questions may share.
        ids: dict[str, AnyIds] = {
            text: encoding.ids if len(encoding) <= max_length else np.array(encoding.ids, np.int64)
            for text, encoding in encodings.items()
        }
        pairs = []
        for question, context, index in zip(questions, contexts, indexes, strict=True):
            fitted = self._fit(ids[question], len(ids[context]), options, index)
            windows = self._windows(fitted, ids[context], options, index)
            pairs.append(EncodedPair(context, windows, encodings[context], self._template.cls_id))
        return pairs

    def _tokenize(self, texts: Iterable[str], between: Callable[[], None] | None) -> dict[str, Any]:
        """Return the encoding of every text, without special tokens."""
        distinct = list(texts)
        try:
            encodings = self._encode_texts(distinct, between)
        except (TypeError, UnicodeEncodeError):
            # Rust strings hold no lone surrogates. One code point replaces one, so offsets still fit.
            mended = [_LONE_SURROGATE.sub("\ufffd", text) for text in distinct]
            if mended == distinct:
                raise
            encodings = self._encode_texts(mended, between)
        except Exception as error:
            # The tokenizers package raises bare Exception for a word that it has no token for; what
            # ``between`` raises has a class of its own.
            if type(error) is not Exception:
                raise
            raise BundleError(f"The bundle's tokenizer cannot tokenize this text: {error}.") from error
        return dict(zip(distinct, encodings, strict=True))

    def _encode_texts(self, texts: list[str], between: Callable[[], None] | None) -> list[Any]:
        # encode_batch, unlike encode, releases the interpreter lock. Waking its threads costs more than they
        # save on the two texts of a lone pair, one of which is far longer than the other.
        short = [text for text in texts if len(text) <= 2 * PIECE]
        batches = [short] if len(short) > 2 else [[text] for text in short]
        encode_batch = self._tokenizer.encode_batch
        if between is not None:
            between()
        found = [encoding for batch in batches for encoding in encode_batch(batch, add_special_tokens=False)]
        if len(short) == len(texts):
            return found
        if self._pieces is None:
            self._pieces = PieceTokenizer(self._tokenizer)
        rest = iter(found)
        return [
            next(rest) if len(text) <= 2 * PIECE else self._pieces.encode(text, between) for text in texts
        ]

    def _fit(self, question: AnyIds, tokens: int, options: AnswerOptions, index: int | None) -> AnyIds:
        """Return the question, cut if it must and may be, so that ``tokens`` of the context find room."""
        name, special_tokens = argument_name("question", index), self._template.special_tokens
        if not len(question):
            raise InputError(
                f"{name} holds only characters that the tokenizer drops; ask something.", index=index
            )
        question = question[: options.question_tokens]
        # Either the whole context fits, or neighbouring windows must advance by enough.
        max_length, overlap = options.window
        step = math.ceil(max_length * _LEAST_STEP)
        limit = max_length - special_tokens - max(1, min(tokens, overlap + step))
        if len(question) <= limit:
            return question
        windows = f"windows of {max_length} tokens that overlap by {overlap}"
        why = f"{windows} and advance by at least {step}, an eighth of their length"
        if limit < 1:
            raise InputError(
                f"No question fits into {why}, beside {special_tokens} special tokens: "
                f"lower overlap (max_length // 2 is plenty) or raise max_length.",
                index=index,
            )
        if not options.truncate_question:
            raise InputError(
                f"{name} takes {len(question)} tokens; at most {limit} leave its context room in {why}: set "
                f"max_question_length={limit} or truncate_question=True to ask only its first tokens, lower "
                "overlap, raise max_length, or shorten it.",
                index=index,
            )
        return question[:limit]

    def _windows(
        self, question: AnyIds, context: AnyIds, options: AnswerOptions, index: int | None
    ) -> tuple[Window, ...]:
        """Lay out one pair of token ids that is known to fit."""
        template = self._template
        head = [*self._before, *question, *self._between]
        first = len(head)
        max_length, overlap = options.window
        room = max_length - first - len(template.after)
        if len(context) <= room:
            return (self._window(head, context, 0),)
        step = room - overlap
        full = -(-(len(context) - room) // step)
        if options.max_windows is not None and full + 1 > options.max_windows:
            raise TooManyWindows(
                f"{argument_name('context', index)} makes {full + 1:,} windows beside its question, and "
                f"max_windows is {options.max_windows:,}: split the context, shorten the question, lower "
                "overlap, or raise max_length or max_windows.",
                index=index,
            )
        ids = np.empty((full, max_length), np.int64)
        ids[:, :first] = head
        tokens = np.asarray(context, np.int64)
        ids[:, first : first + room] = sliding_window_view(tokens, room)[: full * step : step]
        ids[:, first + room :] = template.after
        types = self._type_ids(first, room)
        windows = [Window(ids[i], types, first, room, i * step) for i in range(full)]
        return (*windows, self._window(head, context[full * step :], full * step))

    def _window(self, head: AnyIds, context: AnyIds, origin: int) -> Window:
        first, count = len(head), len(context)
        ids = np.array([*head, *context, *self._after], np.int64)
        return Window(ids, self._type_ids(first, count), first, count, origin)

    def _type_ids(self, first: int, count: int) -> Ids:
        if self._segment_ids:
            return self._template.type_ids(first, count)
        return np.zeros(first + count + len(self._template.after), np.int64)
