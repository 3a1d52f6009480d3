"""Long texts in pieces against the same texts in one."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers

from fastspan.errors import DeadlineExceeded
from fastspan.options import AnswerOptions
from fastspan.text import pieces
from fastspan.text.encoder import Encoder
from fastspan.text.pieces import PIECE, JoinedEncoding, PieceTokenizer
from support.models.offline_tokenizers import CORPUS, FAMILIES, byte_level_bpe, unigram, wordpiece

# What stands at borders: marks that join, blanks of every kind, special tokens, words without blanks.
PARTS = [
    *CORPUS,
    *("a", "I", "9", " ", "  ", "\t", "\n", "\u3000", "\u00a0", "\u200b", " \u0301", "e\u0301", "x\u0301 y"),
    *("中", "漢字", "가", "ไทย", "ﷺ", "Σ", "ς", "▁", "▁a", "'s", "’", "😀", "👨‍👩‍👧"),
    *("[SEP]", "[MASK]", "</s>", "<mask>", "\ufeff"),
]


def with_prefix_space():
    tokenizer = Tokenizer.from_str(byte_level_bpe().to_str())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    return tokenizer


def stripped():
    tokenizer = Tokenizer.from_str(unigram().to_str())
    tokenizer.normalizer = normalizers.Sequence([normalizers.Strip(), normalizers.NFKC()])
    return tokenizer


TOKENIZERS = {**FAMILIES, "prefix_space": with_prefix_space, "stripped": stripped}


def all_of(encoding):
    return [
        (int(token), encoding.token_to_chars(i), encoding.token_to_word(i))
        for i, token in enumerate(encoding.ids)
    ]


class Noting:
    """A tokenizer that notes the texts it is given."""

    def __init__(self, tokenizer):
        self.texts = []
        self._tokenizer = tokenizer

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)

    def encode_batch(self, batch, **options):
        self.texts.extend(batch)
        return self._tokenizer.encode_batch(batch, **options)


@pytest.mark.parametrize("name", list(TOKENIZERS))
@settings(max_examples=150, deadline=None)
@given(texts=st.lists(st.sampled_from(PARTS), min_size=20, max_size=60), joint=st.sampled_from(["", " "]))
def test_pieces_are_tokenized_as_the_whole_is(name, texts, joint):
    tokenizer = TOKENIZERS[name]()
    joined = PieceTokenizer(tokenizer, piece=30).encode(joint.join(texts), None)
    assert all_of(joined) == all_of(tokenizer.encode(joint.join(texts), add_special_tokens=False))


@pytest.mark.parametrize("name", [name for name in TOKENIZERS if name != "stripped"])
def test_a_long_text_is_cut(name):
    text = " ".join(CORPUS * 300)
    tokenizer = Noting(TOKENIZERS[name]())
    joined = PieceTokenizer(tokenizer).encode(text, None)
    assert isinstance(joined, JoinedEncoding)
    assert len(tokenizer.texts) >= len(text) // (2 * PIECE)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        # Each of these looks across a blank.
        (lambda t: setattr(t, "normalizer", normalizers.Replace("d w", "dw")), "old wood " * 9000),
        (lambda t: setattr(t, "normalizer", normalizers.Prepend("x")), "old wood " * 9000),
        (lambda t: setattr(t, "pre_tokenizer", pre_tokenizers.Split("d w", "isolated")), "old wood " * 9000),
        (lambda t: t.add_tokens(["old wood"]), "old wood " * 9000),
        (lambda t: t.add_special_tokens([AddedToken("wood", lstrip=True)]), "old wood " * 9000),
        # These two only look across other borders than blanks.
        (lambda t: t.add_tokens([AddedToken("wood", single_word=True)]), "木wood" * 9000),
        (lambda t: t.add_tokens(["木w"]), "木wood" * 9000),
    ],
)
def test_a_tokenizer_that_looks_across_gets_the_whole(change, text):
    tokenizer = Tokenizer.from_str(wordpiece().to_str())
    change(tokenizer)
    found = PieceTokenizer(tokenizer).encode(text, None)
    assert all_of(found) == all_of(tokenizer.encode(text, add_special_tokens=False))


@pytest.mark.parametrize("name", list(FAMILIES))
def test_windows_of_a_long_context_are_those_of_the_whole(name, monkeypatch):
    context = " ".join([*CORPUS, "\ud800 中 e\u0301"] * 200)
    encoder = Encoder(FAMILIES[name](), segment_ids=True, max_positions=512)
    (cut,) = encoder.encode(["Who?"], [context], AnswerOptions())
    assert isinstance(cut.context_encoding, JoinedEncoding)
    monkeypatch.setattr("fastspan.text.encoder.PIECE", len(context))
    (whole,) = encoder.encode(["Who?"], [context], AnswerOptions())
    assert len(cut.windows) == len(whole.windows) > 100
    for one, other in zip(cut.windows, whole.windows, strict=True):
        assert one.input_ids.tolist() == other.input_ids.tolist()
    tokens = range(len(whole.context_encoding))
    assert [cut.token_span(i) for i in tokens] == [whole.token_span(i) for i in tokens]


def test_between_pieces_the_caller_may_end_the_work():
    asked = []

    def between():
        asked.append(None)
        if len(asked) == 4:
            raise DeadlineExceeded("too late")

    tokenizer = Noting(wordpiece())
    encoder = Encoder(tokenizer, segment_ids=True, max_positions=512)
    context = CORPUS[0] * 20_000
    with pytest.raises(DeadlineExceeded, match="too late"):
        encoder.encode(["Who?"], [context], AnswerOptions(), between=between)
    assert 0 < sum(map(len, tokenizer.texts)) < len(context) / 2


class HeldUp:
    """A tokenizer that takes until it is let go."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.begun, self.go_on, self.finished = threading.Event(), threading.Event(), threading.Event()

    def encode_batch(self, texts: Sequence[str], **options: bool) -> list[Any]:
        self.begun.set()
        assert self.go_on.wait(60)
        found = self._tokenizer.encode_batch(texts, **options)
        self.finished.set()
        return list(found)


