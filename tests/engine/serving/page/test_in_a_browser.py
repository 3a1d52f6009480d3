"""The page in headless Chromium: ask, look, move the threshold, with keys alone, narrow and wide."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastspan import QuestionAnswerer
from support.serving.browser import Page, browsing
from support.serving.http_service import CONTEXT, QUESTION, raw, serving

pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from fastspan.serving import Service, Settings

READY = (
    "document.querySelectorAll('#examples button').length > 0 && document.querySelector('#model') !== null"
)
SHOWN = "!document.querySelector('#result').hidden && !document.querySelector('#ask').disabled"
EMOJI = "🌋🧗‍♀️ 𝒢𝓇 the stone bridge 🔥 in the year of snow."


@pytest.fixture(scope="module")
def qa(tiny_bundle: Path) -> Iterator[QuestionAnswerer]:
    with QuestionAnswerer.load(tiny_bundle, variant="fp32", provider="cpu", threads=1) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def port(qa: QuestionAnswerer) -> Iterator[int]:
    with serving(Service({"small": qa, "other": qa})) as port:
        yield port


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browsing(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture
def page(tab: Page, port: int) -> Iterator[Page]:
    tab.complaints.clear()
    tab.shape(1400)
    tab.open(f"http://127.0.0.1:{port}/")
    tab.until(f"{READY} && !document.querySelector('#bundle-field').hidden")
    yield tab
    assert tab.complaints == []


def fill(page: Page, context: str, question: str = QUESTION) -> None:
    page.run(f"document.querySelector('#passage').value = {json.dumps(context)}; 0")
    page.run(f"document.querySelector('#question').value = {json.dumps(question)}; 0")


def asked(page: Page, context: str, question: str = QUESTION) -> None:
    fill(page, context, question)
    page.run("document.querySelector('#ask').click()")
    page.until(SHOWN)


def text(page: Page, selector: str) -> str:
    return str(page.run(f"document.querySelector({selector!r}).textContent"))


def prediction(port: int, context: str) -> dict[str, object]:
    body = {"question": QUESTION, "context": context, "top_k": 5}
    return json.loads(raw(port, "POST", "/answer", body)[2])  # type: ignore[no-any-return]


@pytest.mark.parametrize("context", [CONTEXT, EMOJI])
def test_spans_are_marked_where_the_service_found_them(page: Page, port: int, context: str) -> None:
    asked(page, context)
    answers = prediction(port, context)["answers"]
    assert isinstance(answers, list)
    rows = page.run("document.querySelectorAll('#spans button').length")
    assert rows == len(answers) > 1
    for index, answer in enumerate(answers):
        page.run(f"document.querySelectorAll('#spans button')[{index}].click()")
        assert text(page, "#reading mark") == answer["text"]
        # The texts around it are what is left of the passage.
        assert text(page, "#reading") == context
        before = page.run("document.querySelector('#reading').firstChild.textContent")
        assert len(before) == answer["start"]
    assert page.run("document.querySelectorAll('#spans button[aria-pressed=true]').length") == 1


def test_offsets_become_utf_16_units(page: Page) -> None:
    module = f"import('/page/offsets.js').then((m) => {{ const text = {json.dumps(EMOJI)}; return RESULT; }})"
    for start, end in [(0, 0), (0, 1), (1, 3), (4, 9), (len(EMOJI) - 1, len(EMOJI)), (len(EMOJI),) * 2]:
        cut = module.replace("RESULT", f"text.slice(...m.toUnits(text, {start}, {end}))")
        assert page.run(cut) == EMOJI[start:end]
    assert page.run(module.replace("RESULT", "m.countPoints(text)")) == len(EMOJI)


def test_the_threshold_decides_without_another_request(page: Page, port: int) -> None:
    asked(page, CONTEXT)
    found = prediction(port, CONTEXT)
    best = found["answers"][0]["text"]  # type: ignore[index]
    sent = page.run("performance.getEntriesByType('resource').length")
    for where, answered in (("max", True), ("min", False), ("max", True)):
        page.run(
            "{const s = document.querySelector('#threshold'); s.value = s[WHERE];"
            "s.dispatchEvent(new Event('input'));}".replace("WHERE", json.dumps(where))
        )
        assert (text(page, "#answer") == best) is answered
        assert (
            page.run("document.querySelector('#reading mark').classList.contains('refused')") is not answered
        )
        assert text(page, "#status") == (f"Answer: {best}" if answered else "No answer")
        assert "at the bundle" in text(page, "#confidence") or "not calibrated" in text(page, "#confidence")
    page.run("document.querySelector('#reset').click()")
    assert page.run("document.querySelector('#reset').disabled")
    assert page.run("performance.getEntriesByType('resource').length") == sent


def test_shares_and_decision_are_those_of_the_scores(page: Page) -> None:
    asked_of = {"answers": [{"score": 2.0}, {"score": 1.0}], "null_score": 1.0, "best_span_score": 2.0}
    module = (
        f"import('/page/decision.js').then((m) => {{ const p = {json.dumps(asked_of)}; return RESULT; }})"
    )
    shares = page.run(module.replace("RESULT", "m.shares(p)"))
    assert shares["spans"][0] == pytest.approx(0.576117, abs=1e-5)
    assert shares["none"] == pytest.approx(0.211942, abs=1e-5)
    # The margin is -1: no answer where it exceeds the threshold, and not where it equals it.
    assert page.run(module.replace("RESULT", "[-1.01, -1, 0].map((t) => m.answered(p, t))")) == [
        False,
        True,
        True,
    ]
    none = "{answers: [], null_score: 1, best_span_score: null}"
    assert page.run(f"import('/page/decision.js').then((m) => m.answered({none}, 1e9))") is False


def test_keys_alone(page: Page) -> None:
    fill(page, CONTEXT)
    page.run("document.querySelector('#passage').focus()")
    page.press("Enter", "\r", modifiers=2)
    page.until(SHOWN)
    page.press("Escape")
    assert page.run("document.activeElement.id") == "passage"
    page.run("document.querySelector('#question').focus()")
    page.press("Enter", "\r")
    page.until(f"{SHOWN} && document.querySelector('#passage').hidden")
    page.run("document.querySelector('#threshold').focus()")
    before = page.run("document.querySelector('#threshold').valueAsNumber")
    page.press("ArrowLeft")
    assert page.run("document.querySelector('#threshold').valueAsNumber") < before
    assert not page.run("document.querySelector('#reset').disabled")


def test_another_bundle_is_asked_and_an_edit_takes_the_answer_away(page: Page) -> None:
    asked(page, CONTEXT)
    page.run(
        "{const chosen = document.querySelector('#bundle'); chosen.value = 'other';"
        "chosen.dispatchEvent(new Event('change'));}"
    )
    page.until(
        "performance.getEntriesByType('resource').some((e) => e.name.endsWith('/bundles/other/answer'))"
    )
    page.until(SHOWN)
    page.run("document.querySelector('#edit').click()")
    page.run("document.querySelector('#passage').dispatchEvent(new Event('input'))")
    assert page.run("document.querySelector('#result').hidden")


def test_what_is_missing_or_refused_is_said(page: Page) -> None:
    page.run("document.querySelector('#ask').click()")
    assert "no passage" in text(page, "#error")
    page.run("document.querySelector('#passage').value = 'x'; document.querySelector('#ask').click()")
    assert "no question" in text(page, "#error")
    page.run("import('/page/view.js').then((m) => m.showError('<b>x</b>'))")
    assert text(page, "#error") == "<b>x</b>"


def test_a_file_is_taken_as_the_passage(page: Page) -> None:
    take = (
        "{const data = new DataTransfer(); data.items.add(new File([CONTENT], 'notes.txt'));"
        "const input = document.querySelector('#file'); input.files = data.files;"
        "input.dispatchEvent(new Event('change'));}"
    )
    page.run(take.replace("CONTENT", json.dumps(EMOJI)))
    page.until(f"document.querySelector('#passage').value === {json.dumps(EMOJI)}")
    assert text(page, "#counted") == f"{len(EMOJI)} characters"
    page.run(take.replace("CONTENT", "new Uint8Array([255, 254, 1])"))
    page.until("!document.querySelector('#error').hidden")
    assert text(page, "#error") == "notes.txt is not text in UTF-8."
    assert page.run("document.querySelector('#passage').value") == EMOJI


def test_a_key_is_asked_for_where_the_service_needs_one(tab: Page, qa: QuestionAnswerer) -> None:
    with serving(Service(qa, settings=Settings(api_keys=("secret",)))) as port:
        tab.open(f"http://127.0.0.1:{port}/")
        tab.until(f"{READY} && document.querySelector('#model').textContent !== ''")
        fill(tab, CONTEXT)
        tab.run("document.querySelector('#ask').click()")
        tab.until("!document.querySelector('#key-field').hidden")
        assert tab.run("document.activeElement.id") == "key"
        tab.run("document.querySelector('#key').value = 'secret'; document.querySelector('#ask').click()")
        tab.until(SHOWN)
        assert tab.run("document.querySelector('#error').hidden")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_scrolls_sideways_and_the_theme_is_the_systems(page: Page, width: int, dark: bool) -> None:
    page.shape(width, dark=dark)
    asked(page, (CONTEXT + " ") * 8)
    assert page.run("document.documentElement.scrollWidth") <= width
    assert page.run("document.querySelector('#theme').getAttribute('aria-pressed')") == str(dark).lower()
    ground = "getComputedStyle(document.body).backgroundColor"
    before = page.run(ground)
    page.run("document.querySelector('#theme').click()")
    assert page.run(ground) != before
    page.run("localStorage.clear()")


def test_the_page_says_where_the_time_went(page: Page) -> None:
    asked(page, CONTEXT)
    rows = page.run("[...document.querySelectorAll('#legend li')].map((row) => row.className)")
    assert rows == ["encode", "queue", "run", "decode", "rest"]
    assert all(
        row.endswith(" ms")
        for row in page.run("[...document.querySelectorAll('#legend li')].map((r) => r.textContent)")
    )
