"""Long texts tokenized piece by piece, token for token as if in one.

A tokenizer takes a second for a megabyte and cannot be stopped meanwhile. In pieces, a deadline is kept
between them, and several threads share the work. A piece may begin only where no part of the tokenizer looks
across:

- A blank between two letters or digits, where the pre-tokenizer splits at blanks.
- With BERT's normalizer and pre-tokenizer also any white space, and any ideograph that they set apart.

Whether the tokenizer is of such a kind is read from its parts: every normalizer must work character by
character, the pre-tokenizer must split there, and no added token may hold or swallow what stands there. One
short text, tokenized in one and in two pieces, then shows how offsets shift. A text that offers no such
place, or a tokenizer of another kind, is tokenized in one: where a deadline is to be kept, by a thread that
is left behind when it passes.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

__all__ = ["PIECE", "JoinedEncoding", "PieceTokenizer"]

PIECE = 16_384
"""Characters in a piece, about: some ten milliseconds of work."""

# Pieces that are tokenized side by side before the caller is asked again whether to go on.
_GROUP = 4

# Characters of a piece that no cut makes shorter, from which on a deadline cannot wait for its end.
_LONG_PIECE = 8 * PIECE

# Characters that are searched for a place to cut before the caller is asked again.
_SEARCHED = 1 << 18

# How often a call that waits for a thread looks at its deadline, in seconds.
_LOOK = 0.01

# A thread that was left behind goes on until it has finished. So many at most take memory and cores.
_MOST_THREADS = 4
_slots = threading.Semaphore(_MOST_THREADS)


def _free_slots() -> None:
    # A forked child has none of the threads that hold slots.
    global _slots
    _slots = threading.Semaphore(_MOST_THREADS)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free_slots)

# Where a piece may begin, in words of the module's docstring.
_BLANK = re.compile(r"(?<=[^\W_]) (?=[^\W_])")
_BLANK_OR_IDEOGRAPH = re.compile("(?=[ \t\n\r\u4e00-\u9fff])")

_LOCAL_NORMALIZERS = {"BertNormalizer", "Lowercase", "StripAccents", "Nmt", "Precompiled"} | {
    "NFC",
    "NFD",
    "NFKC",
    "NFKD",
}
_SPLIT_AT_BLANKS = {"BertPreTokenizer", "Whitespace", "WhitespaceSplit"}
_LOCAL_PRE_TOKENIZERS = _SPLIT_AT_BLANKS | {"Punctuation", "Digits"}


class JoinedEncoding:
    """The encodings of a text's pieces, joined: what is used of ``tokenizers.Encoding``'s interface.

    Args:
        encodings: One a piece.
        begins: Where each piece begins, in code points; the first at 0.
        shift: What is added to the offset of the first character of every piece's first token, except the
            first piece's.
    """

    def __init__(self, encodings: Sequence[Any], begins: Sequence[int], shift: int) -> None:
        self._encodings = encodings
        self._begins = begins
        self._shift = shift
        self._first_tokens = np.cumsum([0, *(len(encoding) for encoding in encodings)])
        words = (len(set(encoding.word_ids) - {None}) for encoding in encodings)
        self._first_words = np.cumsum([0, *words]).tolist()

    def __len__(self) -> int:
        return int(self._first_tokens[-1])

    @property
    def ids(self) -> NDArray[np.int64]:
        """All token ids. *Shape:* ``(tokens,)``."""
        return np.concatenate([np.array(encoding.ids, np.int64) for encoding in self._encodings])

    def token_to_chars(self, index: int) -> tuple[int, int]:
        """Return where a token starts and ends in the text, in code points."""
        piece, token = self._place(index)
        start, end = self._encodings[piece].token_to_chars(token)
        if piece and token == 0:
            start += self._shift
        return start + self._begins[piece], end + self._begins[piece]

    def token_to_word(self, index: int) -> int | None:
        """Return the number of a token's word."""
        piece, token = self._place(index)
        word = self._encodings[piece].token_to_word(token)
        return None if word is None else word + self._first_words[piece]

    def _place(self, index: int) -> tuple[int, int]:
        piece = int(np.searchsorted(self._first_tokens, index, side="right")) - 1
        return piece, index - int(self._first_tokens[piece])


