"""What a user may import, and what kind of thing it is."""

from __future__ import annotations

import importlib
import inspect
import pickle
import pkgutil
import re
from dataclasses import FrozenInstanceError, fields, is_dataclass
from typing import Any

import pytest

import fastspan
from fastspan import (
    Answer,
    AnswerOptions,
    FastSpanError,
    Info,
    LoadOptions,
    PassageAnswer,
    Prediction,
    Reading,
    errors,
)

INFO = Info(
    bundle="/b",
    name="b",
    variant="fp32",
    reason="fp32 was asked for.",
    graph="onnx/model.onnx",
    providers=("CPUExecutionProvider",),
    threads=1,
    workers=1,
    optimize_for="latency",
    profile="none.",
    max_length=384,
    overlap=128,
    no_answer_threshold=0.0,
    calibrated=False,
    onnxruntime="1.22.0",
)
ANSWER = Answer("Ada", 0, 3, 1.5)
FOUND = PassageAnswer("Ada", 0, 3, 1.5, -1.0, 2, "x", (0, 13))
VALUES: list[Any] = [
    ANSWER,
    Prediction(ANSWER, (ANSWER,), 0.9, -1.0, 1.5),
    FOUND,
    Reading(FOUND, (FOUND,), 0.9, -2.5, -1.0, 1, 3),
    INFO,
    AnswerOptions(),
    LoadOptions(),
]


def test_all_is_sorted_complete_and_importable() -> None:
    assert fastspan.__all__ == sorted(fastspan.__all__)
    assert len(set(fastspan.__all__)) == len(fastspan.__all__)
    public = {
        name
        for name in dir(fastspan)
        if not name.startswith("_") and not inspect.ismodule(getattr(fastspan, name))
    }
    assert public | {"__version__"} == set(fastspan.__all__)


def test_the_names_users_build_on_are_all_there() -> None:
    """Taking one away breaks programs; adding one is a promise. Both are to be done on purpose."""
    assert set(fastspan.__all__) == {
        *("Answer", "AnswerOptions", "Info", "LoadOptions", "PassageAnswer", "Prediction"),
        *("QuestionAnswerer", "Reading", "__version__"),
        *errors.__all__,
    }


def modules() -> list[str]:
    """Every module, but for those that run in environments of their own, and the compiled library."""
    found = pkgutil.walk_packages(fastspan.__path__, "fastspan.")
    return [m.name for m in found if not re.search(r"__main__$|\.peers\.|\.mlserver_runtime$|\.lib", m.name)]


@pytest.mark.parametrize("name", modules())
def test_every_module_says_what_it_offers(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except fastspan.MissingDependency as error:
        pytest.skip(str(error))
    assert module.__doc__
    for public in getattr(module, "__all__", []):
        assert hasattr(module, public)


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert fastspan.__version__ == version("fastspan")


@pytest.mark.parametrize("name", errors.__all__)
def test_errors_form_one_tree(name: str) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, FastSpanError)
    assert getattr(fastspan, name) is kind
    error = pickle.loads(pickle.dumps(kind("what was wrong")))
    assert (type(error), str(error)) == (kind, "what was wrong")


def test_the_drawing_of_the_tree_is_the_tree() -> None:
    drawn = re.findall(r"(?:├──|└──) (\w+)", errors.__doc__ or "")
    assert sorted([*drawn, "FastSpanError"]) == sorted(errors.__all__)
    defined = {name for name, value in vars(errors).items() if inspect.isclass(value)}
    assert defined == set(errors.__all__)


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("InputError", ValueError),
        ("DataError", ValueError),
        ("DeadlineExceeded", TimeoutError),
        ("MissingDependency", ImportError),
    ],
)
def test_some_errors_are_also_what_python_calls_them(name: str, builtin: type[Exception]) -> None:
    assert issubclass(getattr(errors, name), builtin)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_are_frozen_and_without_a_dict(value: Any) -> None:
    assert is_dataclass(value)
    name = fields(value)[0].name
    with pytest.raises(FrozenInstanceError):
        setattr(value, name, None)
    assert not hasattr(value, "__dict__")
    assert pickle.loads(pickle.dumps(value)) == value


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_every_field_is_documented(value: Any) -> None:
    for field in fields(value):
        assert re.search(rf"\n        {field.name}: ", type(value).__doc__ or "") or (
            re.search(rf"\b{field.name}: ", inspect.getdoc(type(value)) or "")
        ), field.name


def test_the_margin() -> None:
    assert Prediction(None, (), 0.5, 2.0, -1.0).margin == 3.0
