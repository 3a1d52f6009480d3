"""Windows against those of transformers' fast tokenizers, and texts of every kind."""

from __future__ import annotations

import re
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, processors

from fastspan.errors import BundleError, InputError, TooManyWindows
from fastspan.options import AnswerOptions
from fastspan.text.encoder import Encoder
from fastspan.text.inputs import check_pair
from fastspan.text.pair_template import read_pair_template
from support.models.offline_tokenizers import CORPUS, FAMILIES, byte_level_bpe, wordpiece
from support.references.library_windows import library_windows

QUESTION = "Who was the leader of the Norse raiders?"
PIECES = [
    *CORPUS,
    "\U0001f600",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "  ",
    "\n",
    "e\u0301",
    "[SEP]",
    "</s>",
]


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request):
    return request.param


def make_encoder(family, **kwargs):
    return Encoder(FAMILIES[family](), **{"segment_ids": True, "max_positions": 512, **kwargs})


# --- The same windows as the library -------------------------------------------------------------


hard_texts = given(
    repeats=st.integers(1, 12),
    words=st.lists(
        st.sampled_from([*CORPUS, "😀", "👨‍👩‍👧", "  ", "\n", "e\u0301", "[SEP]", "</s>"]), min_size=1
    ),
    max_length=st.integers(60, 100),
    overlap=st.integers(0, 20),
)


@settings(max_examples=60, deadline=None)
@hard_texts
def test_windows_equal_those_of_the_tokenizers_library(family, repeats, words, max_length, overlap):
    context = " ".join(words * repeats)
    options = AnswerOptions(max_length=max_length, overlap=overlap)
    (pair,) = make_encoder(family).encode([QUESTION], [context], options)
    theirs = library_windows(FAMILIES[family](), QUESTION, context, max_length=max_length, overlap=overlap)
    assert len(pair.windows) == len(theirs)
    for number, (window, their) in enumerate(zip(pair.windows, theirs, strict=True)):
        assert window.input_ids.tolist() == their.ids
        of_context = [position for position, owner in enumerate(their.sequence_ids) if owner == 1]
        assert of_context == list(range(window.first, window.first + window.count))
        tokens = range(window.origin, window.origin + window.count)
        assert [pair.token_span(t) for t in tokens] == [their.offsets[position] for position in of_context]
        assert [pair.token_word(t) for t in tokens] == [their.word_ids[position] for position in of_context]
        if number == 0 or family != "unigram":
            # Where a template puts the context in segment 0, tokenizers forgets it from the second window on.
            assert window.type_ids.tolist() == their.type_ids
        else:
            assert not window.type_ids.any()


@pytest.mark.reference
@settings(max_examples=60, deadline=None)
@hard_texts
def test_the_librarys_windows_are_those_of_transformers(family, repeats, words, max_length, overlap):
    from transformers import PreTrainedTokenizerFast

    context = " ".join(words * repeats)
    ours = library_windows(FAMILIES[family](), QUESTION, context, max_length=max_length, overlap=overlap)
    theirs = PreTrainedTokenizerFast(tokenizer_object=FAMILIES[family]())(
        QUESTION,
        context,
        truncation="only_second",
        max_length=max_length,
        stride=overlap,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_token_type_ids=True,
    )
    assert [each.ids for each in ours] == theirs["input_ids"]
    assert [each.type_ids for each in ours] == theirs["token_type_ids"]
    assert [each.offsets for each in ours] == theirs["offset_mapping"]
    for number, each in enumerate(ours):
        assert each.sequence_ids == theirs.sequence_ids(number)
        assert each.word_ids == theirs.word_ids(number)


def test_window_dtypes_and_coverage(family):
    (pair,) = make_encoder(family).encode(
        [QUESTION], [" ".join(CORPUS * 3)], AnswerOptions(max_length=96, overlap=20)
    )
    assert len(pair.windows) > 3
    reached = 0
    for window in pair.windows:
        assert window.input_ids.dtype == window.type_ids.dtype == np.int64
        assert window.input_ids.shape == window.type_ids.shape == (len(window.input_ids),)
        assert len(window.input_ids) <= 96
        assert window.origin == max(0, reached - 20)
        reached = window.origin + window.count
    assert reached == len(pair.context_encoding)


def test_a_model_without_segments_gets_zeros():
    encoder = make_encoder("wordpiece", segment_ids=False)
    (pair,) = encoder.encode([QUESTION], [" ".join(CORPUS)], AnswerOptions(max_length=60, overlap=10))
    assert len(pair.windows) > 1
    assert not any(window.type_ids.any() for window in pair.windows)


