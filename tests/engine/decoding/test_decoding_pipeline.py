"""The pipeline decoding against the pipeline object of transformers 4.57."""

from __future__ import annotations

import math
import tracemalloc
import warnings
from dataclasses import replace
from functools import cache, partial
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastspan.decoding.pipeline import decode_pipeline, predict_pipeline
from fastspan.decoding.squad import decode_squad
from fastspan.errors import InferenceError, InputError
from fastspan.options import AnswerOptions
from fastspan.text.encoder import Encoder
from support.models.offline_tokenizers import CORPUS, FAMILIES
from support.paths import MINILM
from support.questions.real_questions import (
    WINDOWS,
    real_windows,
    reference_model,
    reference_tokenizer,
    same_ids,
)

QUESTION = "Who was the leader?"
CLS = {"wordpiece": "[CLS]", "byte_level_bpe": "<s>", "unigram": "<s>"}


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request):
    return request.param


@cache
def make_encoder(family):
    return Encoder(FAMILIES[family](), segment_ids=True, max_positions=512)


@cache
def toy_pipeline(family):
    """The real pipeline around a toy tokenizer; its model is never run."""
    import transformers

    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=FAMILIES[family](), cls_token=CLS[family], model_max_length=512
    )
    config = transformers.BertConfig(
        vocab_size=500, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4
    )
    model = transformers.BertForQuestionAnswering(config).eval()
    return transformers.QuestionAnsweringPipeline(model=model, tokenizer=tokenizer)


@cache
def real_pipeline():
    import transformers

    model = reference_model()
    return transformers.QuestionAnsweringPipeline(model=model, tokenizer=reference_tokenizer())


class PipelineOutputs:
    """What the pipeline's own preprocessing made of a question, with given logits, ready to be decoded."""

    def __init__(self, pipeline, question, context, options, starts, ends, pair):
        import torch

        self.pipeline = pipeline
        example = pipeline.create_sample(question, context)
        self.outputs = list(
            pipeline.preprocess(example, doc_stride=options.window[1], max_seq_len=options.window[0])
        )
        for output, start, end, window in zip(self.outputs, starts, ends, pair.windows, strict=True):
            assert output["input_ids"][0].tolist() == window.input_ids.tolist()
            output["start"], output["end"] = torch.from_numpy(start)[None], torch.from_numpy(end)[None]

    def decode(self, options):
        with warnings.catch_warnings():
            # numpy 2 over how the pipeline hands it tensors
            warnings.filterwarnings("ignore", "__array__ implementation doesn't accept", DeprecationWarning)
            found = self.pipeline.postprocess(
                self.outputs,
                top_k=options.top_k,
                handle_impossible_answer=options.handle_impossible_answer,
                max_answer_len=options.span_tokens,
                align_to_words=options.align_to_words,
            )
        return [found] if isinstance(found, dict) else found


def assert_same(answers, theirs, context):
    places = [(t["answer"], t["start"], t["end"]) for t in theirs]
    assert [(answer.text, answer.start, answer.end) for answer in answers] == places
    assert [a.score for a in answers] == pytest.approx([t["score"] for t in theirs], rel=0, abs=1e-5)
    assert all(context[a.start : a.end] == a.text for a in answers)


class KeptPipeline:
    """What the pipeline answered, as it was kept: ``[start, end, score]`` of each answer."""

    def __init__(self, golden):
        self.golden = golden

    def assert_same(self, key, answers, decode, context, *, first=24):
        """Hold answers against the kept ones, of long lists against the number and the ``first``.

        Scores that differ by less than processors do may stand in another order.
        """

        def compute():
            theirs = decode()
            assert all(context[t["start"] : t["end"]] == t["answer"] for t in theirs)
            shown = [[t["start"], t["end"], round(float(t["score"]), 6)] for t in theirs[:first]]
            return [len(theirs), shown]

        count, kept = self.golden.value(key, compute, within=1e-5)
        assert len(answers) == count
        assert all(context[a.start : a.end] == a.text for a in answers)
        ours = answers[: len(kept)]
        assert [a.score for a in ours] == pytest.approx([score for *_, score in kept], rel=0, abs=1e-5)
        at = 0
        while at < len(kept):
            near = at + 1
            while near < len(kept) and kept[near - 1][2] - kept[near][2] <= 2e-6:
                near += 1
            if near < len(kept) or near - at == 1:
                places = sorted([start, end] for start, end, _ in kept[at:near])
                assert sorted([a.start, a.end] for a in ours[at:near]) == places
            at = near


