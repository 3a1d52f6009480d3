"""Long texts in pieces against the same texts in one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers

from fastspan.errors import DeadlineExceeded
from fastspan.options import AnswerOptions
from fastspan.text import pieces
from fastspan.text.encoder import Encoder
from fastspan.text.pieces import PIECE, JoinedEncoding, PieceTokenizer
from support.offline_tokenizers import CORPUS, FAMILIES, byte_level_bpe, unigram, wordpiece

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
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "PIECE", 30)
        joined = PieceTokenizer(tokenizer).encode(joint.join(texts), None)
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
