"""The evaluation set is what its README says: counts, offsets, kinds, long passages, both Unicode forms."""

import json
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from tokenizers import Tokenizer

from support.paths import ROOT

DATA = ROOT / "export" / "data" / "evaluation"
TOKENIZER = ROOT / "models" / "minilm-l6-squad2" / "tokenizer.json"
WINDOW = 384
KINDS = frozenset(
    (
        *("encyclopedia", "news", "contract", "manual", "faq", "chat", "table"),
        *("instructions", "abstract", "email", "accents", "cjk", "emoji", "technical"),
    )
)


class Record(NamedTuple):
    """One question with where it stands."""

    kind: str
    context: str
    qa: dict[str, Any]


def normalized(text: str) -> str:
    """The official evaluator's normal form of an answer."""
    text = "".join(char for char in text.lower() if char not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


@pytest.fixture(scope="module")
def articles() -> list[dict[str, Any]]:
    document = json.loads((DATA / "fastspan-eval.json").read_text(encoding="utf-8"))
    assert document["version"] == "v2.0"
    data: list[dict[str, Any]] = document["data"]
    return data


@pytest.fixture(scope="module")
def records(articles: list[dict[str, Any]]) -> list[Record]:
    return [
        Record(article["kind"], paragraph["context"], qa)
        for article in articles
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    ]


@pytest.fixture(scope="module")
def contexts(articles: list[dict[str, Any]]) -> list[str]:
    return [paragraph["context"] for article in articles for paragraph in article["paragraphs"]]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def labelled_spans(records: list[Record]) -> Iterator[tuple[Record, dict[str, Any]]]:
    for record in records:
        for span in [*record.qa["answers"], *record.qa.get("plausible_answers", [])]:
            yield record, span


def test_is_large_enough_and_a_third_is_unanswerable(records: list[Record], contexts: list[str]) -> None:
    unanswerable = sum(record.qa["is_impossible"] for record in records)
    assert len(contexts) >= 48
    assert len(records) >= 150
    assert 0.33 <= unanswerable / len(records) <= 0.40


def test_every_kind_has_several_passages_and_both_sorts_of_question(
    articles: list[dict[str, Any]], records: list[Record]
) -> None:
    assert {article["kind"] for article in articles} == KINDS
    assert min(Counter(article["kind"] for article in articles).values()) >= 3
    for impossible in (False, True):
        per_kind = Counter(r.kind for r in records if r.qa["is_impossible"] is impossible)
        assert min(per_kind[kind] for kind in KINDS) >= 5


def test_ids_are_unique_and_name_kind_passage_and_question(articles: list[dict[str, Any]]) -> None:
    expected, found = [], []
    passage_of_kind: Counter[str] = Counter()
    for article in articles:
        for paragraph in article["paragraphs"]:
            passage_of_kind[article["kind"]] += 1
            prefix = f"fs-{article['kind']}-{passage_of_kind[article['kind']]:02d}"
            expected += [f"{prefix}-q{number}" for number in range(1, len(paragraph["qas"]) + 1)]
            found += [qa["id"] for qa in paragraph["qas"]]
    assert found == expected
    assert len(set(found)) == len(found)


def test_every_span_stands_at_its_offset(records: list[Record]) -> None:
    for record, span in labelled_spans(records):
        start, text = span["answer_start"], span["text"]
        assert text == text.strip() != "", record.qa["id"]
        assert start >= 0, record.qa["id"]
        assert record.context[start : start + len(text)] == text, record.qa["id"]


def test_no_span_cuts_a_word_or_a_character_sequence(records: list[Record]) -> None:
    """A span starts and ends between words, and never before a combining mark or beside a joiner."""
    glue = {"\u200d", "\ufe0f", "\u20e3"} | {chr(code) for code in range(0x1F3FB, 0x1F400)}
    for record, span in labelled_spans(records):
        start, end = span["answer_start"], span["answer_start"] + len(span["text"])
        before, after = record.context[start - 1 : start], record.context[end : end + 1]
        assert not (before.isalnum() and record.context[start].isalnum()), record.qa["id"]
        assert not (after.isalnum() and record.context[end - 1].isalnum()), record.qa["id"]
        for char in (record.context[start], after):
            assert not (char and (unicodedata.combining(char) or char in glue)), record.qa["id"]
        assert before != "\u200d", record.qa["id"]


def test_answerable_questions_have_distinct_answers_and_the_others_only_plausible_ones(
    records: list[Record],
) -> None:
    for record in records:
        qa = record.qa
        forms = [normalized(answer["text"]) for answer in qa["answers"]]
        assert all(forms), qa["id"]
        assert len(set(forms)) == len(forms), qa["id"]
        if qa["is_impossible"]:
            assert not forms, qa["id"]
            assert qa["plausible_answers"], qa["id"]
        else:
            assert 1 <= len(forms) <= 3, qa["id"]
            assert "plausible_answers" not in qa, qa["id"]


def test_questions_and_passages_are_neither_blank_nor_repeated(
    records: list[Record], contexts: list[str]
) -> None:
    questions = [record.qa["question"] for record in records]
    assert all(question == question.strip() != "" for question in questions)
    assert all(context == context.strip() != "" for context in contexts)

    def folded(text: str) -> str:
        return " ".join(unicodedata.normalize("NFC", text).casefold().split())

    assert len({folded(question) for question in questions}) == len(questions)
    assert len({folded(context) for context in contexts}) == len(contexts)


def test_long_passages_hold_answers_and_plausible_spans_past_the_first_window(
    records: list[Record], contexts: list[str], tokenizer: Tokenizer
) -> None:
    encodings = {context: tokenizer.encode(context, add_special_tokens=False) for context in contexts}

    def all_past_first_window(context: str, spans: list[dict[str, Any]]) -> bool:
        """Without question and special tokens: with them the first window ends even earlier."""
        tokens = [encodings[context].char_to_token(span["answer_start"]) for span in spans]
        return all(token is not None and token >= WINDOW for token in tokens)

    answerable = [r for r in records if not r.qa["is_impossible"]]
    unanswerable = [r for r in records if r.qa["is_impossible"]]
    assert sum(len(encoding.ids) > WINDOW for encoding in encodings.values()) == 7
    assert sum(all_past_first_window(r.context, r.qa["answers"]) for r in answerable) == 33
    assert sum(all_past_first_window(r.context, r.qa["plausible_answers"]) for r in unanswerable) >= 5


def test_holds_both_unicode_forms_and_sequences_of_several_code_points(
    records: list[Record], contexts: list[str]
) -> None:
    def accented(text: str) -> bool:
        return unicodedata.normalize("NFD", text) != text

    def decomposed(text: str) -> bool:
        return unicodedata.normalize("NFC", text) != text

    assert sum(accented(context) and not decomposed(context) for context in contexts) >= 5
    assert any(decomposed(context) and not accented(context) for context in contexts)
    assert any(decomposed(context) and accented(context) for context in contexts)
    assert any(decomposed(r.qa["question"]) and not decomposed(r.context) for r in records)
    assert any(decomposed(r.context) and accented(r.qa["question"]) for r in records)

    everything = "".join(contexts)
    for sequence in ("\u200d", "\ufe0f", "\u20e3", "\U0001f3fd"):
        assert sequence in everything
    answers = [answer["text"] for record in records for answer in record.qa["answers"]]
    assert any(decomposed(answer) for answer in answers)
    assert any(unicodedata.combining(answer[-1]) for answer in answers)
    assert any("CJK UNIFIED" in unicodedata.name(answer[0], "") for answer in answers)


def test_readme_states_the_counts(articles: list[dict[str, Any]], records: list[Record]) -> None:
    readme = (DATA / "README.md").read_text(encoding="utf-8")
    rows = {
        kind: tuple(map(int, counts))
        for kind, *counts in re.findall(r"^\| `?(\w+)`? \| (\d+) \| (\d+) \| (\d+) \|", readme, re.MULTILINE)
    }

    def counts(kinds: frozenset[str]) -> tuple[int, int, int]:
        passages = sum(len(article["paragraphs"]) for article in articles if article["kind"] in kinds)
        sorts = Counter(bool(r.qa["is_impossible"]) for r in records if r.kind in kinds)
        return passages, sorts[False], sorts[True]

    assert rows == {"total": counts(KINDS)} | {kind: counts(frozenset({kind})) for kind in KINDS}
    assert f"{len(records)} questions" in readme