def held_up_pieces() -> tuple[PieceTokenizer, HeldUp]:
    made = PieceTokenizer(wordpiece())
    made._tokenizer = held_up = HeldUp(wordpiece())
    return made, held_up


UNCUTTABLE = "ab." * (3 * PIECE)


def test_a_deadline_does_not_wait_for_a_text_that_cannot_be_cut():
    made, held_up = held_up_pieces()

    def between() -> None:
        if held_up.begun.is_set():
            raise DeadlineExceeded

    with pytest.raises(DeadlineExceeded):
        made.encode(UNCUTTABLE, between)
    assert not held_up.finished.is_set()
    held_up.go_on.set()
    assert held_up.finished.wait(60)


@pytest.mark.parametrize("name", FAMILIES)
def test_in_a_thread_a_text_that_cannot_be_cut_has_the_same_tokens(name):
    tokenizer = FAMILIES[name]()
    looks = []
    (whole,) = tokenizer.encode_batch([UNCUTTABLE], add_special_tokens=False)
    found = PieceTokenizer(tokenizer).encode(UNCUTTABLE, lambda: looks.append(None))
    assert found.ids == whole.ids
    assert found.offsets == whole.offsets


def test_what_the_thread_raises_reaches_the_caller():
    with pytest.raises(TypeError):
        PieceTokenizer(wordpiece()).encode(UNCUTTABLE + "\ud800", lambda: None)


def test_threads_that_were_left_behind_are_few():
    left = []
    for _ in range(pieces._MOST_THREADS):
        made, held_up = held_up_pieces()

        def between(held_up: HeldUp = held_up) -> None:
            if held_up.begun.is_set():
                raise DeadlineExceeded

        with pytest.raises(DeadlineExceeded):
            made.encode(UNCUTTABLE, between)
        left.append(held_up)
    made, held_up = held_up_pieces()
    looks = iter(range(4))

    def until_late() -> None:
        if next(looks, None) is None:
            raise DeadlineExceeded

    with pytest.raises(DeadlineExceeded):
        made.encode(UNCUTTABLE, until_late)
    assert not held_up.begun.is_set()
    for one in left:
        one.go_on.set()
        assert one.finished.wait(60)
    held_up.go_on.set()
    assert len(made.encode(UNCUTTABLE, lambda: None))


@pytest.mark.parametrize("searched", [2, 3, 7, 50, 1 << 18])
@pytest.mark.parametrize("name", FAMILIES)
def test_where_a_text_is_cut_does_not_depend_on_how_it_is_searched(name, searched):
    tokenizer = PieceTokenizer(FAMILIES[name](), piece=40, searched=searched)
    text = " ".join([*CORPUS, "ab." * 60, *CORPUS, "1 a", "..", "x"])
    pattern = tokenizer._pattern
    expected, begin = [0], 0
    while len(text) - begin > 80 and (found := pattern.search(text, begin + 40)):
        expected.append(begin := found.start())
    assert list(tokenizer.begins(text)) == expected
    assert len(expected) > 10