@pytest.fixture
def ties_in_one_order(monkeypatch):
    """Sorts that keep equals in their order, here and in the pipeline.

    Both leave the order of equal scores to numpy, whose sorts differ by the processor's vectors. So without
    this, what one machine kept would not be what another gives.
    """
    sort = partial(np.argsort, kind="stable")
    monkeypatch.setattr(np, "argsort", sort)
    monkeypatch.setattr(np, "argpartition", lambda scores, kth: sort(scores))


def random_logits(pairs, seed, *, scale=3.0, levels=None):
    """Logits of every window, alike on every machine; of few distinct values where ties are wanted."""
    rng = np.random.RandomState(seed)

    def draw(window):
        logits = rng.normal(scale=scale, size=len(window.input_ids))
        logits = np.round(logits * (levels / (4 * scale))) if levels else np.round(logits * 4096) / 4096
        return logits.astype(np.float32)

    return tuple([[draw(window) for window in pair.windows] for pair in pairs] for _ in range(2))


# --- What the pipeline returned -------------------------------------------------------------------


def test_equals_the_pipeline_on_real_questions_as_kept(golden, real_golden):
    refused = []
    for max_length in WINDOWS:
        real, pairs, variants = real_questions(real_golden, max_length)
        decoded = [decode_pipeline(pairs, real.starts, real.ends, options) for options in variants]
        for i, (question, context, pair) in enumerate(zip(real.questions, real.contexts, pairs, strict=True)):
            for options, answers in zip(variants, decoded, strict=True):
                if options.top_k == 20 and i % 7:
                    continue
                asked = f"align {options.align_to_words}, no answer {options.handle_impossible_answer}"
                KeptPipeline(golden).assert_same(
                    f"windows of {max_length}, question {i}, top {options.top_k}, {asked}",
                    answers[i],
                    lambda q=question, c=context, i=i, p=pair, o=options, r=real: PipelineOutputs(
                        real_pipeline(), q, c, r.options, r.starts[i], r.ends[i], p
                    ).decode(o),
                    context,
                )
        refused += [answers[0].text == "" for answers in decoded[0]]
        assert variants[0].handle_impossible_answer
    assert 0 < sum(refused) < len(refused)


def real_questions(real_golden, max_length, *, squad=False):
    real = real_windows(real_golden, max_length, squad=squad)
    encoder = Encoder.from_folder(MINILM, segment_ids=True, max_positions=512)
    pairs = encoder.encode(real.questions, real.contexts, real.options)
    assert same_ids(pairs, real)
    options = replace(real.options, decoding="pipeline")
    variants = [
        options.override({"top_k": k, "align_to_words": align, "handle_impossible_answer": impossible})
        for k in (1, 3, 20)
        for align in (True, False)
        for impossible in (True, False)
    ]
    return real, pairs, variants


@pytest.mark.reference
@pytest.mark.parametrize("max_length", WINDOWS)
def test_equals_the_pipeline_on_real_questions(real_golden, max_length):
    real, pairs, variants = real_questions(real_golden, max_length, squad=True)
    decoded = [decode_pipeline(pairs, real.starts, real.ends, options) for options in variants]
    for i, (question, context, pair) in enumerate(zip(real.questions, real.contexts, pairs, strict=True)):
        outputs = PipelineOutputs(
            real_pipeline(), question, context, real.options, real.starts[i], real.ends[i], pair
        )
        for options, answers in zip(variants, decoded, strict=True):
            assert_same(answers[i], outputs.decode(options), context)
    refused = [answers[0].text == "" for answers in decoded[0]]
    assert variants[0].handle_impossible_answer
    assert 0 < sum(refused) < len(refused)


