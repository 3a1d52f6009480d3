"""Contexts that stay tokenized: which are kept, for how long, and that answers are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from fastspan import QuestionAnswerer
from fastspan.serving import Service
from fastspan.serving.hosted_bundles.recent_contexts import RecentContexts
from fastspan.text.encoder import EncodedPair
from support.serving.http_service import CONTEXT, LONG_CONTEXT, ask, serving


def pair(context: str) -> EncodedPair:
    return EncodedPair(context, (), object(), None)


def test_what_was_not_used_for_longest_is_dropped_first() -> None:
    recent = RecentContexts(characters=100)

    def kept() -> list[str]:
        return [text for text in ("aaaa", "bbbb", "cccc") if text in recent._kept]

    recent.keep(pair("aaaa"))
    recent.keep(pair("bbbb"))
    found = recent.get("aaaa")
    assert found is not None and found.context == "aaaa"
    recent.keep(pair("cccc"))
    assert kept() == ["aaaa", "cccc"]
    assert recent.get("bbbb") is None
    # Kept twice, it counts once.
    recent.keep(pair("cccc"))
    assert kept() == ["aaaa", "cccc"]


def test_many_contexts_of_a_letter_take_no_more_than_few_long_ones() -> None:
    recent = RecentContexts(characters=1000)
    for number in range(100):
        recent.keep(pair(chr(0x4E00 + number)))
    assert len(recent._kept) < 30


def test_what_is_kept_holds_no_question(tiny_bundle: Path) -> None:
    recent = RecentContexts()
    with QuestionAnswerer.load(tiny_bundle, variant="fp32") as qa:
        (encoded,) = qa.stages.encode([("who built the stone bridge?", CONTEXT)], qa.stages.options(None, {}))
        recent.keep(encoded)
        found = recent.get(CONTEXT)
    assert found is not None and found.windows == () and found.context_encoding is encoded.context_encoding


def test_a_context_that_would_drive_out_many_is_not_kept() -> None:
    recent = RecentContexts(characters=500_000)
    recent.keep(pair("short"))
    recent.keep(pair("x" * 50_001))
    assert recent.get("x" * 50_001) is None
    assert recent.get("short")


def test_a_context_is_tokenized_once_for_many_requests(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with QuestionAnswerer.load(tiny_bundle, variant="fp32", optimize_for="throughput") as qa:
        questions = ["who built the stone bridge?", "what was blue?", "who built the stone bridge?"]
        asked = [(question, context) for context in (CONTEXT, LONG_CONTEXT) for question in questions]
        wanted = [qa.answer(*texts).to_dict() for texts in asked]
        tokenized: list[str] = []
        encoder = cast(Any, qa.stages.loaded.encoder)
        encode_texts = encoder._encode_texts
        monkeypatch.setattr(
            type(encoder),
            "_encode_texts",
            lambda _, texts, between: tokenized.extend(texts) or encode_texts(texts, between),
        )
        with serving(Service(qa)) as port:
            found = [ask(port, "POST", "/answer", {"question": q, "context": c}) for q, c in asked]
    assert [reply["answer"] for _, reply in found] == [prediction["answer"] for prediction in wanted]
    assert [status for status, _ in found] == [200] * len(asked)
    assert tokenized.count(CONTEXT) == tokenized.count(LONG_CONTEXT) == 1
