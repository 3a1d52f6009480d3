"""Options are checked when they are made, and every message names the option."""

from __future__ import annotations

import inspect
import pickle
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import numpy as np
import pytest

from fastspan import AnswerOptions, InputError, LoadOptions, QuestionAnswerer
from fastspan.options import _OWN_ARGUMENTS, AnswerOverrides, LoadOverrides, shown

# More digits than Python writes out.
HUGE = 10**5000
NO_NUMBER = ["3", 2.5, True, None, np.array([1, 2]), float("nan")]
UNUSABLE: dict[str, list[Any]] = {
    "top_k": [0, -1, HUGE, -HUGE, *NO_NUMBER],
    "max_answer_length": [0, -1, *(value for value in NO_NUMBER if value is not None)],
    "n_best": [0, *NO_NUMBER],
    "max_length": [0, HUGE, -HUGE, *(value for value in NO_NUMBER if value is not None)],
    "overlap": [-1, *(value for value in NO_NUMBER if value is not None)],
    "max_windows": [0, -1, HUGE, *(value for value in NO_NUMBER if value is not None)],
    "max_question_length": [0, -3, HUGE, *(value for value in NO_NUMBER if value is not None)],
    "decoding": ["SQuAD", "", None, 1, ["squad"], np.array(["squad", "pipeline"])],
    "no_answer_threshold": ["0", True, float("nan"), [0.0], 10**400, HUGE],
    "align_to_words": [0, 1, "yes", None],
    "handle_impossible_answer": [0, "no", None],
    "truncate_question": [1, "", None],
    "domain": [1, True, b"law", ["law"]],
}
UNUSABLE_TO_LOAD: dict[str, list[Any]] = {
    "variant": [None, 8, b"int8"],
    "provider": [None, ["cpu"], 0],
    "provider_options": [None, "device_id=0", [("device_id", "0")], {"device_id": 0}, {0: "device_id"}],
    "optimize_for": ["speed", None, 1, np.array(["latency"])],
    "threads": [0, -2, "2", 1.0, True],
    "spinning": [0, "yes"],
    "token_budget": [0, "16384", None, False],
    "gpu_memory_limit": [0, -1, "1GB", 1e9, True],
    "profile": [None, 0, "on"],
    "kernels": [None, 1, "yes"],
    "widen": [None, 1, "yes"],
    "domain": [1, True, b"law", ["law"]],
}


def cases(table: dict[str, list[Any]]) -> list[Any]:
    return [
        pytest.param(name, value, id=f"{name}={shown(value)}")
        for name, values in table.items()
        for value in values
    ]


@pytest.mark.parametrize(("name", "value"), cases(UNUSABLE))
def test_an_unusable_answer_option_is_named(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=name):
        AnswerOptions(**{name: value})
    with pytest.raises(InputError, match=name):
        AnswerOptions().override({name: value})


@pytest.mark.parametrize(("name", "value"), cases(UNUSABLE_TO_LOAD))
def test_an_unusable_load_option_is_named(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=name):
        LoadOptions(**{name: value})


def test_every_option_has_unusable_values_here() -> None:
    assert {field.name for field in fields(AnswerOptions)} == set(UNUSABLE)
    assert {field.name for field in fields(LoadOptions)} == set(UNUSABLE_TO_LOAD)


@pytest.mark.parametrize(
    ("options", "overrides"), [(AnswerOptions, AnswerOverrides), (LoadOptions, LoadOverrides)]
)
def test_overrides_are_the_fields_of_the_options(options: Any, overrides: Any) -> None:
    hints = {field.name: str(field.type) for field in fields(options)}
    assert {name: str(hint.__forward_arg__) for name, hint in overrides.__annotations__.items()} == hints
    assert not overrides.__required_keys__


def test_overriding() -> None:
    options = AnswerOptions(top_k=3)
    assert options.override({}) is options
    assert options.override({"overlap": 7}) == AnswerOptions(top_k=3, overlap=7)
    assert options == AnswerOptions(top_k=3)
    with pytest.raises(
        InputError, match=r"'doc_stride' is not an option of answer\(\); the options are top_k, "
    ):
        options.override({"doc_stride": 3})
    assert LoadOptions(threads=2).override({"spinning": False}) == LoadOptions(threads=2, spinning=False)
    with pytest.raises(InputError, match=r"'device' is not an option of load\(\); the options are variant, "):
        LoadOptions().override({"device": "cpu"})


@pytest.mark.parametrize("call", ["answer", "answer_many", "read", "read_many", "load"])
def test_a_refused_name_is_answered_with_all_that_the_call_takes(call: str) -> None:
    named = inspect.signature(getattr(QuestionAnswerer, call)).parameters.values()
    own = [p.name for p in named if p.name != "self" and p.kind is not p.VAR_KEYWORD]
    assert list(_OWN_ARGUMENTS[call]) == own


def test_a_window_left_open_is_the_one_it_is_put_into() -> None:
    assert AnswerOptions().window == (384, 128)
    assert AnswerOptions(top_k=3).within(256, 64) == AnswerOptions(top_k=3, max_length=256, overlap=64)
    assert AnswerOptions(max_length=100).within(256, 64).window == (100, 64)
    assert AnswerOptions(overlap=0).within(256, 64).window == (256, 0)
    whole = AnswerOptions(max_length=9, overlap=2)
    assert whole.within(256, 64) is whole
    with pytest.raises(InputError, match=r"overlap \(64\) must be smaller than max_length \(50\)"):
        AnswerOptions(max_length=50).within(256, 64)
    for options in ({"max_length": 50}, {"overlap": 384}):
        with pytest.raises(InputError, match="neighbouring windows have to differ"):
            _ = AnswerOptions(**options).window
    with pytest.raises(InputError, match="neighbouring windows have to differ"):
        AnswerOptions(max_length=50, overlap=50)


@pytest.mark.parametrize(("decoding", "tokens"), [("squad", 30), ("pipeline", 15)])
def test_the_longest_answer_is_what_the_reference_allows(decoding: Any, tokens: int) -> None:
    assert AnswerOptions(decoding=decoding).span_tokens == tokens
    assert AnswerOptions(decoding=decoding, max_answer_length=7).span_tokens == 7


@pytest.mark.parametrize(("decoding", "tokens"), [("squad", 64), ("pipeline", None)])
def test_the_longest_question_is_what_the_reference_asks(decoding: Any, tokens: int | None) -> None:
    assert AnswerOptions(decoding=decoding).question_tokens == tokens
    assert AnswerOptions(decoding=decoding, max_question_length=7).question_tokens == 7


@pytest.mark.parametrize("options", [AnswerOptions(), LoadOptions()])
def test_options_are_frozen_keyword_only_values(options: Any) -> None:
    name = fields(options)[0].name
    with pytest.raises(FrozenInstanceError):
        setattr(options, name, getattr(options, name))
    with pytest.raises(TypeError):
        type(options)("fp32")
    assert pickle.loads(pickle.dumps(options)) == options == replace(options)


def test_thresholds_may_be_infinite_and_whole() -> None:
    for threshold in (float("inf"), float("-inf"), 3, -0.5, None):
        assert AnswerOptions(no_answer_threshold=threshold).no_answer_threshold == threshold
