"""The calibration texts are well formed, fit one window each, and share nothing with the evaluation set."""

from __future__ import annotations

import json
import re
import unicodedata

import pytest

from fastspan.options import AnswerOptions
from fastspan.text.encoder import Encoder
from support.paths import ROOT

TEXTS = ROOT / "export" / "data" / "calibration.jsonl"
EVALUATION = ROOT / "export" / "data" / "evaluation" / "fastspan-eval.json"
MODEL = ROOT / "models" / "minilm-l6-squad2"
RUN = 8  # words in a row: longer than any set phrase, shorter than a copied sentence


@pytest.fixture(scope="module")
def records() -> list[dict[str, str]]:
    # Split as the exporter does: a line separator of Unicode inside a text would break its record.
    return [json.loads(line) for line in TEXTS.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def evaluation() -> tuple[list[str], list[str]]:
    """The questions and the contexts of the evaluation set."""
    articles = json.loads(EVALUATION.read_text(encoding="utf-8"))["data"]
    paragraphs = [paragraph for article in articles for paragraph in article["paragraphs"]]
    questions = [qa["question"] for paragraph in paragraphs for qa in paragraph["qas"]]
    return questions, [paragraph["context"] for paragraph in paragraphs]


def words(text: str) -> list[str]:
    return re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())


def runs(text: str) -> set[tuple[str, ...]]:
    found = words(text)
    return {tuple(found[i : i + RUN]) for i in range(len(found) - RUN + 1)}


def test_there_are_64_records_of_a_question_and_a_context(records):
    assert len(records) == 64
    for record in records:
        assert list(record) == ["question", "context"]
        assert all(isinstance(text, str) and text == text.strip() != "" for text in record.values())


def test_the_file_is_plain_utf8_with_one_newline_a_record():
    raw = TEXTS.read_bytes()
    assert raw.endswith(b"}\n")
    assert raw.count(b"\n") == 64
    assert not any(control in raw for control in (b"\r", b"\0", b"\xef\xbb\xbf"))
    assert b"\\u" not in raw, "text is stored as it is, not as escapes"


@pytest.mark.parametrize("key", ["question", "context"])
def test_no_text_occurs_twice(records, key):
    assert len({" ".join(words(record[key])) for record in records}) == len(records)


def test_lengths_vary_and_a_third_of_the_contexts_is_long(records):
    lengths = [len(record["context"].split()) for record in records]
    assert min(lengths) >= 40
    assert max(lengths) <= 250
    assert sum(length >= 200 for length in lengths) == 21


def test_every_half_of_the_file_has_long_contexts_and_other_scripts(records):
    for half in (records[:32], records[32:]):
        contexts = [record["context"] for record in half]
        assert sum(len(context.split()) >= 200 for context in contexts) >= 8
        names = [unicodedata.name(char, "") for context in contexts for char in context]
        assert any(name.startswith(("CJK", "HANGUL", "HIRAGANA")) for name in names)
        assert any(unicodedata.category(char) == "So" for context in contexts for char in context)


def test_nothing_is_shared_with_the_evaluation_set(records, evaluation):
    questions, contexts = evaluation
    assert questions and contexts
    seen = {run for text in (*questions, *contexts) for run in runs(text)}
    for record in records:
        assert not runs(record["context"]) & seen, record["question"]
        assert not runs(record["question"]) & seen, record["question"]
    asked = {" ".join(words(question)) for question in questions}
    assert not asked & {" ".join(words(record["question"])) for record in records}


def test_every_record_fits_one_window_of_384_tokens(records):
    options = AnswerOptions(max_length=384)
    encoder = Encoder.from_folder(MODEL, segment_ids=True, max_positions=512)
    pairs = encoder.encode([r["question"] for r in records], [r["context"] for r in records], options)
    for record, pair in zip(records, pairs, strict=True):
        assert len(pair.windows) == 1, record["question"]
        assert len(pair.windows[0].input_ids) <= 384
        assert pair.windows[0].count == len(pair.context_encoding.ids), "the window holds the whole context"