class PieceTokenizer:
    """Tokenizes long texts in pieces, where the tokenizer allows it.

    Args:
        tokenizer: Without truncation and padding.
        piece: Characters of a piece, at least; a text of at most two of them is tokenized whole.
        searched: Characters that are searched for the next place to cut, between two looks at the deadline.
    """

    def __init__(self, tokenizer: Tokenizer, *, piece: int = PIECE, searched: int = _SEARCHED) -> None:
        self._tokenizer = tokenizer
        self._piece = piece
        self._searched = searched
        self._pattern = _where_to_cut(tokenizer)
        self._shift = 0
        if self._pattern is not None:
            self._shift, same = _probe(tokenizer)
            if not same:
                self._pattern = None

    def encode(self, text: str, between: Callable[[], None] | None) -> Any:
        """Return the encoding of a text, without special tokens.

        Args:
            text: Any length.
            between: Called before every few pieces, and while a piece takes long; what it raises ends the
                work. None: nothing looks, and no thread is made.
        """
        begins = list(self.begins(text, between))
        encodings: list[Any] = []
        for at in range(0, len(begins), _GROUP):
            if between is not None:
                between()
            bounds = [*begins[at : at + _GROUP + 1], len(text)][: _GROUP + 1]
            pieces = [text[begin:end] for begin, end in pairwise(bounds)]
            if between is None or max(map(len, pieces)) <= _LONG_PIECE:
                encodings += self._tokenizer.encode_batch(pieces, add_special_tokens=False)
            else:
                encodings += self._in_a_thread(pieces, between)
        return encodings[0] if len(encodings) == 1 else JoinedEncoding(encodings, begins, self._shift)

    def begins(self, text: str, between: Callable[[], None] | None = None) -> Iterator[int]:
        """Yield where the pieces of a text begin.

        Args:
            text: Any length.
            between: As for ``encode``.
        """
        begin, search_from = 0, self._piece
        yield begin
        while self._pattern is not None and len(text) - begin > 2 * self._piece and search_from < len(text):
            # A stretch at a time: a megabyte without such a place is long to search, too.
            until = search_from + self._searched
            if found := self._pattern.search(text, search_from, until):
                begin = found.start()
                yield begin
                search_from = begin + self._piece
                continue
            if between is not None:
                between()
            # Whoever looks at the last character did not see the one behind it.
            search_from = until - 1

    def _in_a_thread(self, pieces: Sequence[str], between: Callable[[], None]) -> list[Any]:
        """Tokenize what nothing can interrupt in a thread, which is left behind if ``between`` raises."""
        slots = _slots
        while not slots.acquire(timeout=_LOOK):
            between()
        done: Future[list[Any]] = Future()

        def work() -> None:
            """Tokenize, and hand over what came of it."""
            try:
                done.set_result(self._tokenizer.encode_batch(pieces, add_special_tokens=False))
            except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
                done.set_exception(error)
            finally:
                slots.release()

        # No daemon: one that is ended inside of Rust at the interpreter's end takes the process down.
        threading.Thread(target=work, name="fastspan-tokenize", daemon=False).start()
        while not wait([done], _LOOK).done:
            between()
        return done.result()


def _where_to_cut(tokenizer: Tokenizer) -> re.Pattern[str] | None:
    """Return what stands where a piece may begin; None: pieces are not tokenized as the whole is."""
    normalizers, pre_tokenizers = _parts(tokenizer.normalizer), _parts(tokenizer.pre_tokenizer)
    if not all(_is_local(part) for part in normalizers):
        return None
    kinds = [part["type"] for part in pre_tokenizers]
    splitting = _SPLIT_AT_BLANKS | {"ByteLevel", "Metaspace"}
    if not all(_splits_locally(part) for part in pre_tokenizers) or not splitting & set(kinds):
        return None
    added = list(tokenizer.get_added_tokens_decoder().values())
    if any(re.search(r"\s", token.content) for token in added):
        return None
    swallowing = [token.content for token in added if token.lstrip or token.rstrip]
    # Beside such a token, white space belongs to it. Beside a letter or digit, it never does.
    if any(text[0].isalnum() or text[-1].isalnum() for text in swallowing):
        return None
    is_bert = kinds == ["BertPreTokenizer"] and [part["type"] for part in normalizers] == ["BertNormalizer"]
    # A token that must be a word of its own is one at a piece's end, and none beside an ideograph.
    special = any(token.single_word or _BLANK_OR_IDEOGRAPH.search(token.content) for token in added)
    if is_bert and not swallowing and not special:
        return _BLANK_OR_IDEOGRAPH if normalizers[0]["handle_chinese_chars"] else re.compile("(?=[ \t\n\r])")
    return _BLANK


def _parts(component: Any) -> list[dict[str, Any]]:
    """Return a normalizer or pre-tokenizer as the list of its parts, each as tokenizer.json has it."""
    if component is None:
        return []
    found = json.loads(component.__getstate__())
    if found["type"] != "Sequence":
        return [found]
    return found.get("normalizers") or found.get("pretokenizers") or []


def _is_local(part: dict[str, Any]) -> bool:
    if part["type"] != "Replace":
        return part["type"] in _LOCAL_NORMALIZERS
    pattern = part["pattern"]
    # Blanks in a row are none that stand alone; a text without white space never reaches across one.
    return pattern == {"Regex": " {2,}"} or not re.search(r"\s", pattern.get("String", " "))


def _splits_locally(part: dict[str, Any]) -> bool:
    if part["type"] == "ByteLevel":
        return bool(part.get("use_regex", True))
    if part["type"] == "Metaspace":
        return bool(part.get("split", True))
    return part["type"] in _LOCAL_PRE_TOKENIZERS


def _probe(tokenizer: Tokenizer) -> tuple[int, bool]:
    """Tokenize a short text in one and in two pieces.

    Returns:
        By how much the first token of the second piece starts later in the whole, and whether everything else
        is the same.
    """
    head, tail = "Zur Zeit sang 1", " alter Mann, Blick nach Osten"
    text, cut = head + tail, len(head)
    whole, *halves = tokenizer.encode_batch([text, head, tail], add_special_tokens=False)
    if not all(len(half) for half in halves):
        return 0, False
    first = len(halves[0])
    joined = JoinedEncoding(halves, [0, cut], 0)
    if len(whole) != len(joined):
        return 0, False
    place = whole.token_to_chars(first)
    if place is None:
        return 0, False
    shift = place[0] - joined.token_to_chars(first)[0]
    joined = JoinedEncoding(halves, [0, cut], shift)
    return shift, joined.ids.tolist() == whole.ids and all(
        whole.token_to_chars(i) == joined.token_to_chars(i)
        and whole.token_to_word(i) == joined.token_to_word(i)
        for i in range(len(whole))
    )
