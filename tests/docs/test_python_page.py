"""docs/python.md against the dataclasses and docstrings; its examples run."""

from __future__ import annotations

import inspect
import re
from dataclasses import MISSING, fields
from types import ModuleType
from typing import Any

import pytest

import fastspan
from fastspan import AnswerOptions, LoadOptions, QuestionAnswerer, errors
from support.packages import put_in_place_of
from support.paths import ROOT

PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("options", [AnswerOptions, LoadOptions])
def test_the_tables_hold_every_option_and_its_default(options: Any) -> None:
    _, _, after = PAGE.partition(f"| `{options.__name__}` | default |")
    rows = re.findall(
        r"^\| `(\w+)` \| `([^`]*)` \| ([^|]+) \| ([^|]+) \|$", after.split("\n\n")[0], re.MULTILINE
    )
    defaults = [
        (field.name, field.default_factory() if field.default is MISSING else field.default)  # type: ignore[misc]
        for field in fields(options)
    ]
    assert [(name, default.replace('"', "'")) for name, default, _, _ in rows] == [
        (name, repr(default)) for name, default in defaults
    ]
    assert all(unit.strip() and meaning.strip() for *_, unit, meaning in rows)


@pytest.mark.parametrize("call", ["answer", "answer_many", "read", "load"])
def test_help_names_every_option_and_the_page_every_argument(call: str) -> None:
    method = getattr(QuestionAnswerer, call)
    options = LoadOptions if call == "load" else AnswerOptions
    assert {field.name for field in fields(options)} <= set(
        re.findall(r"``(\w+)``", inspect.getdoc(method) or "")
    )
    found = re.search(rf"`(?:qa|QuestionAnswerer)\.{call}\(([^`]*)\)`", PAGE)
    assert found
    parameters = [
        parameter.name if parameter.default is parameter.empty else f"{parameter.name}={parameter.default!r}"
        for parameter in inspect.signature(method).parameters.values()
        if parameter.name not in ("self", "overrides")
    ]
    assert [part for part in found[1].replace('"', "'").split(", ") if "*" not in part] == parameters


def test_the_page_names_every_error() -> None:
    for name in errors.__all__:
        assert f"`{name}`" in PAGE, name
    assert set(re.findall(r"\b(\w+(?:Error|Exceeded|Mismatch))\b", PAGE)) - {"ValueError", "ImportError"} <= {
        *fastspan.__all__,
        "TimeoutError",
    }


class Anything(ModuleType):
    """Stands for a package that is not installed: whatever is taken from it decorates or can be called."""

    def __getattr__(self, name: str) -> Any:
        return type(name, (Exception,), {"__init__": _take, "__getattr__": _decorator})


def _take(self: Any, *_: Any, **__: Any) -> None:
    self.state = type("State", (), {})()


def _decorator(*_: Any) -> Any:
    return lambda *given, **__: given[0] if given and callable(given[0]) else _decorator()


def test_the_examples_run(bundled_bundle: Any, monkeypatch: Any, capsys: Any) -> None:
    for name in ("fastapi", "celery", "celery.signals"):
        stand_in = Anything(name)
        if name == "celery.signals":
            stand_in.worker_process_init = type("Signal", (), {"connect": staticmethod(lambda f: f)})  # type: ignore[attr-defined]
        put_in_place_of(monkeypatch, name, stand_in)
    names: dict[str, Any] = {}
    examples = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(examples) == 8
    for example in examples:
        exec(example.replace("models/exported/minilm-l6-squad2", str(bundled_bundle)), names)
    printed = capsys.readouterr().out.splitlines()
    assert printed[:2] == ["Rollo", "Rollo"]
    assert printed[2].startswith("pair 1 is unusable: questions[1] is empty")
    assert printed[3] == "Charles III"
    assert printed[4] == "Rollo rollo | Rollo led the raiders who settled in Normandy."
    assert printed[5] == "3 1 True"
    assert printed[6] == "Rollo, their leader, swore fealty to the king."
    assert printed[7] == "29 (30, 35)"
    assert "<mark>Rollo</mark>, their leader" in names["page"]
    assert printed[8] == "Rollo"
    assert "ms to run" in printed[9]
    names["load_model"]()
    assert names["answer_task"]("Who was king?", names["passage"])["answer"]["text"] == "Charles III"
    names["state"]["qa"].close()
    names["app"].state.qa = names["qa"]
    assert names["answer"]("Who was king?", names["passage"])["answer"]["text"] == "Charles III"
    names["qa"].close()
