"""The squad decoding against run_squad's rules written out as loops, and its own promises."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from fastspan.decoding.confidence import decision_confidence
from fastspan.decoding.squad import decode_squad
from fastspan.errors import InferenceError, InputError
from fastspan.options import AnswerOptions
from fastspan.text.encoder import Encoder
from fastspan.text.graphemes import widen_to_graphemes
from support.models.offline_tokenizers import CORPUS, FAMILIES
from support.paths import MINILM
from support.questions.real_questions import WINDOWS, real_windows, same_ids
from support.references.library_windows import library_windows

QUESTION = "Who was the leader?"


@dataclass(frozen=True)
class Curves:
    answered_scale: float
    answered_offset: float
    abstained_scale: float
    abstained_offset: float


CURVES = Curves(0.5, -4.0, -0.25, 1.0)


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request):
    return request.param


def make_encoder(family):
    return Encoder(FAMILIES[family](), segment_ids=True, max_positions=512)


def random_logits(pairs, seed, *, distinct_values=None):
    """Logits of every window, of few distinct values where ties are wanted."""
    rng = np.random.default_rng(seed)

    def draw(window):
        logits = rng.normal(scale=3, size=len(window.input_ids))
        if distinct_values:
            logits = np.round(logits * distinct_values / 12)
        return logits.astype(np.float32)

    return tuple([[draw(window) for window in pair.windows] for pair in pairs] for _ in range(2))


def decode_one(family, context, options, *, start=None, end=None, threshold=0.0, **kwargs):
    """Decode one pair of one window, whose context tokens have the given logits and all others 0."""
    (pair,) = make_encoder(family).encode([QUESTION], [context], options)
    (window,) = pair.windows
    rows = []
    for logits in (start, end):
        row = np.zeros(len(window.input_ids), np.float32)
        row[window.first : window.first + window.count] = logits
        rows.append([[row]])
    return decode_squad([pair], *rows, options, threshold=threshold, **kwargs)[0]


# --- The rules of run_squad -----------------------------------------------------------------------


def has_most_context(spans, number, position):
    """run_squad's rule for the window in which a token counts; ``spans`` are (first token, tokens)."""
    best, best_score = None, None
    for other, (first, count) in enumerate(spans):
        if first <= position < first + count:
            score = min(position - first, first + count - 1 - position) + 0.01 * count
            if best_score is None or score > best_score:
                best, best_score = other, score
    return best == number


def run_squad(features, context, options):
    """Return the distinct spans as (text, start, end, score), best first, and the null score.

    A feature is (start logits, end logits, offsets with None outside the context).
    """

    def n_best(logits):
        return sorted(range(len(logits)), key=lambda i: -logits[i])[: options.n_best]

    spans, found, null_scores = [], [], []
    for _, _, offsets in features:
        count = sum(offset is not None for offset in offsets)
        # All but the last are as long as the first, and each overlaps the one before.
        spans.append((spans[-1][0] + spans[0][1] - options.window[1] if spans else 0, count))
    for number, (starts, ends, offsets) in enumerate(features):
        null_scores.append(starts[0] + ends[0])
        shown = {i for i, offset in enumerate(offsets) if offset is not None}
        for s in n_best(starts):
            for e in n_best(ends):
                if s not in shown or e not in shown or e < s or e - s + 1 > options.span_tokens:
                    continue
                if has_most_context(spans, number, spans[number][0] + s - min(shown)):
                    found.append((-(starts[s] + ends[e]), number, s, e, offsets[s][0], offsets[e][1]))
    answers = {}
    for score, _, _, _, start, end in sorted(found):
        text = context[start:end]
        start += len(text) - len(text.lstrip())
        # Whole characters, as run_squad kept them: its text is cut from the words of the context.
        start, end = widen_to_graphemes(context, start, start + len(text.strip()))
        if start < end:
            answers.setdefault((start, end), (context[start:end], start, end, float(-score)))
    return list(answers.values())[: options.top_k], float(min(null_scores))


def library_features(tokenizer, question, context, options, starts, ends):
    length, overlap = options.window
    encodings = library_windows(tokenizer, question, context, max_length=length, overlap=overlap)
    return [
        (start, end, [o if s == 1 else None for o, s in zip(each.offsets, each.sequence_ids, strict=True)])
        for start, end, each in zip(starts, ends, encodings, strict=True)
    ]