@pytest.mark.reference
@settings(max_examples=60, deadline=None)
@given(
    sentences=st.lists(st.sampled_from([*CORPUS, "\U0001f469", "\u00e9 "]), min_size=1),
    options=st.builds(
        AnswerOptions,
        decoding=st.just("pipeline"),
        top_k=st.integers(1, 30),
        max_answer_length=st.integers(1, 30),
        max_length=st.integers(48, 90),
        overlap=st.integers(0, 18),
        align_to_words=st.booleans(),
        handle_impossible_answer=st.booleans(),
    ),
    # Large logits leave few probabilities above 0, small ones leave many alike.
    scale=st.sampled_from([0.1, 3.0, 60.0]),
    levels=st.sampled_from([None, 3, 12]),
    seed=st.integers(0, 2**32 - 1),
)
def test_equals_the_pipeline_ties_and_zeros_included(family, sentences, options, scale, levels, seed):
    context = " ".join(sentences)
    pairs = make_encoder(family).encode([QUESTION], [context], options)
    starts, ends = random_logits(pairs, seed, scale=scale, levels=levels)
    outputs = PipelineOutputs(toy_pipeline(family), QUESTION, context, options, starts[0], ends[0], pairs[0])
    assert_same(decode_pipeline(pairs, starts, ends, options)[0], outputs.decode(options), context)


def toy_answers(family, question, context, options, pairs, starts, ends):
    return lambda: PipelineOutputs(
        toy_pipeline(family), question, context, options, starts[0], ends[0], pairs[0]
    ).decode(options)


@pytest.mark.parametrize("number", range(24))
@pytest.mark.usefixtures("ties_in_one_order")
def test_equals_the_pipeline_ties_and_zeros_included_as_kept(golden, family, number):
    draw = np.random.RandomState(number)
    pieces = [*CORPUS, "\U0001f469", "\u00e9 "]
    context = " ".join(pieces[draw.randint(len(pieces))] for _ in range(draw.randint(1, 9)))
    options = AnswerOptions(
        decoding="pipeline",
        top_k=int(draw.randint(1, 31)),
        max_answer_length=int(draw.randint(1, 31)),
        max_length=int(draw.randint(48, 91)),
        overlap=int(draw.randint(0, 19)),
        align_to_words=bool(draw.randint(2)),
        handle_impossible_answer=bool(draw.randint(2)),
    )
    scale, levels = (0.1, 3.0, 60.0)[draw.randint(3)], (None, None, 12)[draw.randint(3)]
    pairs = make_encoder(family).encode([QUESTION], [context], options)
    starts, ends = random_logits(pairs, number, scale=scale, levels=levels)
    KeptPipeline(golden).assert_same(
        f"drawn texts, {family} {number}",
        decode_pipeline(pairs, starts, ends, options)[0],
        toy_answers(family, QUESTION, context, options, pairs, starts, ends),
        context,
    )


@pytest.mark.parametrize("top_k", [1, 4, 40])
@pytest.mark.parametrize("align_to_words", [True, False])
@pytest.mark.parametrize("context", ["a", "the Normans", "[CLS] the [SEP] <s> a </s>"])
@pytest.mark.usefixtures("ties_in_one_order")
def test_equals_the_pipeline_where_spans_run_out(golden, family, context, top_k, align_to_words):
    options = AnswerOptions(
        decoding="pipeline", top_k=top_k, align_to_words=align_to_words, handle_impossible_answer=True
    )
    pairs = make_encoder(family).encode(["Who?"], [context], options)
    for seed in range(5):
        starts, ends = random_logits(pairs, seed)
        KeptPipeline(golden).assert_same(
            f"{context!r}, {family}, top {top_k}, align {align_to_words}, seed {seed}",
            decode_pipeline(pairs, starts, ends, options)[0],
            toy_answers(family, "Who?", context, options, pairs, starts, ends),
            context,
            first=12,
        )


@pytest.mark.parametrize("align_to_words", [True, False])
@pytest.mark.parametrize("max_answer_length", [1, 15, 10**9])
@pytest.mark.usefixtures("ties_in_one_order")
def test_equals_the_pipeline_when_asked_for_more_than_all_spans(
    golden, family, align_to_words, max_answer_length
):
    options = AnswerOptions(
        decoding="pipeline",
        top_k=10**9,
        max_answer_length=max_answer_length,
        max_length=32,
        overlap=4,
        align_to_words=align_to_words,
        handle_impossible_answer=True,
    )
    context = " ".join(CORPUS[:3])
    pairs = make_encoder(family).encode(["Who?"], [context], options)
    assert len(pairs[0].windows) > 1
    for levels in (None, 3):
        starts, ends = random_logits(pairs, 7, levels=levels)
        answers = decode_pipeline(pairs, starts, ends, options)[0]
        theirs = toy_answers(family, "Who?", context, options, pairs, starts, ends)
        asked = f"spans of {max_answer_length}, {family}, align {align_to_words}, levels {levels}"
        KeptPipeline(golden).assert_same(asked, answers, theirs, context)
        if golden.mode != "kept":
            assert_same(answers, theirs(), context)


