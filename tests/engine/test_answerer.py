"""The answerer from outside: text in, answers out, and a sentence for everything that cannot be answered."""

from __future__ import annotations

import gc
import json
import random
import shutil
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastspan import (
    AnswerOptions,
    BundleError,
    Closed,
    DeadlineExceeded,
    InferenceError,
    InputError,
    LoadOptions,
    Prediction,
    QuestionAnswerer,
    TooManyWindows,
)
from fastspan.loading import load_bundle
from fastspan.runtime.session import Session
from fastspan.text.encoder import Window
from support.models.tiny_checkpoint import WORDS

QUESTION = "who built the tower"
CONTEXT = "the norse leader rollo built the stone tower by the river in the year of snow"


def words(count: int, seed: int = 0) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=count))


def pairs(count: int, longest: int = 60) -> list[tuple[str, str]]:
    return [(f"{QUESTION} {words(i % 5, i)}", words(i * 7 % longest, i)) for i in range(count)]


@pytest.fixture(scope="module")
def qa(tiny_bundle: Path) -> QuestionAnswerer:
    return QuestionAnswerer.load(tiny_bundle, variant="fp32")


@pytest.fixture(scope="module", params=["latency", "throughput"])
def either(request: pytest.FixtureRequest, tiny_bundle: Path) -> Iterator[QuestionAnswerer]:
    with QuestionAnswerer.load(
        tiny_bundle, variant="fp32", optimize_for=request.param, threads=2
    ) as answerer:
        yield answerer


# --- One question. ---


def test_every_answer_is_a_slice_of_the_context(qa: QuestionAnswerer) -> None:
    prediction = qa.answer(QUESTION, CONTEXT, top_k=5)
    assert 1 < len(prediction.answers) <= 5
    assert len({(answer.start, answer.end) for answer in prediction.answers}) == len(prediction.answers)
    assert [a.score for a in prediction.answers] == sorted(
        (a.score for a in prediction.answers), reverse=True
    )
    for answer in prediction.answers:
        assert CONTEXT[answer.start : answer.end] == answer.text
    assert prediction.answer in (None, prediction.answers[0])


def test_an_empty_context_answers_nothing(either: QuestionAnswerer) -> None:
    for context in ("", " \n "):
        prediction = either.answer(QUESTION, context)
        assert prediction.answer is None
        assert prediction.answers == ()
        assert prediction.best_span_score == -np.inf
        data = json.loads(json.dumps(prediction.to_dict(), allow_nan=False))
        assert data["best_span_score"] is None
        assert data["null_score"] == prediction.null_score
        assert np.isfinite(prediction.null_score)


def test_an_answer_is_found_in_whichever_window_holds_it(bundled_bundle: Path) -> None:
    filler = "The bakery sells bread and cakes from early in the morning until late in the afternoon. " * 25
    fact = "Marie Hansen was the architect of the lighthouse."
    with QuestionAnswerer.load(bundled_bundle, variant="fp32") as qa:
        for context in (fact + filler, filler + fact + filler, filler + fact):
            prediction = qa.answer("Who was the architect of the lighthouse?", context)
            assert prediction.answer is not None
            assert prediction.answer.text == "Marie Hansen"
            assert prediction.answer.start == context.index("Marie Hansen")
        assert qa.answer("Who was the architect of the lighthouse?", filler).answer is None


def test_a_long_context_is_read_to_its_end(qa: QuestionAnswerer) -> None:
    context = words(900)
    prediction = qa.answer(QUESTION, context, top_k=2000, n_best=384, max_answer_length=1)
    assert {answer.end for answer in prediction.answers} >= {len(context)}
    assert len({answer.start for answer in prediction.answers}) > 384


def test_options_of_a_call(qa: QuestionAnswerer) -> None:
    options = AnswerOptions(top_k=3, max_length=40, overlap=10)
    context = words(200)
    assert qa.answer(QUESTION, context, options=options) == qa.answer(
        QUESTION, context, top_k=3, max_length=40, overlap=10
    )
    assert len(qa.answer(QUESTION, context, options=options, top_k=1).answers) == 1
    assert qa.answer(QUESTION, context, no_answer_threshold=-np.inf).answer is None
    assert qa.answer(QUESTION, context, no_answer_threshold=np.inf).answer is not None
    both = {kind: qa.answer(QUESTION, context, decoding=kind) for kind in ("squad", "pipeline")}
    assert both["squad"] != both["pipeline"]
    one_word = qa.answer(QUESTION, context, max_answer_length=1, top_k=10)
    assert all(" " not in answer.text for answer in one_word.answers)


