"""docs/adapters.md: its examples run; the one for Haystack does in ``tests/integrations``."""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec

from fastspan.adapters.transformers_pipeline.constructor import _REFUSED
from fastspan.adapters.transformers_pipeline.parameters import CALL_PARAMETERS
from support.paths import ROOT

PAGE = (ROOT / "docs" / "adapters.md").read_text(encoding="utf-8")
BUNDLE = "models/exported/minilm-l6-squad2"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_examples_run(bundled_bundle, capsys):
    *of_the_pipeline, _ = blocks("python")
    assert len(of_the_pipeline) == 2
    names = {}
    for example in of_the_pipeline:
        exec(example.replace(BUNDLE, str(bundled_bundle)), names)
    one, many, *truths = capsys.readouterr().out.splitlines()
    assert eval(one)["answer"] == "Rollo"
    assert [answers[0]["answer"] for answers in eval(many)] == ["Rollo", "Charles III"]
    assert truths == ["True", "True"]
    names["nlp"].close()


def test_every_argument_is_spoken_of():
    spoken_of = set(re.findall(r"`(\w+)", PAGE))
    assert set(CALL_PARAMETERS) <= spoken_of, set(CALL_PARAMETERS) - spoken_of
    assert {"device", "device_map", "dtype", "torch_dtype", "variant", "revision", "tokenizer"} <= spoken_of
    assert {"token", "use_auth_token", "framework", "config", "trust_remote_code", "use_fast"} <= set(
        _REFUSED
    )


def test_modules_named_are_there():
    for name in re.findall(r"`(fastspan\.[\w.]+)`", PAGE):
        assert find_spec(name), name
    for command in re.findall(r"-m (fastspan[\w.]+)", PAGE):
        assert find_spec(command), command
    assert "fastspan" in sys.modules