@pytest.mark.parametrize("decoding", ["pipeline", "squad"])
def test_memory_is_bounded_by_the_spans_there_are(decoding):
    options = AnswerOptions(
        decoding=decoding, top_k=10**9, n_best=10**9, max_answer_length=10**9, max_length=48, overlap=4
    )
    pairs = make_encoder("wordpiece").encode(["Who?"], [" ".join(CORPUS[:6])], options)
    logits = random_logits(pairs, 3)
    decode = partial(decode_squad, threshold=0.0) if decoding == "squad" else predict_pipeline
    tracemalloc.start()
    try:
        (prediction,) = decode(pairs, *logits, options)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(prediction.answers) > 1000
    # A window has some two thousand pairs of tokens, of which each takes a few hundred bytes.
    assert peak < 2000 * len(pairs[0].windows) * 2000


@pytest.mark.parametrize("decoding", ["pipeline", "squad"])
def test_memory_does_not_grow_with_windows_times_answers_times_length(decoding):
    few = AnswerOptions(decoding=decoding, overlap=128)
    many = replace(few, top_k=100, n_best=384, max_answer_length=384)
    pairs = make_encoder("wordpiece").encode(["Who?"], [" ".join(CORPUS * 90)], few)
    assert len(pairs[0].windows) > 45
    logits = random_logits(pairs, 3)
    decode = partial(decode_squad, threshold=0.0) if decoding == "squad" else predict_pipeline
    peaks = []
    for options in (few, many):
        tracemalloc.start()
        try:
            decode(pairs, *logits, options)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    # 48 windows × 210 answers × 384 tokens are 3.9 million spans, of some twenty bytes each.
    assert peaks[1] < peaks[0] + 30e6


def test_texts_of_one_hash_stay_apart(monkeypatch):
    options = AnswerOptions(decoding="pipeline", top_k=40, max_length=64, overlap=8, max_answer_length=3)
    pairs = make_encoder("wordpiece").encode(["Who?"], [" ".join(CORPUS[:3])], options)
    logits = random_logits(pairs, 5)
    expected = decode_pipeline(pairs, *logits, options)
    monkeypatch.setattr("fastspan.decoding.pipeline.hash", lambda text: len(text) % 3, raising=False)
    assert decode_pipeline(pairs, *logits, options) == expected


# --- What it means --------------------------------------------------------------------------------


def one_window(context, options, start, end):
    """A pair of one window, whose context tokens have the given logits and all others -20."""
    pairs = make_encoder("wordpiece").encode([QUESTION], [context], options)
    (window,) = pairs[0].windows
    rows = []
    for logits in (start, end):
        row = np.full(len(window.input_ids), -20, np.float32)
        row[window.first : window.first + window.count] = logits
        rows.append([[row]])
    return pairs, *rows


def test_scores_of_one_text_add_up_beyond_one():
    options = AnswerOptions(decoding="pipeline", max_length=24, overlap=10, top_k=1)
    pairs = make_encoder("wordpiece").encode(["Who?"], ["the " * 40 + "Rollo"], options)
    pair = pairs[0]
    rollo = len(pair.context_encoding) - 1
    word = {i for i in range(rollo + 1) if pair.token_word(i) == pair.token_word(rollo)}
    starts = [np.zeros(len(window.input_ids), np.float32) for window in pair.windows]
    for window, row in zip(pair.windows, starts, strict=True):
        row[window.first] = 50  # Every window is sure of its own first token: "the", but for the last.
        if min(word) < window.origin + window.count and window.origin <= min(word):
            row[window.first + min(word) - window.origin] = 40
    ((answer,),) = decode_pipeline(pairs, [starts], [starts], options)
    assert answer.text == "the"
    assert (answer.start, answer.end) == (0, 3)
    assert answer.score == pytest.approx(len(pairs[0].windows), abs=0.01)


def test_answers_widen_to_whole_words_unless_told_not_to():
    context = "Extractively answering"
    encoder = make_encoder("wordpiece")
    pair = encoder.encode([QUESTION], [context], AnswerOptions())[0]
    count = pair.windows[0].count
    assert count > 2
    assert pair.token_word(1) == pair.token_word(0)
    logits = np.zeros(count)
    logits[1] = 20
    for align, expected in ((True, "Extractively"), (False, context[slice(*pair.token_span(1))])):
        options = AnswerOptions(decoding="pipeline", align_to_words=align)
        ((answer,),) = decode_pipeline(*one_window(context, options, logits, logits), options)
        assert answer.text == expected