def test_options_that_leave_the_window_open_have_the_bundles(tiny_bundle: Path) -> None:
    loaded = load_bundle(tiny_bundle, None, LoadOptions(variant="fp32"))
    manifest = replace(loaded.bundle.manifest, max_length=48, overlap=16)
    with_a_small_window = replace(loaded, bundle=replace(loaded.bundle, manifest=manifest))
    context = words(300)
    with QuestionAnswerer(with_a_small_window) as small:
        expected = small.answer(QUESTION, context, top_k=3, max_length=48, overlap=16)
        assert expected != small.answer(QUESTION, context, top_k=3, max_length=384, overlap=128)
        for options in (AnswerOptions(top_k=3), AnswerOptions(top_k=3, max_length=48)):
            assert small.answer(QUESTION, context, options=options) == expected
            assert list(small.answer_many([(QUESTION, context)], options=options)) == [expected]


def test_strings_of_numpy_are_strings(qa: QuestionAnswerer) -> None:
    assert qa.answer(np.str_(QUESTION), np.str_(CONTEXT)) == qa.answer(QUESTION, CONTEXT)


# --- Unusable arguments. ---


@pytest.mark.parametrize(
    ("question", "context", "named"),
    [
        (None, "x", "question must be a string, not NoneType"),
        ("x", None, "context must be a string, not NoneType"),
        (b"who", "x", "question must be a string, not bytes"),
        ("who", b"x", "context must be a string, not bytes"),
        (["who"], ["x", "y"], "question must be a string, not list"),
        (3, 4, "question must be a string, not int"),
        (float("nan"), "x", "question must be a string, not float"),
        ("", "x", "question is empty"),
        (" \t", "x", "question is blank"),
        ("\u200b", "x", "question holds only characters that the tokenizer drops"),
    ],
)
def test_an_unusable_text_is_named(qa: QuestionAnswerer, question: Any, context: Any, named: str) -> None:
    with pytest.raises(InputError, match=named):
        qa.answer(question, context)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"timeout": "1"}, "timeout must be a number of seconds or None, not '1'"),
        ({"timeout": True}, "timeout must be a number"),
        ({"timeout": float("nan")}, "timeout must be a number"),
        ({"timeout": 10**400}, "timeout must be a number of seconds or None, not 1000"),
        ({"timeout": 10**5000}, "timeout must be a number of seconds or None, not a int of too many digits"),
        ({"no_answer_threshold": 10**400}, "no_answer_threshold must be a number"),
        ({"options": {"top_k": 3}}, "options must be AnswerOptions or None, not dict"),
        ({"options": LoadOptions()}, "options must be AnswerOptions or None, not LoadOptions"),
        ({"topk": 3}, "'topk' is not an option of answer.*top_k"),
        ({"top_k": "3"}, "top_k must be a whole number"),
        ({"max_length": 513}, "max_length is 513, but the model takes windows of at most 512"),
        ({"max_length": 100}, r"overlap \(128\) must be smaller than max_length \(100\)"),
        ({"max_length": 10, "overlap": 8}, "lower overlap .* or raise max_length"),
    ],
)
def test_an_unusable_option_is_named(qa: QuestionAnswerer, options: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        qa.answer(QUESTION, CONTEXT, **options)
    if "timeout" not in options:
        # At the call, not when the first answer is taken, unless it is the texts that do not fit.
        with pytest.raises(InputError, match=named):
            list(qa.answer_many([(QUESTION, CONTEXT)], **options))


def test_a_name_that_a_call_does_not_take(qa: QuestionAnswerer) -> None:
    with pytest.raises(
        InputError, match=r"'timeout' is not an option of answer_many\(\).* pairs, on_error, options"
    ):
        qa.answer_many([], timeout=3)  # type: ignore[call-arg]
    with pytest.raises(
        InputError, match=r"'time' is not an option of answer\(\).* question, context, timeout"
    ):
        qa.answer(QUESTION, CONTEXT, time=3)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("source", "options", "kind", "named"),
    [
        (None, {}, InputError, "source must be a folder or a hub id, not None"),
        ("a\0b", {}, InputError, "source must be a folder or a hub id, and 'a.x00b' holds a NUL character"),
        ("x" * 10_000, {}, InputError, "source must be a folder or a hub id, and no path can be 'xxx"),
        (b"bundle", {}, InputError, "source must be a folder or a hub id"),
        ("/nowhere/at/all", {}, BundleError, "/nowhere/at/all does not exist"),
        (Path("owner/vanished"), {}, BundleError, "owner/vanished does not exist"),
        ("./bundle", {"revision": 3}, InputError, "revision must be a string or None"),
        (".", {"revision": "main"}, InputError, "revision goes with a hub id"),
        (".", {"options": "fast"}, InputError, "options must be LoadOptions or None, not str"),
        (".", {"options": AnswerOptions()}, InputError, "options must be LoadOptions"),
        (".", {"device": "cpu"}, InputError, "'device' is not an option of load.*provider"),
        (".", {"threads": "2"}, InputError, "threads must be a whole number"),
    ],
)
def test_an_unusable_argument_of_load_is_named(
    source: Any, options: dict[str, Any], kind: type[Exception], named: str
) -> None:
    with pytest.raises(kind, match=named):
        QuestionAnswerer.load(source, **options)


