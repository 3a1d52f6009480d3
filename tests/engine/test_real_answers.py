"""The bundled model answers real questions as PyTorch's logits say, from text to span."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fastspan import QuestionAnswerer
from fastspan.decoding.squad import decode_squad
from fastspan.text.encoder import Encoder
from support.paths import MINILM
from support.questions.real_questions import WINDOWS, real_windows
from support.references.golden import Golden


@pytest.mark.parametrize("max_length", WINDOWS)
def test_answers_are_those_of_pytorchs_logits(
    real_golden: Golden, bundled_bundle: Path, max_length: int
) -> None:
    real = real_windows(real_golden, max_length)
    options = replace(real.options, top_k=3)
    encoder = Encoder.from_folder(MINILM, segment_ids=True, max_positions=512)
    pairs = encoder.encode(real.questions, real.contexts, options)
    with QuestionAnswerer.load(bundled_bundle, variant="fp32", profile=False) as qa:
        threshold = qa.info().no_answer_threshold
        expected = decode_squad(pairs, real.starts, real.ends, options, threshold=threshold)
        asked = {"top_k": 3, "max_length": max_length, "overlap": options.overlap}
        for question, context, wanted in zip(real.questions, real.contexts, expected, strict=True):
            found = qa.answer(question, context, **asked)
            # Logits were kept to a thousandth, and a score is the sum of two.
            assert found.null_score == pytest.approx(wanted.null_score, abs=0.002)
            assert [a.score for a in found.answers] == pytest.approx(
                [a.score for a in wanted.answers], abs=0.002
            )
            assert found.answers[0].text == wanted.answers[0].text
            if abs(wanted.null_score - wanted.best_span_score - threshold) > 0.004:
                assert (found.answer is None) == (wanted.answer is None)