@pytest.mark.parametrize("decide", [True, False])
def test_predictions_say_none_when_the_empty_answer_wins(decide):
    options = AnswerOptions(decoding="pipeline", handle_impossible_answer=decide, top_k=2)
    pairs, starts, ends = one_window("the Normans", options, -2.0, -2.0)
    starts[0][0][0] = ends[0][0][0] = 5
    (prediction,) = predict_pipeline(pairs, starts, ends, options)
    (squad,) = decode_squad(pairs, starts, ends, options, threshold=0.0)
    assert squad.answer is None
    assert prediction.answers == decode_pipeline(pairs, starts, ends, options)[0]
    assert (prediction.null_score, prediction.best_span_score) == (10, -4)
    if decide:
        assert prediction.answer is None
        assert prediction.answers[0].text == ""
    else:
        assert prediction.answer == prediction.answers[0]


def test_a_tokenizer_without_words_gives_tokens():
    context = "Extractively answering"
    options = AnswerOptions(decoding="pipeline", top_k=5)
    pairs = make_encoder("wordpiece").encode([QUESTION], [context], options)
    encoding = pairs[0].context_encoding
    wordless = SimpleNamespace(token_to_chars=encoding.token_to_chars, token_to_word=lambda _: None)
    logits = random_logits(pairs, 2)
    found = decode_pipeline([replace(pairs[0], context_encoding=wordless)], *logits, options)
    tokens = decode_pipeline(pairs, *logits, replace(options, align_to_words=False))
    assert found == tokens != decode_pipeline(pairs, *logits, options)


def test_the_classification_token_typed_in_a_question_is_no_answer():
    options = AnswerOptions(decoding="pipeline", top_k=3)
    pairs = make_encoder("wordpiece").encode(["Who [CLS] was?"], ["the Normans settled"], options)
    (window,) = pairs[0].windows
    (typed,) = np.nonzero(window.input_ids[1:] == pairs[0].cls_id)[0] + 1
    row = np.zeros(len(window.input_ids), np.float32)
    row[typed] = 30
    (answers,) = decode_pipeline(pairs, [[row]], [[row]], options)
    assert all(answer.score < 1e-6 for answer in answers)


@pytest.mark.parametrize("context", ["", "  \n"])
@pytest.mark.parametrize("impossible", [True, False])
def test_a_context_without_text_has_no_answer(context, impossible):
    options = AnswerOptions(decoding="pipeline", handle_impossible_answer=impossible)
    pairs = make_encoder("wordpiece").encode([QUESTION], [context], options)
    (prediction,) = predict_pipeline(pairs, *random_logits(pairs, 0), options)
    assert (prediction.answer, prediction.answers, prediction.confidence) == (None, (), None)
    assert math.isfinite(prediction.null_score)


def test_logits_that_are_no_numbers_are_refused():
    options = AnswerOptions(decoding="pipeline")
    with pytest.raises(InferenceError):
        predict_pipeline(*one_window("the", options, math.nan, 0.0), options)


@settings(max_examples=150, deadline=None)
@given(
    st.text(min_size=1), st.text(max_size=300), st.integers(1, 8), st.booleans(), st.integers(0, 2**32 - 1)
)
@example("q", "\ud800a \udfffb\ud83d\ude00", 8, True, 0)
@example("q", "\x00\x00 a\x00", 8, True, 0)
@example("[CLS]", "\U0001f469\u200d\U0001f467 e\u0301 \u202eمرحبا\u202c 東京 ﷺ ǅ İ", 8, True, 0)
def test_any_string_gives_slices_of_the_context(family, question, context, top_k, align_to_words, seed):
    options = AnswerOptions(
        decoding="pipeline",
        top_k=top_k,
        align_to_words=align_to_words,
        max_length=64,
        overlap=8,
        truncate_question=True,
    )
    try:
        pairs = make_encoder(family).encode([question], [context], options)
    except InputError:
        return
    (prediction,) = predict_pipeline(pairs, *random_logits(pairs, seed), options)
    for answer in prediction.answers:
        assert context[answer.start : answer.end] == answer.text
    assert prediction.answer is None or prediction.answer == prediction.answers[0]
    assert prediction.confidence is None