def test_a_variant_that_the_bundle_lacks(tiny_bundle: Path) -> None:
    with pytest.raises(BundleError, match="no variant 'fp16'; it holds fp32, int8"):
        QuestionAnswerer.load(tiny_bundle, variant="fp16")


def test_flipped_weights_never_reach_a_session(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    weights = folder / "onnx" / "model.onnx_data"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    with pytest.raises(BundleError, match=r"model\.onnx_data is not the file that was exported"):
        QuestionAnswerer.load(folder, variant="fp32")


# --- Many questions. ---


def test_answers_come_in_the_order_of_the_input_and_little_is_read_ahead(either: QuestionAnswerer) -> None:
    many = pairs(1000, longest=12)
    read = 0

    def source() -> Iterator[tuple[str, str]]:
        nonlocal read
        for pair in many:
            read += 1
            yield pair

    answers = either.answer_many(source(), top_k=2)
    assert read == 0
    furthest = 0
    found = []
    for prediction in answers:
        found.append(prediction)
        furthest = max(furthest, read - len(found))
    assert furthest <= 128
    assert len(found) == 1000
    for i in range(0, 1000, 37):
        for answer in found[i].answers:
            assert many[i][1][answer.start : answer.end] == answer.text
        assert_same(found[i], either.answer(*many[i], top_k=2))


def assert_same(found: Prediction, expected: Prediction) -> None:
    """The same spans; scores as close as the order of a sum allows."""
    assert [(a.start, a.end, a.text) for a in found.answers] == [
        (a.start, a.end, a.text) for a in expected.answers
    ]
    assert (found.answer is None) == (expected.answer is None)
    scores = [[p.null_score, *(a.score for a in p.answers)] for p in (found, expected)]
    np.testing.assert_allclose(*scores, rtol=0, atol=2e-4)  # two logits a score


@pytest.mark.parametrize("bad", [0, 1, 63, 64, 130])
def test_every_pair_before_a_bad_one_is_answered(either: QuestionAnswerer, bad: int) -> None:
    many = pairs(200, longest=10)
    expected = list(either.answer_many(many[:bad]))
    answers = either.answer_many([*many[:bad], ("", "x"), *many[bad + 1 :]])
    found = []
    with pytest.raises(InputError, match=rf"^questions\[{bad}\] is empty"):
        found.extend(iter_into(found, answers))
    assert found == expected


def iter_into(found: list[Prediction], answers: Iterator[Prediction]) -> list[Prediction]:
    for prediction in answers:
        found.append(prediction)
    return []


@pytest.mark.parametrize(
    ("pair", "named"),
    [
        ("ab", r"pairs\[2\] must be a tuple of question and context, not a str"),
        ((QUESTION,), r"pairs\[2\] must be a tuple of question and context, not a tuple of 1"),
        ((QUESTION, CONTEXT, "x"), r"pairs\[2\] .* not a tuple of 3"),
        ({"question": QUESTION, "context": CONTEXT}, r"pairs\[2\] .* not a dict"),
        (None, r"pairs\[2\] .* not a NoneType"),
        ((None, CONTEXT), r"questions\[2\] must be a string, not NoneType"),
        ((QUESTION, b"x"), r"contexts\[2\] must be a string, not bytes"),
        (("\u200b", CONTEXT), r"questions\[2\] holds only characters that the tokenizer drops"),
    ],
)
def test_a_pair_that_is_none_is_named(either: QuestionAnswerer, pair: Any, named: str) -> None:
    answers = either.answer_many([*pairs(2), pair])
    assert isinstance(next(answers), Prediction)
    assert isinstance(next(answers), Prediction)
    with pytest.raises(InputError, match=named):
        next(answers)


@pytest.mark.parametrize("many", [None, 3])
def test_pairs_that_cannot_be_iterated(qa: QuestionAnswerer, many: Any) -> None:
    with pytest.raises(InputError, match="pairs must be tuples"):
        qa.answer_many(many)


def test_no_pairs_give_no_answers(either: QuestionAnswerer) -> None:
    assert list(either.answer_many([])) == []


def test_lists_serve_as_pairs(either: QuestionAnswerer) -> None:
    assert list(either.answer_many([[QUESTION, CONTEXT]])) == [either.answer(QUESTION, CONTEXT)]  # type: ignore[list-item]


# --- Alone or in company. ---


@pytest.mark.parametrize("mode", ["latency", "throughput"])
@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_an_answer_does_not_depend_on_its_company(tiny_bundle: Path, variant: str, mode: str) -> None:
    with QuestionAnswerer.load(tiny_bundle, variant=variant, optimize_for=mode, threads=2) as qa:
        many = [*pairs(90), (QUESTION, words(700)), (QUESTION, "")]
        alone = [qa.answer(*pair, top_k=3) for pair in many]
        shuffled = random.Random(5).sample(range(len(many)), len(many))
        together = list(qa.answer_many([many[i] for i in shuffled], top_k=3))
        for place, i in enumerate(shuffled):
            assert_same(together[place], alone[i])
            if variant == "int8":
                assert together[place] == alone[i]


# --- Any text at all. ---

ANY_TEXT = st.text(st.characters(), max_size=120) | st.text(
    st.sampled_from("\0 a\u0301\ud800\udfff\u200f\u05d0\ufeff\n\u3000é\U0001f600'.,-the"), max_size=200
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(question=ANY_TEXT, context=ANY_TEXT, decoding=st.sampled_from(["squad", "pipeline"]))
def test_any_text_gives_a_slice_of_it_or_an_input_error(
    qa: QuestionAnswerer, question: str, context: str, decoding: Any
) -> None:
    try:
        prediction = qa.answer(question, context, decoding=decoding, top_k=3, max_length=64, overlap=16)
    except InputError as error:
        assert "question" in str(error)
        return
    for answer in prediction.answers:
        assert context[answer.start : answer.end] == answer.text
    assert prediction.confidence is None


def test_a_megabyte_of_context(qa: QuestionAnswerer) -> None:
    context = "x" * 1_000_000 + " " + CONTEXT
    prediction = qa.answer(QUESTION, context, max_length=512)
    assert all(context[answer.start : answer.end] == answer.text for answer in prediction.answers)


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        (
            {"max_length": 140},
            InputError,
            "that overlap by 128 and advance by at least 18, .*: lower overlap",
        ),
        ({"max_length": 384, "max_windows": 2}, TooManyWindows, "context makes 4 windows .*max_windows is 2"),
    ],
)
def test_options_that_would_make_too_many_windows(
    qa: QuestionAnswerer, options: dict[str, Any], error: Any, named: str
) -> None:
    with pytest.raises(error, match=named) as caught:
        qa.answer(QUESTION, words(900), **options)
    assert caught.value.index is None