@settings(max_examples=60, deadline=None)
@given(
    sentences=st.lists(
        st.sampled_from([*CORPUS, "\U0001f469\u200d\U0001f467 \U0001f600\U0001f600"]), min_size=1
    ),
    options=st.builds(
        AnswerOptions,
        top_k=st.integers(1, 30),
        n_best=st.integers(1, 30),
        max_answer_length=st.integers(1, 40),
        max_length=st.integers(48, 90),
        overlap=st.integers(0, 18),
    ),
    distinct_values=st.sampled_from([None, 4, 12]),
    seed=st.integers(0, 2**32 - 1),
)
def test_equals_the_rules_of_run_squad(family, sentences, options, distinct_values, seed):
    context = " ".join(sentences)
    pairs = make_encoder(family).encode([QUESTION], [context], options)
    starts, ends = random_logits(pairs, seed, distinct_values=distinct_values)
    (prediction,) = decode_squad(pairs, starts, ends, options, threshold=0.5)
    features = library_features(FAMILIES[family](), QUESTION, context, options, starts[0], ends[0])
    answers, null_score = run_squad(features, context, options)
    assert [(a.text, a.start, a.end, a.score) for a in prediction.answers] == answers
    assert prediction.null_score == null_score
    best = answers[0][3] if answers else -math.inf
    assert prediction.best_span_score == best
    assert (prediction.answer is None) == (not answers or null_score - best > 0.5)


