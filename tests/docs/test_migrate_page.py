"""docs/migrate.md: old and new programs print what it says; Haystack's run in ``tests/integrations``."""

from __future__ import annotations

import re

import pytest

from support.migration_page import programs, texts
from support.paths import MINILM, ROOT

BUNDLE, CHECKPOINT = "models/exported/minilm-l6-squad2", "models/minilm-l6-squad2"
PIPELINES = ("From transformers", "From optimum")


def printed_by(program, bundle, capsys):
    assert BUNDLE in program or CHECKPOINT in program
    names = {}
    exec(program.replace(BUNDLE, str(bundle)).replace(CHECKPOINT, str(MINILM)), names)
    if hasattr(names.get("nlp"), "close"):
        names["nlp"].close()
    return capsys.readouterr().out


@pytest.mark.parametrize("section", PIPELINES)
def test_the_new_program_prints_what_stands_below(section, bundled_bundle, capsys):
    _, new = programs(section)
    (both,) = texts(section)
    assert printed_by(new, bundled_bundle, capsys) == both


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("section", PIPELINES)
def test_the_old_program_prints_the_same(section, bundled_bundle, capsys):
    old, _ = programs(section)
    (both,) = texts(section)
    assert "fastspan" not in old
    assert printed_by(old, bundled_bundle, capsys) == both


def test_the_engine_itself_prints_what_stands_below(bundled_bundle, capsys):
    section = "Further: the engine itself"
    (program,), (text,) = programs(section), texts(section)
    assert printed_by(program, bundled_bundle, capsys) == text


def test_extras_named_are_there():
    declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "migrate.md").read_text(encoding="utf-8")
    named = {extra for extras in re.findall(r"'fastspan\[([\w,]+)\]'", page) for extra in extras.split(",")}
    assert named
    for extra in named:
        assert re.search(rf"^{extra} = \[", declared, re.MULTILINE), extra
