"""Answers begin and end where a reader sees a character begin and end, in both decodings."""

from __future__ import annotations

import unicodedata
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from fastspan.decoding.pipeline import predict_pipeline
from fastspan.decoding.squad import decode_squad
from fastspan.options import AnswerOptions
from fastspan.text.encoder import Encoder
from fastspan.text.graphemes import is_border
from support.models.offline_tokenizers import FAMILIES

DECODERS = {"squad": partial(decode_squad, threshold=0.0), "pipeline": predict_pipeline}


def characters_alone() -> Tokenizer:
    """BERT's normalizer and a vocabulary of single characters: marks are dropped, letters stand alone."""
    letters = sorted(
        {chr(c) for r in ((33, 127), (0x5D0, 0x5EB), (0x600, 0x6E0), (0x900, 0x980)) for c in range(*r)}
    )
    letters += [chr(c) for r in ((0xE00, 0xE5C), (0x1100, 0x1200), (0x4E00, 0x4F00)) for c in range(*r)]
    letters += [*"\u2764\U0001f468\U0001f469\U0001f467\U0001f1e9\U0001f1ea\U0001f44d\u200d"]
    words = ["[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters)]
    tokenizer = Tokenizer(models.WordPiece({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return tokenizer


TOKENIZERS = {"letters": characters_alone, **FAMILIES}


def decoded(name, context, first, last, options):
    """The best answer where the tokens from character ``first`` to ``last`` score highest."""
    encoder = Encoder(TOKENIZERS[name](), segment_ids=True, max_positions=512)
    (pair,) = encoder.encode(["a"], [context], options)
    (window,) = pair.windows
    spans = [pair.token_span(token) for token in range(window.count)]
    start, end = (np.full((1, len(window.input_ids)), -9, np.float32) for _ in range(2))
    start[0, window.first + next(i for i, (_, e) in enumerate(spans) if e > first)] = 9
    end[0, window.first + max(i for i, (s, _) in enumerate(spans) if s < last)] = 9
    return DECODERS[options.decoding]([pair], [start], [end], options)[0].answer


@pytest.mark.parametrize("decoding", list(DECODERS))
@pytest.mark.parametrize(
    "word",
    [
        unicodedata.normalize("NFD", "Carr\u00e9"),
        unicodedata.normalize("NFD", "S\u00e3o Jos\u00e9"),
        unicodedata.normalize("NFD", "\ud55c\uad6d\uc5b4"),
        "\u0e2a\u0e21\u0e0a\u0e32\u0e22\u0e1b\u0e35",
        "\u0645\u064f\u062d\u064e\u0645\u064e\u0651\u062f\u064c",
        "\u0939\u093f\u0928\u094d\u0926\u0940",
        "\u05e9\u05c1\u05c1",
        "\u2764\ufe0f",
        "\U0001f44d\U0001f3fd",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "\U0001f1e9\U0001f1ea",
        "\u4e2d\u4e16",
    ],
    ids=ascii,
)
@pytest.mark.parametrize("align_to_words", [True, False])
def test_the_last_accent_is_kept(word, decoding, align_to_words):
    context = f"by {word} in"
    options = AnswerOptions(decoding=decoding, align_to_words=align_to_words)
    answer = decoded("letters", context, 3, 3 + len(word), options)
    assert answer.text == word
    assert context[answer.start : answer.end] == answer.text


@pytest.mark.parametrize("decoding", list(DECODERS))
def test_composed_and_decomposed_texts_have_the_same_answer(decoding):
    context = "by Carr\u00e9, \u1ed9 and \uac01\u00fc in"
    options = AnswerOptions(decoding=decoding, align_to_words=False, max_answer_length=5)
    for at, letter in enumerate(context):
        if letter == " ":
            continue
        before = unicodedata.normalize("NFD", context[:at])
        whole = unicodedata.normalize("NFD", context)
        length = len(unicodedata.normalize("NFD", letter))
        answer = decoded("letters", whole, len(before), len(before) + length, options)
        assert unicodedata.normalize("NFC", answer.text) == letter


PIECES = [
    *(
        "a",
        "B9",
        " ",
        "  ",
        ".",
        "\u00e9",
        "e\u0301",
        "\u0301",
        "\u4e2d",
        "\uac01",
        "\u1112\u1161\u11ab",
        "\u0e1b\u0e35",
    ),
    *(
        "\u0645\u064f",
        "\u0928\u094d\u0926\u0940",
        "\u2764\ufe0f",
        "\U0001f468\u200d\U0001f469",
        "\U0001f1e9",
        "\u200d",
    ),
    *("\r\n", "\n", "\u0600", "\u0e33"),
]


@pytest.mark.parametrize("decoding", list(DECODERS))
@pytest.mark.parametrize("name", list(TOKENIZERS))
@settings(max_examples=60, deadline=None)
@given(
    context=st.lists(st.sampled_from(PIECES), max_size=30).map("".join),
    seed=st.integers(0, 2**32 - 1),
    align_to_words=st.booleans(),
)
def test_ends_are_borders_in_any_text(name, decoding, context, seed, align_to_words):
    options = AnswerOptions(
        decoding=decoding, top_k=20, align_to_words=align_to_words, max_length=48, overlap=8
    )
    pairs = Encoder(TOKENIZERS[name](), segment_ids=True, max_positions=512).encode(["a"], [context], options)
    rng = np.random.default_rng(seed)
    start, end = (
        [[rng.normal(size=len(window.input_ids)).astype(np.float32) for window in pairs[0].windows]]
        for _ in range(2)
    )
    for answer in DECODERS[decoding](pairs, start, end, options)[0].answers:
        assert context[answer.start : answer.end] == answer.text
        if answer.text:
            assert is_border(context, answer.start)
            assert is_border(context, answer.end)