def test_segment_ids_can_be_left_out_of_a_models_that_has_them():
    with_them = make_encoder("wordpiece")
    without = with_them.without_segment_ids()
    for encoder, segments in ((with_them, {0, 1}), (without, {0})):
        (pair,) = encoder.encode([QUESTION], [" ".join(CORPUS)], AnswerOptions(max_length=64, overlap=16))
        assert len(pair.windows) > 1
        assert all(set(window.type_ids.tolist()) == segments for window in pair.windows)


@pytest.mark.parametrize(
    ("family", "opening", "between", "closing"),
    [
        ("wordpiece", ["[CLS]"], ["[SEP]"], ["[SEP]"]),
        ("byte_level_bpe", ["<s>"], ["</s>", "</s>"], ["</s>"]),
        ("unigram", ["<s>"], ["</s>", "</s>"], ["</s>"]),
    ],
)
def test_special_tokens_come_from_the_tokenizer(family, opening, between, closing):
    tokenizer = FAMILIES[family]()
    (pair,) = make_encoder(family).encode([QUESTION], [CORPUS[0]], AnswerOptions())
    (window,) = pair.windows
    tokens = [tokenizer.id_to_token(i) for i in window.input_ids.tolist()]
    asked, given_ = (
        tokenizer.encode(text, add_special_tokens=False).tokens for text in (QUESTION, CORPUS[0])
    )
    assert tokens == [*opening, *asked, *between, *given_, *closing]
    assert pair.cls_id == tokenizer.token_to_id(opening[0])


def test_a_tokenizer_without_special_tokens():
    tokenizer = Tokenizer.from_str(byte_level_bpe().to_str())
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    (pair,) = Encoder(tokenizer, segment_ids=True, max_positions=512).encode(
        ["a b"], ["c d"], AnswerOptions()
    )
    assert pair.cls_id is None
    assert pair.windows[0].input_ids.tolist() == [
        *tokenizer.encode("a b").ids,
        *tokenizer.encode("c d").ids,
    ]


def test_a_batch_equals_its_pairs_alone(family):
    encoder, options = make_encoder(family), AnswerOptions(max_length=80, overlap=8)
    questions = [QUESTION, "When?", QUESTION, "Where is Normandy?"]
    contexts = [CORPUS[0], CORPUS[0], " ".join(CORPUS), ""]
    together = encoder.encode(questions, contexts, options)
    assert together[0].context_encoding is together[1].context_encoding
    for question, context, pair in zip(questions, contexts, together, strict=True):
        (alone,) = encoder.encode([question], [context], options)
        assert [w.input_ids.tolist() for w in pair.windows] == [w.input_ids.tolist() for w in alone.windows]
        assert pair.context == context
    assert encoder.encode([], [], options) == []


def test_the_given_tokenizer_is_left_as_it_was():
    tokenizer = Tokenizer.from_str(wordpiece().to_str())
    tokenizer.enable_truncation(16)
    tokenizer.enable_padding(length=32)
    before = tokenizer.to_str()
    encoder = Encoder(tokenizer, segment_ids=True, max_positions=512)
    (pair,) = encoder.encode([QUESTION], [" ".join(CORPUS)], AnswerOptions(max_length=512))
    assert len(pair.windows[0].input_ids) > 32
    assert tokenizer.to_str() == before


# --- Questions and contexts that are hard to place ------------------------------------------------


@pytest.mark.parametrize("context", ["", " ", "\n\t \u3000"])
def test_a_context_without_text_has_one_window(family, context):
    (pair,) = make_encoder(family).encode([QUESTION], [context], AnswerOptions())
    (window,) = pair.windows
    tokens = range(window.origin, window.origin + window.count)
    assert not "".join(context[slice(*pair.token_span(token))] for token in tokens).strip()
    if not context:
        assert window.count == 0


def question_limit(family, context, options):
    """The longest question, in words of one token, that finds room."""
    encoder, longest = make_encoder(family), 0
    for words in range(1, options.window[0]):
        try:
            encoder.encode(
                ["the" + " the" * (words - 1)], [context], replace(options, max_question_length=999)
            )
        except InputError:
            return longest
        longest = words
    return longest


@pytest.mark.parametrize(
    ("context", "limit"),
    [
        ("the " * 100, 40 - 3 - 8 - 5),  # Several windows: each must advance by an eighth of 40.
        ("the " * 4, 40 - 3 - 4),  # A context shorter than the overlap only has to fit.
        ("", 40 - 3 - 1),
    ],
)
def test_a_question_may_be_as_long_as_the_context_lets_it(context, limit):
    options = AnswerOptions(max_length=40, overlap=8)
    assert question_limit("wordpiece", context, options) == limit
    too_long = "the " * (limit + 1)
    with pytest.raises(
        InputError,
        match=f"^question takes {limit + 1} tokens; at most {limit} .*max_question_length={limit} or trunc",
    ):
        make_encoder("wordpiece").encode([too_long], [context], options)
    cut = AnswerOptions(max_length=40, overlap=8, truncate_question=True)
    (pair,) = make_encoder("wordpiece").encode([too_long], [context], cut)
    assert pair.windows[0].first == limit + 2
    assert all(len(window.input_ids) <= 40 for window in pair.windows)
    last = pair.windows[-1]
    assert last.origin + last.count == len(pair.context_encoding)


