"""The pipeline adapter in one process with a transformers that has no question-answering pipeline."""

from __future__ import annotations

import pytest

from fastspan import InputError
from fastspan.adapters.transformers_pipeline import pipeline
from support.paths import MINILM

transformers = pytest.importorskip("transformers", minversion="5.3")

ONE = {"question": "Who led the raiders?", "context": "The raiders were led by Rollo in the year 911."}


def test_transformers_has_no_such_pipeline_any_more():
    with pytest.raises(Exception, match="question-answering"):
        transformers.pipeline("question-answering", model=str(MINILM))


def test_the_adapter_answers_beside_it(bundled_bundle):
    with pipeline("question-answering", model=bundled_bundle, device=-1) as nlp:
        assert nlp(**ONE)["answer"] == "Rollo"
        assert [answer["answer"] for answer in nlp([ONE, ONE])] == ["Rollo", "Rollo"]


def test_its_tokenizer_objects_are_compared(bundled_bundle, tmp_path):
    own = transformers.AutoTokenizer.from_pretrained(MINILM)
    with pipeline("question-answering", model=bundled_bundle, tokenizer=own, device="cpu") as nlp:
        assert nlp(**ONE)["answer"] == "Rollo"
    cased = transformers.AutoTokenizer.from_pretrained(MINILM, do_lower_case=False)
    if cased("Rollo")["input_ids"] != own("Rollo")["input_ids"]:
        with pytest.raises(InputError, match="makes other tokens"):
            pipeline("question-answering", model=bundled_bundle, tokenizer=cased)
    own.add_tokens(["raiders were led"])
    with pytest.raises(InputError, match="makes other tokens"):
        pipeline("question-answering", model=bundled_bundle, tokenizer=own)