# --- Deadlines, failures, the end. ---


def test_a_deadline_is_kept_while_a_long_text_is_tokenized(
    qa: QuestionAnswerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = []

    def late_at_the_third(deadline: float | None) -> None:
        checks.append(deadline)
        if len(checks) == 3:
            raise DeadlineExceeded("too late")

    monkeypatch.setattr("fastspan.answerer.check_deadline", late_at_the_third)
    with pytest.raises(DeadlineExceeded):
        qa.answer(QUESTION, CONTEXT * 20_000, timeout=3600)
    assert None not in checks


@pytest.mark.parametrize("timeout", [0, -1.5, 1e-9])
def test_a_deadline_already_past(either: QuestionAnswerer, timeout: float) -> None:
    for context in (CONTEXT, words(900)):
        with pytest.raises(DeadlineExceeded, match="allow more time"):
            either.answer(QUESTION, context, timeout=timeout)


@pytest.mark.parametrize("timeout", [3600, 1e300, float("inf")])
def test_a_deadline_that_never_comes_changes_nothing(either: QuestionAnswerer, timeout: float) -> None:
    for context in (CONTEXT, words(900)):
        assert either.answer(QUESTION, context, timeout=timeout) == either.answer(QUESTION, context)


@pytest.mark.parametrize("mode", ["latency", "throughput"])
def test_a_deadline_among_many_windows(deep_bundle: Path, mode: str) -> None:
    with QuestionAnswerer.load(deep_bundle, optimize_for=mode, threads=2) as qa:
        expected = qa.answer(QUESTION, CONTEXT)
        with pytest.raises(DeadlineExceeded):
            qa.answer(QUESTION, words(60_000), timeout=0.5)
        assert all(qa.answer(QUESTION, CONTEXT) == expected for _ in range(100))


def test_a_failing_run_names_its_cause_and_the_next_call_works(
    qa: QuestionAnswerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = qa.answer(QUESTION, CONTEXT)

    def refuse(*arguments: object) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(onnxruntime.InferenceSession, "run", refuse)
        with pytest.raises(
            InferenceError, match=r"failed on 1 windows of up to \d+ tokens: out of memory"
        ) as e:
            qa.answer(QUESTION, CONTEXT)
        assert isinstance(e.value.__cause__, RuntimeError)
        with pytest.raises(InferenceError, match="out of memory"):
            qa.answer(QUESTION, CONTEXT, timeout=60)
        with pytest.raises(InferenceError, match="out of memory"):
            list(qa.answer_many(pairs(3)))
    assert qa.answer(QUESTION, CONTEXT) == expected


@pytest.mark.parametrize("mode", ["latency", "throughput"])
def test_closing_gives_the_session_back_once_calls_in_flight_have_finished(
    tiny_bundle: Path, mode: str
) -> None:
    entered, free = threading.Event(), threading.Event()

    class Slow:
        def __init__(self, session: Session) -> None:
            self._session = session

        def __getattr__(self, name: str) -> Any:
            return getattr(self._session, name)

        def run(self, windows: Sequence[Window], *, deadline: float | None = None) -> Any:
            entered.set()
            free.wait(60)
            return self._session.run(windows, deadline=deadline)

    loaded = load_bundle(tiny_bundle, None, LoadOptions(variant="fp32", optimize_for=mode, threads=2))
    expected = QuestionAnswerer(loaded).answer(QUESTION, words(900))
    held = weakref.ref(loaded.session)
    qa = QuestionAnswerer(replace(loaded, session=Slow(loaded.session)))
    del loaded
    info = qa.info()
    with ThreadPoolExecutor(2) as pool:
        begun = pool.submit(qa.answer, QUESTION, words(900))
        assert entered.wait(60)
        closing = pool.submit(qa.close)
        while not repr(qa).endswith("closed>"):
            time.sleep(0.001)
        free.set()
        assert begun.result(60) == expected
        closing.result(60)
    del begun, closing
    gc.collect()
    assert held() is None
    assert qa.info() == info


def test_batches_that_memory_was_too_small_for_are_counted_for_the_user(tiny_bundle):
    loaded = load_bundle(tiny_bundle, None, LoadOptions())
    session = SimpleNamespace(graph=loaded.session.graph, providers=("CPU",), out_of_memory_retries=0)
    with QuestionAnswerer(replace(loaded, session=session)) as qa:
        before = qa.info()
        assert before.out_of_memory_retries == 0
        session.out_of_memory_retries = 2
        assert qa.info().out_of_memory_retries == 2
        assert before.out_of_memory_retries == 0
        session.out_of_memory_retries = 3
    assert qa.info().out_of_memory_retries == 3


@pytest.mark.parametrize("mode", ["latency", "throughput"])
def test_a_closed_answerer_refuses(tiny_bundle: Path, mode: str) -> None:
    with QuestionAnswerer.load(tiny_bundle, variant="fp32", optimize_for=mode) as qa:
        begun = qa.answer_many(pairs(300, longest=10))
        not_begun = qa.answer_many(pairs(3))
        next(begun)
    qa.close()
    for call in (
        lambda: qa.answer(QUESTION, CONTEXT),
        lambda: qa.answer(QUESTION, words(900)),
        lambda: qa.answer(QUESTION, CONTEXT, timeout=5),
        lambda: qa.answer_many([]),
        lambda: next(not_begun),
        lambda: list(begun),
    ):
        with pytest.raises(Closed, match="load the bundle again"):
            call()
    assert repr(qa) == "<QuestionAnswerer tiny-qa: closed>"
    assert qa.info().variant == "fp32"


def test_leaving_by_an_exception_closes_too(tiny_bundle: Path) -> None:
    with pytest.raises(KeyError), QuestionAnswerer.load(tiny_bundle, variant="fp32") as qa:
        raise KeyError
    with pytest.raises(Closed):
        qa.answer(QUESTION, CONTEXT)


# --- What it says of itself. ---


def test_what_it_says_of_itself(tiny_bundle: Path) -> None:
    options = LoadOptions(variant="int8", threads=2)
    with QuestionAnswerer.load(str(tiny_bundle), options=options, threads=1) as qa:
        info = qa.info()
        assert repr(qa) == "<QuestionAnswerer tiny-qa: int8 on CPUExecutionProvider>"
    assert (info.name, info.variant, info.threads, info.optimize_for) == ("tiny-qa", "int8", 1, "latency")
    assert info.bundle == str(tiny_bundle)
    assert info.reason == "int8 was asked for."
    assert info.graph.startswith("onnx/model_int8")
    assert info.providers == ("CPUExecutionProvider",)
    assert (info.max_length, info.overlap, info.calibrated) == (384, 128, False)
    assert json.loads(json.dumps(info.to_dict()))["providers"] == ["CPUExecutionProvider"]


def test_a_prediction_is_made_of_built_in_types(qa: QuestionAnswerer) -> None:
    prediction = qa.answer(QUESTION, CONTEXT, top_k=2)
    data = json.loads(json.dumps(prediction.to_dict(), allow_nan=False))
    assert data["answers"][0]["text"] == prediction.answers[0].text
    for value in (prediction.null_score, prediction.best_span_score, prediction.answers[0].score):
        assert type(value) is float


def test_a_decoding_of_ones_own_gets_every_window_and_its_logits(either: QuestionAnswerer) -> None:
    pairs = [(QUESTION, CONTEXT), (QUESTION, f"{CONTEXT} " * 80)] * 40

    def lengths(encoded: Any, starts: Any, ends: Any) -> list[list[tuple[int, int, int]]]:
        return [
            [(len(w.input_ids), len(s), len(e)) for w, s, e in zip(pair.windows, of, to, strict=True)]
            for pair, of, to in zip(encoded, starts, ends, strict=True)
        ]

    found = list(either.decode_many(iter(pairs), lengths))
    assert len(found) == len(pairs)
    assert found[0] == found[2]
    assert len(found[1]) > 1
    assert all(tokens == starts == ends for windows in found for tokens, starts, ends in windows)
    with pytest.raises(InputError, match=r"questions\[1\] is empty"):
        list(either.decode_many([(QUESTION, CONTEXT), ("", CONTEXT)], lengths))


def test_a_closed_answerer_decodes_nothing(tiny_bundle: Path) -> None:
    qa = QuestionAnswerer.load(tiny_bundle, variant="fp32")
    qa.close()
    with pytest.raises(Closed):
        qa.decode_many([(QUESTION, CONTEXT)], lambda pairs, starts, ends: pairs)


def test_decode_many_refuses_what_holds_no_pairs(qa):
    with pytest.raises(InputError, match="pairs must be tuples"):
        qa.decode_many(None, lambda pairs, starts, ends: pairs)