@pytest.mark.parametrize(
    ("options", "tokens"),
    [({}, 64), ({"decoding": "pipeline"}, 150), ({"max_question_length": 100}, 100)],
)
def test_a_question_is_cut_as_the_reference_cuts_it(options, tokens):
    question = "the " * 150
    (pair,) = make_encoder("wordpiece").encode([question], ["of " * 300], AnswerOptions(**options))
    assert pair.windows[0].first == tokens + 2


@settings(max_examples=200, deadline=None)
@given(
    question=st.integers(1, 500),
    tokens=st.integers(0, 2000),
    max_length=st.integers(1, 512),
    overlap=st.integers(0, 511),
    most=st.none() | st.integers(1, 500),
    truncate=st.booleans(),
)
def test_no_option_makes_more_than_eight_times_the_windows(
    question, tokens, max_length, overlap, most, truncate
):
    try:
        options = AnswerOptions(
            max_length=max_length,
            overlap=overlap,
            max_question_length=most,
            truncate_question=truncate,
            decoding="pipeline",
        )
        (pair,) = make_encoder("wordpiece").encode(["the " * question], ["of " * tokens], options)
    except InputError as error:
        assert re.search("overlap|max_length|max_question_length", str(error))
        return
    assert len(pair.windows) <= 8 * -(-max(1, tokens) // max_length) + 1
    assert all(len(window.input_ids) <= max_length for window in pair.windows)
    if question > 1:
        with pytest.raises(TooManyWindows) if len(pair.windows) > 1 else nullcontext():
            make_encoder("wordpiece").encode(
                ["the " * question],
                ["of " * tokens],
                replace(options, max_windows=len(pair.windows) - 1 or 1),
            )
        allowed = replace(options, max_windows=len(pair.windows))
        (again,) = make_encoder("wordpiece").encode(["the " * question], ["of " * tokens], allowed)
        assert len(again.windows) == len(pair.windows)


def test_limits_that_no_question_meets():
    options = AnswerOptions(max_length=20, overlap=17, truncate_question=True)
    with pytest.raises(InputError, match=r"No question fits into windows of 20 tokens that overlap by 17"):
        make_encoder("wordpiece").encode(["the"], ["the " * 40], options)


def test_windows_longer_than_the_model_takes():
    with pytest.raises(InputError, match=r"max_length is 384, .* at most 128 tokens; lower max_length"):
        make_encoder("wordpiece", max_positions=128).encode([QUESTION], ["a"], AnswerOptions())


@pytest.mark.parametrize(
    ("question", "context", "index", "message"),
    [
        (None, "c", None, "^question must be a string, not NoneType"),
        (3, "c", 7, r"^questions\[7\] must be a string, not int"),
        (b"q", "c", 0, r"^questions\[0\] must be a string, not bytes"),
        ("q", ["c"], None, "^context must be a string, not list"),
        ("q", None, 2, r"^contexts\[2\] must be a string, not NoneType"),
        ("", "c", None, "^question is empty"),
        (" \n", "c", 1, r"^questions\[1\] is blank"),
    ],
)
def test_unusable_texts_are_named(question, context, index, message):
    with pytest.raises(InputError, match=message):
        check_pair(question, context, index)


def test_encode_names_the_pair():
    encoder, options = make_encoder("wordpiece"), AnswerOptions()
    with pytest.raises(InputError, match=r"^question is blank"):
        encoder.encode([" "], ["c"], options)
    with pytest.raises(InputError, match=r"^questions\[1\] is blank"):
        encoder.encode(["q", " "], ["c", "c"], options)
    with pytest.raises(InputError, match=r"^questions\[41\] is blank") as caught:
        encoder.encode(["q", " "], ["c", "c"], options, first_index=40)
    assert caught.value.index == 41
    with pytest.raises(InputError, match=r"^questions\[40\] is blank"):
        encoder.encode([" "], ["c"], options, first_index=40)
    with pytest.raises(InputError, match=r"^question holds only characters that the tokenizer drops"):
        encoder.encode(["\x00\u200b"], ["c"], options)
    with pytest.raises(InputError, match="2 questions but 1 contexts"):
        encoder.encode(["q", "q"], ["c"], options)


# --- Any string -----------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(st.text(), st.text(st.characters(), max_size=300))
@example("\ud800?", "a\udfffb \ud83d\ude00 c")
@example("q", "\x00")
@example("q", "\U0001f469\u200d\U0001f467 e\u0301 مرحبا 東京 \u202e")
def test_any_string_is_encoded_or_refused(family, question, context):
    options = AnswerOptions(max_length=64, overlap=8, truncate_question=True)
    try:
        (pair,) = make_encoder(family).encode([question], [context], options)
    except InputError:
        assert not question.strip() or family == "wordpiece"
        return
    assert pair.context == context
    for window in pair.windows:
        for token in range(window.origin, window.origin + window.count):
            start, end = pair.token_span(token)
            assert 0 <= start <= end <= len(context)


def test_lone_surrogates_count_as_one_code_point(family):
    context = "\ud800 The Normans \udc00\ud800 settled"
    questions, contexts = ["Who \udfff?", "Who?"], [context, "\ud800"]
    pair, _ = make_encoder(family).encode(questions, contexts, AnswerOptions())
    covered = [context[slice(*pair.token_span(i))] for i in range(len(pair.context_encoding))]
    words = "".join(covered).replace(" ", "")
    assert "Normans" in words
    assert words.endswith("settled")


def test_another_type_error_of_the_tokenizer_is_not_hidden():
    class Refusing:
        def __getattr__(self, name):
            return getattr(wordpiece(), name)

        def encode_batch(self, texts, **options):
            raise TypeError("no list of texts")

    encoder = Encoder(Refusing(), segment_ids=True, max_positions=512)
    with pytest.raises(TypeError, match="no list of texts"):
        encoder.encode(["q"], ["c"], AnswerOptions())


def test_a_megabyte_of_text(family):
    context = (CORPUS[0] + " ") * (1_000_000 // (len(CORPUS[0]) + 1))
    (pair,) = make_encoder(family).encode([QUESTION], [context], AnswerOptions())
    last = pair.windows[-1]
    assert last.origin + last.count == len(pair.context_encoding)
    covered = "".join(context[slice(*pair.token_span(last.origin + i))] for i in range(last.count))
    assert covered.replace(" ", "").endswith("Normandy,inFrance.")


# --- Loading --------------------------------------------------------------------------------------


def test_from_folder(tmp_path):
    tokenizer = Tokenizer.from_str(wordpiece().to_str())
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=64)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    encoder = Encoder.from_folder(tmp_path, segment_ids=True, max_positions=512)
    (pair,) = encoder.encode([QUESTION], [CORPUS[0]], AnswerOptions())
    (expected,) = make_encoder("wordpiece").encode([QUESTION], [CORPUS[0]], AnswerOptions())
    assert pair.windows[0].input_ids.tolist() == expected.windows[0].input_ids.tolist()


def test_from_a_folder_without_a_tokenizer(tmp_path):
    with pytest.raises(BundleError, match=r"tokenizer\.json is missing"):
        Encoder.from_folder(tmp_path, segment_ids=True, max_positions=512)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(BundleError, match="cannot be read as a tokenizer") as caught:
        Encoder.from_folder(tmp_path, segment_ids=True, max_positions=512)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("pair", ["[CLS] $B [SEP] $A [SEP]", "$A $B $A"])
def test_a_template_that_is_no_question_and_context_is_refused(pair):
    tokenizer = Tokenizer.from_str(wordpiece().to_str())
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A", pair=pair, special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    with pytest.raises(BundleError, match="question, then context"):
        Encoder(tokenizer, segment_ids=True, max_positions=512)


def test_a_tokenizer_that_reads_a_pair_otherwise_than_its_parts_is_refused():
    class Merging:
        """Encodes the words of a pair by other ids than those of a lone text."""

        def encode(self, text, pair=None, *, add_special_tokens=True):
            words = [(0, word) for word in text.split()] + [(1, word) for word in (pair or "").split()]
            ids = [len(word) + (100 if pair else 0) for _, word in words]
            owners = [owner for owner, _ in words]
            return SimpleNamespace(ids=ids, type_ids=owners, sequence_ids=owners, tokens=words)

    with pytest.raises(BundleError, match="question, then context"):
        read_pair_template(Merging())


def test_a_tokenizer_that_has_no_token_for_a_word_is_told():
    lacking = Tokenizer.from_str(
        re.sub(r'"unk_token": ?"\[UNK\]"', '"unk_token":"[GONE]"', wordpiece().to_str())
    )
    encoder = Encoder(lacking, segment_ids=True, max_positions=512)
    with pytest.raises(BundleError, match="The bundle's tokenizer cannot tokenize this text: WordPiece"):
        encoder.encode(["Who?"], ["\u2603\u2603"], AnswerOptions())