@pytest.mark.parametrize("tokens", [400, 500, 700])
def test_a_short_last_window_counts_for_less(tokens):
    # Only windows that differ by a hundred tokens and more show the second term of the context rule.
    context = " ".join(f"the {chr(ord('a') + i % 26)}" for i in range(tokens // 2))
    options = AnswerOptions(top_k=800, n_best=400, max_answer_length=1)
    pairs = make_encoder("wordpiece").encode([QUESTION], [context], options)
    counts = [window.count for window in pairs[0].windows]
    assert counts[0] - counts[-1] > 100
    starts, ends = random_logits(pairs, tokens)
    (prediction,) = decode_squad(pairs, starts, ends, options, threshold=0.0)
    features = library_features(FAMILIES["wordpiece"](), QUESTION, context, options, starts[0], ends[0])
    answers, _ = run_squad(features, context, options)
    assert [(a.text, a.start, a.end, a.score) for a in prediction.answers] == answers


@pytest.mark.parametrize("squad", [False, pytest.param(True, marks=pytest.mark.reference)])
@pytest.mark.parametrize("max_length", WINDOWS)
def test_equals_the_rules_of_run_squad_on_real_questions(real_golden, max_length, squad):
    real = real_windows(real_golden, max_length, squad=squad)
    options = replace(real.options, top_k=3)
    encoder = Encoder.from_folder(MINILM, segment_ids=True, max_positions=512)
    pairs = encoder.encode(real.questions, real.contexts, options)
    assert same_ids(pairs, real)
    predictions = decode_squad(pairs, real.starts, real.ends, options, threshold=0.0)
    tokenizer = Tokenizer.from_file(str(MINILM / "tokenizer.json"))
    for i, prediction in enumerate(predictions):
        features = library_features(
            tokenizer, real.questions[i], real.contexts[i], options, real.starts[i], real.ends[i]
        )
        answers, null_score = run_squad(features, real.contexts[i], options)
        assert [(a.text, a.start, a.end, a.score) for a in prediction.answers] == answers
        assert prediction.null_score == null_score
        text = prediction.answer.text if prediction.answer else ""
        assert text == ("" if null_score - answers[0][3] > 0 else answers[0][0])
    if len(predictions) > 10:
        assert len({prediction.answer is None for prediction in predictions}) == 2


def test_a_batch_equals_its_pairs_alone(family):
    options = AnswerOptions(top_k=5, max_length=64, overlap=8)
    contexts = [CORPUS[0], " ".join(CORPUS), "", CORPUS[5] * 3, "\U0001f600" * 9]
    pairs = make_encoder(family).encode([QUESTION] * len(contexts), contexts, options)
    starts, ends = random_logits(pairs, 7)
    together = decode_squad(pairs, starts, ends, options, threshold=0.0)
    for i, prediction in enumerate(together):
        alone = decode_squad(pairs[i : i + 1], starts[i : i + 1], ends[i : i + 1], options, threshold=0.0)
        assert alone == [prediction]
    assert decode_squad([], [], [], options, threshold=0.0) == []


@pytest.mark.parametrize("scale", [1e-40, 1.0, 1e7, 3e38])
@pytest.mark.parametrize("top_k", [1, 3])
def test_a_lone_window_rounds_and_orders_its_scores_as_a_batch_does(family, scale, top_k):
    options = AnswerOptions(top_k=top_k, max_length=128, overlap=16)
    (pair,) = make_encoder(family).encode([QUESTION], [CORPUS[0]], options)
    rng = np.random.default_rng(int(math.log10(scale)) + 50)
    for _ in range(40):
        # Small differences beside large values: sums that differ in double precision are the same in single.
        values = rng.integers(-1, 2, (2, len(pair.windows[0].input_ids))) * scale
        rows = (values + rng.normal(scale=min(scale, 1.0), size=values.shape)).astype(np.float32)
        starts, ends = ([[row]] for row in rows)
        alone = decode_squad([pair], starts, ends, options, threshold=0.0)
        with np.errstate(over="ignore"):
            batch = decode_squad([pair, pair], starts * 2, ends * 2, options, threshold=0.0)
        assert batch == alone * 2


# --- No answer, and how sure ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("threshold", "answered"),
    [(-3.0, True), (-3.5, False), (0.0, True), (math.inf, True), (-math.inf, False)],
)
def test_no_answer_wins_only_above_the_threshold(threshold, answered):
    # Null scores 0, the best span 3: the margin is -3, and equality is not above.
    start, end = [0, 2, 0], [0, 1, 0]
    prediction = decode_one(
        "wordpiece", "the the the", AnswerOptions(), start=start, end=end, threshold=threshold
    )
    assert prediction.margin == -3
    assert (prediction.answer is not None) == answered
    assert [answer.score for answer in prediction.answers] == [3]


def test_the_options_threshold_goes_first():
    options = AnswerOptions(no_answer_threshold=-5.0)
    prediction = decode_one("wordpiece", "the", options, start=[1], end=[1], threshold=0.0)
    assert prediction.answer is None


def test_the_null_score_is_the_least_of_the_windows():
    options = AnswerOptions(max_length=40, overlap=4)
    pairs = make_encoder("wordpiece").encode([QUESTION], [" ".join(CORPUS)], options)
    starts, ends = random_logits(pairs, 3)
    (prediction,) = decode_squad(pairs, starts, ends, options, threshold=0.0)
    nulls = [float(start[0] + end[0]) for start, end in zip(starts[0], ends[0], strict=True)]
    assert len(nulls) > 4
    assert prediction.null_score == min(nulls)


def test_a_calibration_changes_the_confidence_and_decides_nothing():
    given_answer = {"start": [1], "end": [1], "confidence": CURVES}
    answered = decode_one("wordpiece", "the", AnswerOptions(), **given_answer)
    abstained = decode_one("wordpiece", "the", AnswerOptions(), **given_answer, threshold=-9.0)
    assert answered.answer is not None
    assert decode_one("wordpiece", "the", AnswerOptions(), start=[1], end=[1]).confidence is None
    assert answered.confidence == pytest.approx(1 / (1 + math.exp(4 - 0.5 * 2)))
    assert abstained.answer is None
    assert abstained.confidence == pytest.approx(1 / (1 + math.exp(-1 + 0.25 * 2)))


@pytest.mark.parametrize("calibration", [None, CURVES])
@pytest.mark.parametrize("threshold", [0.0, math.inf, -math.inf])
@pytest.mark.parametrize("margin", [-math.inf, -1e6, -800.0, 0.0, 800.0, 1e6, math.inf, math.nan])
def test_a_confidence_is_a_probability_at_all_ends_of_the_scale(margin, threshold, calibration):
    answered = margin < math.inf and not margin > threshold
    sure = decision_confidence(margin, threshold, calibration, answered=answered)
    assert 0 <= sure <= 1
    if not margin < math.inf:
        assert sure == 1
    elif calibration is None and math.isfinite(margin):
        assert sure >= 0.5


@pytest.mark.parametrize("context", ["", "  \n"])
def test_a_context_without_text_has_no_answer(family, context):
    pairs = make_encoder(family).encode([QUESTION], [context], AnswerOptions())
    starts, ends = random_logits(pairs, 1)
    (prediction,) = decode_squad(pairs, starts, ends, AnswerOptions(), threshold=math.inf)
    assert prediction.answer is None
    assert prediction.answers == ()
    assert prediction.null_score == float(starts[0][0][0] + ends[0][0][0])
    assert prediction.best_span_score == -math.inf
    assert prediction.confidence is None
    (sure,) = decode_squad(pairs, starts, ends, AnswerOptions(), threshold=0.0, confidence=CURVES)
    assert sure.confidence == 1


# --- Spans ----------------------------------------------------------------------------------------


def test_every_occurrence_is_an_answer_of_its_own():
    options = AnswerOptions(top_k=2, max_answer_length=1)
    prediction = decode_one("wordpiece", "the . the", options, start=[2, 0, 3], end=[2, 0, 3])
    assert [(a.text, a.start, a.score) for a in prediction.answers] == [("the", 6, 6), ("the", 0, 4)]


def test_tokens_of_one_character_give_one_answer():
    # Four byte tokens an emoji, ten spans of one, before the next character's spans.
    start = [5, 5, 5, 5, 1, 1, 1, 1]
    options = AnswerOptions(top_k=3)
    prediction = decode_one("byte_level_bpe", "\U0001f600\U0001f601", options, start=start, end=start)
    assert [(a.start, a.end, a.score) for a in prediction.answers] == [(0, 1, 10), (0, 2, 6), (1, 2, 2)]


def test_a_batch_in_which_one_pair_needs_a_longer_search():
    options = AnswerOptions(top_k=3, max_length=64, overlap=8)
    contexts = ["the the the the the", "\U0001f600\U0001f601", " ".join(CORPUS)]
    pairs = make_encoder("byte_level_bpe").encode([QUESTION] * 3, contexts, options)
    starts, ends = random_logits(pairs, 11)
    together = decode_squad(pairs, starts, ends, options, threshold=0.0)
    assert [(answer.start, answer.end) for answer in together[1].answers] != [(0, 1)]
    for i, prediction in enumerate(together):
        assert len(prediction.answers) == 3
        alone = decode_squad(pairs[i : i + 1], starts[i : i + 1], ends[i : i + 1], options, threshold=0.0)
        assert alone == [prediction]


def test_blanks_belong_to_no_answer():
    context = "by  Rollo "
    pairs = make_encoder("unigram").encode([QUESTION], [context], AnswerOptions())
    pair = pairs[0]
    spans = [pair.token_span(i) for i in range(pair.windows[0].count)]
    assert any(context[start:end] != context[start:end].strip() for start, end in spans)
    options = AnswerOptions(top_k=100, n_best=100)
    prediction = decode_squad(pairs, *random_logits(pairs, 5), options, threshold=0.0)[0]
    texts = [answer.text for answer in prediction.answers]
    assert "Rollo" in texts
    assert all(text == text.strip() for text in texts)


def test_the_length_limit_is_the_decodings_own():
    context = "the " * 60
    logits = np.zeros(60)
    start, end = logits.copy(), logits.copy()
    start[5], end[5 + 29], end[5 + 30] = 9, 5, 8
    (answer,) = decode_one("wordpiece", context, AnswerOptions(), start=start, end=end).answers
    assert answer.text == "the " * 29 + "the"
    options = AnswerOptions(max_answer_length=31)
    (answer,) = decode_one("wordpiece", context, options, start=start, end=end).answers
    assert answer.text == "the " * 30 + "the"


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
@pytest.mark.parametrize("which", [0, 1])
def test_logits_that_are_no_numbers_are_refused(wrong, which):
    logits = [[1.0, 1.0], [1.0, 1.0]]
    logits[which][1] = wrong
    with pytest.raises(InferenceError, match="not a number"):
        decode_one("wordpiece", "the the", AnswerOptions(), start=logits[0], end=logits[1])


def test_minus_infinity_forbids_a_token():
    logits = [-math.inf, 1.0]
    prediction = decode_one("wordpiece", "the a", AnswerOptions(top_k=5), start=logits, end=logits)
    assert [answer.text for answer in prediction.answers] == ["a"]


@settings(max_examples=200, deadline=None)
@given(st.text(min_size=1), st.text(max_size=300), st.integers(1, 8), st.integers(0, 2**32 - 1))
@example("q", "\ud800a \udfffb\ud83d\ude00", 8, 0)
@example("q", "\x00\x00 a\x00", 8, 0)
@example("q", "\U0001f469\u200d\U0001f467 e\u0301 \u202eمرحبا\u202c 東京 ﷺ ǅ İ", 8, 0)
def test_any_string_gives_slices_of_the_context(family, question, context, top_k, seed):
    options = AnswerOptions(top_k=top_k, max_length=64, overlap=8, truncate_question=True)
    try:
        pairs = make_encoder(family).encode([question], [context], options)
    except InputError:
        return
    starts, ends = random_logits(pairs, seed)
    (prediction,) = decode_squad(pairs, starts, ends, options, threshold=0.0)
    places = [(answer.start, answer.end) for answer in prediction.answers]
    assert len(set(places)) == len(places) <= top_k
    assert [answer.score for answer in prediction.answers] == sorted(
        (answer.score for answer in prediction.answers), reverse=True
    )
    for answer in prediction.answers:
        assert answer.text
        assert context[answer.start : answer.end] == answer.text
    assert prediction.answer is None or prediction.answer == prediction.answers[0]
    assert prediction.confidence is None
    assert math.isfinite(prediction.null_score)


def test_a_megabyte_of_text(family):
    context = (CORPUS[1] + " ") * (1_000_000 // (len(CORPUS[1]) + 1))
    options = AnswerOptions(top_k=3)
    pairs = make_encoder(family).encode([QUESTION], [context], options)
    starts, ends = random_logits(pairs, 0)
    (prediction,) = decode_squad(pairs, starts, ends, options, threshold=0.0)
    assert len(prediction.answers) == 3
    for answer in prediction.answers:
        assert context[answer.start : answer.end] == answer.text
