"""What is kept of PyTorch and transformers is used without them, and held against them where they are."""

from __future__ import annotations

import json

import pytest

from support.references.golden import FOLDER, Golden


def unasked():
    raise AssertionError("the reference was asked")


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A folder that keeps ``{"logits": [1.0, [2.5]], "ids": [3]}``."""
    monkeypatch.setattr("support.references.golden.version", lambda name: "1.0+cpu")
    recorder = Golden("kept", "record", tmp_path)
    assert recorder.value("logits", lambda: (1.0, (2.5,))) == [1.0, [2.5]]
    assert recorder.value("ids", lambda: [3]) == [3]
    recorder.close()
    return tmp_path


def test_what_was_recorded_is_given_back_without_asking_again(kept):
    golden = Golden("kept", "kept", kept)
    assert golden.value("logits", unasked) == [1.0, [2.5]]
    assert json.loads((kept / "kept.json").read_text())["made with"]["torch"] == "1.0"


def test_what_was_never_recorded_says_how_to_record_it(kept):
    with pytest.raises(AssertionError, match=r"kept\.json holds no 'scores': run `make golden`"):
        Golden("kept", "kept", kept).value("scores", unasked)


@pytest.mark.parametrize("found", [[1.0, [2.6]], [1.0], [1.0, 2.5], [1.0, [2.5], 3], None])
def test_a_reference_that_gives_something_else_fails(kept, found):
    live = Golden("kept", "live", kept)
    assert live.value("logits", lambda: [1.0004, [2.5]], within=0.001) == [1.0, [2.5]]
    with pytest.raises(AssertionError, match="logits: kept"):
        live.value("logits", lambda: found, within=0.001)


def test_one_key_has_one_reference(tmp_path):
    recorder = Golden("kept", "record", tmp_path)
    recorder.value("logits", lambda: [1])
    with pytest.raises(AssertionError, match="two references"):
        recorder.value("logits", lambda: [2])


def test_what_is_kept_says_what_made_it():
    files = sorted(FOLDER.glob("*.json"))
    assert files
    for path in files:
        made_with = json.loads(path.read_text(encoding="utf-8"))["made with"]
        assert made_with["transformers"] == "4.57.6", path.name
    assert sum(path.stat().st_size for path in files) < 500_000
