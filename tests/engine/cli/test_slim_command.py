"""``fastspan slim`` copies a bundle with fewer variants."""

from __future__ import annotations

from fastspan import QuestionAnswerer
from fastspan.cli.main import main


def test_a_slim_bundle_answers_and_holds_only_what_was_asked_for(tiny_bundle, tmp_path, capsys):
    out = tmp_path / "small"
    assert main(["slim", str(tiny_bundle), str(out), "--variants", "int8"]) == 0
    assert "int8" in capsys.readouterr().out
    assert not list(out.glob("onnx/model.onnx*"))
    with QuestionAnswerer.load(out) as qa:
        assert qa.info().variant == "int8"
        assert qa.answer("who built the tower", "the norse built the tower").answers


def test_a_variant_that_the_bundle_lacks_ends_in_one_line(tiny_bundle, tmp_path, capsys):
    assert main(["slim", str(tiny_bundle), str(tmp_path / "small"), "--variants", "fp16"]) == 1
    assert "fp16" in capsys.readouterr().err
    assert not (tmp_path / "small").exists()
