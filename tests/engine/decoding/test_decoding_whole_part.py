"""The squad decoding against run_squad's post-processing, as transformers keeps it, on many questions.

The windows are the bundled model's own; the logits are drawn at random, so that no model has to run and spans
begin and end anywhere, in the middle of words too.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from fastspan.decoding.squad import decode_squad
from fastspan.options import AnswerOptions
from fastspan.text.encoder import Encoder
from support.paths import MINILM, SQUAD_PART
from support.questions.real_questions import EVALUATION, paragraphs, reference_tokenizer

OPTIONS = AnswerOptions(max_length=384, overlap=128)


def words_of(context):
    """Split as ``SquadExample`` does; return the words, and for each character the word it belongs to."""
    words, word_at, before = [], [], " "
    for character in context:
        # \u202f is the one blank beyond ASCII's that run_squad knows.
        if character not in " \t\r\n\u202f":
            if before in " \t\r\n\u202f":
                words.append("")
            words[-1] += character
        word_at.append(len(words) - 1)
        before = character
    return words, word_at


def features_of(question, context, pair, word_at):
    """run_squad's features of a question, from transformers' tokenizer."""
    from transformers.data.processors import squad as processor

    tokenizer = reference_tokenizer()
    encoded = tokenizer(
        question,
        context,
        truncation="only_second",
        max_length=OPTIONS.max_length,
        stride=OPTIONS.overlap,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    assert encoded["input_ids"] == [window.input_ids.tolist() for window in pair.windows]
    inside = [[k for k, s in enumerate(encoded.sequence_ids(i)) if s == 1] for i in range(len(pair.windows))]
    step = len(inside[0]) - OPTIONS.overlap
    spans = [{"start": i * step, "length": len(tokens)} for i, tokens in enumerate(inside)]
    return [
        SimpleNamespace(
            tokens=tokenizer.convert_ids_to_tokens(encoded["input_ids"][i]),
            token_to_orig_map={k: word_at[encoded["offset_mapping"][i][k][0]] for k in tokens},
            token_is_max_context={
                k: processor._new_check_is_max_context(spans, i, spans[i]["start"] + n)
                for n, k in enumerate(tokens)
            },
        )
        for i, tokens in enumerate(inside)
    ]


def run_squad(texts, pairs, starts, ends):
    """Return the text that transformers answers to each question with, ``""`` for none."""
    from transformers.data.metrics import squad_metrics as metrics

    examples, features, results = [], [], []
    for n, (question, context) in enumerate(texts):
        words, word_at = words_of(context)
        examples.append(SimpleNamespace(qas_id=n, doc_tokens=words))
        for i, feature in enumerate(features_of(question, context, pairs[n], word_at)):
            feature.example_index, feature.unique_id = n, len(features)
            features.append(feature)
            results.append(
                SimpleNamespace(
                    unique_id=feature.unique_id,
                    start_logits=starts[n][i].tolist(),
                    end_logits=ends[n][i].tolist(),
                )
            )
    # BERT's own script joins word pieces like this; the tokenizer leaves the sign before a first one.
    joined = SimpleNamespace(
        convert_tokens_to_string=lambda tokens: " ".join(tokens).replace(" ##", "").replace("##", "")
    )
    settings = {
        "n_best_size": OPTIONS.n_best,
        "max_answer_length": OPTIONS.span_tokens,
        "do_lower_case": True,
        "version_2_with_negative": True,
        "null_score_diff_threshold": 0.0,
        "output_prediction_file": None,
        "output_nbest_file": None,
        "output_null_log_odds_file": None,
        "verbose_logging": False,
    }
    found = metrics.compute_predictions_logits(examples, features, results, tokenizer=joined, **settings)
    return [found[n] for n in range(len(texts))]


def drawn(pairs, seed=0):
    """Logits of every window, in steps that every machine draws alike."""
    draw = np.random.RandomState(seed)

    def logits(window):
        row = draw.normal(scale=3, size=len(window.input_ids))
        row[0] = draw.normal(7, 2)  # about as good as the best spans
        return (np.round(row * 1024) / 1024).astype(np.float32)

    return tuple([[logits(window) for window in pair.windows] for pair in pairs] for _ in range(2))


@pytest.mark.parametrize(
    ("path", "count", "guessed"),
    [(EVALUATION, 367, 15), pytest.param(SQUAD_PART, 2828, 6, marks=pytest.mark.reference)],
)
def test_every_question_gets_the_text_that_run_squad_gives(golden, path, count, guessed):
    texts = [(question, context) for context, questions in paragraphs(path) for question in questions]
    encoder = Encoder.from_folder(MINILM, segment_ids=True, max_positions=512)
    pairs = encoder.encode([question for question, _ in texts], [context for _, context in texts], OPTIONS)
    starts, ends = drawn(pairs)
    given = [
        " ".join(prediction.answer.text.split()) if prediction.answer else ""
        for prediction in decode_squad(pairs, starts, ends, OPTIONS, threshold=0.0)
    ]
    if path == SQUAD_PART:
        expected = run_squad(texts, pairs, starts, ends)
    else:
        expected = golden.value("the project's own questions", lambda: run_squad(texts, pairs, starts, ends))
    assert len(given) == len(expected) == count
    assert 0.3 < sum(not text for text in given) / len(given) < 0.7
    assert sum(len(pair.windows) > 1 for pair in pairs) > 20
    apart = [(ours, theirs) for ours, theirs in zip(given, expected, strict=True) if ours != theirs]
    # run_squad guesses which letters of the words the tokens were. Where letters lost an accent or ideographs
    # are among them it may not find them, and then it answers with all of the words.
    assert len(apart) <= guessed
    for ours, theirs in apart:
        assert ours
        assert ours in theirs
        assert not theirs.isascii()
        assert len(theirs.split()) == len(ours.split())
