"""A bundle that changes while it is loaded, or after, is the one before or the one after, or is refused."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from fastspan import AnswerOptions, BundleError, LoadOptions, QuestionAnswerer
from fastspan.bundle.manifest import MANIFEST, NoAnswer
from fastspan.loading import LoadedBundle, load_bundle
from fastspan.runtime import graph_source
from support.bundles.forged_bundles import forge

QUESTION, CONTEXT = "who built the tower", "the norse leader built the stone tower by the river"
FP32 = LoadOptions(variant="fp32", threads=1)
WEIGHTS = "onnx/model.onnx_data"


def other_bundle(bundle: Path, folder: Path) -> Path:
    """The same model with other weights and another threshold."""
    weights = (np.frombuffer((bundle / WEIGHTS).read_bytes(), np.float32) * np.float32(0.9)).tobytes()
    return forge(bundle, folder, {WEIGHTS: weights}, no_answer=NoAnswer(threshold=7.0))


def logits(loaded: LoadedBundle) -> bytes:
    pair = loaded.encoder.encode([QUESTION], [CONTEXT], AnswerOptions(max_length=64, overlap=16))[0]
    start, end = loaded.session.run(pair.windows)
    return start.tobytes() + end.tobytes()


def facts(folder: Path) -> tuple[float, bytes]:
    loaded = load_bundle(folder, None, FP32)
    return loaded.bundle.manifest.no_answer.threshold, logits(loaded)


@pytest.mark.parametrize("exchange", ["in one step", "by way of a third place"])
def test_a_load_during_exports_is_never_a_mixture(tiny_bundle: Path, tmp_path: Path, exchange: str) -> None:
    placing = pytest.importorskip("fastspan.export.publishing.placing")
    one, two = forge(tiny_bundle, tmp_path / "model"), other_bundle(tiny_bundle, tmp_path / "other")
    whole = {facts(one), facts(two)}
    assert len(whole) == 2
    done, exchanges = threading.Event(), 0

    def keep_exchanging() -> None:
        nonlocal exchanges
        rng = random.Random(4)
        while not done.wait(rng.uniform(0, 0.03)):
            if exchange != "in one step" or not placing.exchange(one, two):
                one.rename(tmp_path / "third")
                two.rename(one)
                (tmp_path / "third").rename(two)
            exchanges += 1

    exchanger = threading.Thread(target=keep_exchanging)
    exchanger.start()
    seen = set()
    try:
        for _ in range(60):
            try:
                seen.add(facts(one))
            except BundleError as error:
                # Where two steps are needed, nothing is there between them.
                assert exchange != "in one step" and "does not exist" in str(error)
    finally:
        done.set()
        exchanger.join()
    assert exchanges
    assert seen <= whole


def test_a_replaced_folder_is_read_again(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst moment: between the manifest and the files that it lists."""
    folder, other = forge(tiny_bundle, tmp_path / "model"), other_bundle(tiny_bundle, tmp_path / "other")
    expected = facts(other)
    from fastspan.bundle.folder import Bundle

    read = Bundle.read

    def replace_first(self: Bundle, *paths: str) -> dict[str, bytes]:
        if other.exists():
            folder.rename(tmp_path / "gone")
            other.rename(folder)
        return read(self, *paths)

    monkeypatch.setattr(Bundle, "read", replace_first)
    assert facts(folder) == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("change", ["flipped in place", "replaced", "gone", "none"])
def test_a_forked_child_never_answers_from_what_was_not_verified(
    tiny_bundle: Path, tmp_path: Path, change: str
) -> None:
    folder = forge(tiny_bundle, tmp_path / "model")
    code = """
import os, sys
from pathlib import Path
from fastspan import BundleError, QuestionAnswerer
folder, change = Path(sys.argv[1]), sys.argv[2]
weights = folder / "onnx/model.onnx_data"
with QuestionAnswerer.load(folder, variant="fp32", threads=1) as qa:
    expected = qa.answer("who built the tower", "the norse built the stone tower")
    data = weights.read_bytes()
    if change == "flipped in place":
        with weights.open("r+b") as file:
            file.write(bytes(byte ^ 64 for byte in data[:4096]))
    elif change == "replaced":
        weights.unlink()
        weights.write_bytes(data[::-1])
    elif change == "gone":
        folder.rename(folder.with_name("elsewhere"))
    child = os.fork()
    if child == 0:
        try:
            answer = qa.answer("who built the tower", "the norse built the stone tower")
        except BundleError as error:
            print(error, flush=True)
            os._exit(7)
        os._exit(0 if answer == expected else 1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert qa.answer("who built the tower", "the norse built the stone tower") == expected
sys.exit(status)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code, folder, change],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == (0 if change == "none" else 7), done.stderr
    if change != "none":
        assert "is not what it was when it was loaded" in done.stdout
        assert "load it again" in done.stdout


def test_files_that_are_cut_under_a_loaded_bundle_change_nothing(tiny_bundle: Path, tmp_path: Path) -> None:
    """A mapped file that is cut ends the process with SIGBUS, so this runs in one of its own."""
    folder = forge(tiny_bundle, tmp_path / "model")
    code = """
import sys
from pathlib import Path
from fastspan import QuestionAnswerer
with QuestionAnswerer.load(sys.argv[1], variant="fp32", threads=1) as qa:
    expected = qa.answer("who built the tower", "the norse built the stone tower")
    for path in Path(sys.argv[1]).rglob("*"):
        if path.is_file():
            path.open("wb").close()
    words = "river bridge stone tower year engine window token rain snow wind north south red green blue"
    qa.answer("where rain snow", words * 5)
    assert qa.answer("who built the tower", "the norse built the stone tower") == expected
"""
    done = subprocess.run(
        [sys.executable, "-c", code, folder], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_runtime_that_takes_no_weights_from_memory_gets_a_private_copy(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = facts(tiny_bundle)
    given = []
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)

    def without_memory(provider: str) -> str:
        given.append(provider)
        return "other"

    monkeypatch.setattr(graph_source, "provider_kind", without_memory)
    assert facts(tiny_bundle) == expected
    assert given == ["CPUExecutionProvider"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (b"[]", "config.json must hold an object"),
        (b'{"model_type": "b\xe9rt"}', "config.json is not readable JSON"),
        (b'\xef\xbb\xbf{"pad_token_id": 0}', "config.json is not readable JSON"),
        (b"[" * 100_000, "config.json is not readable JSON"),
        (b"", "config.json is not readable JSON"),
    ],
    ids=["array", "Latin-1", "BOM", "deep", "empty"],
)
def test_a_configuration_that_cannot_be_read(
    tiny_bundle: Path, tmp_path: Path, config: bytes, message: str
) -> None:
    folder = forge(tiny_bundle, tmp_path / "model", {"config.json": config})
    with pytest.raises(BundleError, match=message) as caught:
        QuestionAnswerer.load(folder, variant="fp32")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("padding_id", [-1, 10**400, 10**9, True, "0", None, [0]])
def test_a_padding_id_without_an_embedding_pads_all_the_same(
    tiny_bundle: Path, tmp_path: Path, padding_id: object
) -> None:
    config = json.loads((tiny_bundle / "config.json").read_bytes())
    changed = json.dumps({**config, "pad_token_id": padding_id}).encode()
    folder = forge(tiny_bundle, tmp_path / "model", {"config.json": changed})
    pairs = [(QUESTION, CONTEXT), (QUESTION, CONTEXT * 3)]
    with (
        QuestionAnswerer.load(folder, variant="fp32") as qa,
        QuestionAnswerer.load(tiny_bundle, variant="fp32") as as_it_was,
    ):
        assert list(qa.answer_many(pairs)) == list(as_it_was.answer_many(pairs))


def test_inputs_that_are_not_the_graphs(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = forge(tiny_bundle, tmp_path / "model")
    document = json.loads((folder / MANIFEST).read_bytes())
    for graph in document["variants"]["fp32"]["graphs"]:
        graph["inputs"] = ["input_ids", "\x1b[31mred" * 1000]
    document["digest"] = "0" * 64
    from hashlib import sha256

    data = json.dumps(document).encode()
    (folder / MANIFEST).write_bytes(data.replace(b"0" * 64, sha256(data).hexdigest().encode()))
    with pytest.raises(BundleError, match=r"takes the inputs .*, but its manifest says") as caught:
        QuestionAnswerer.load(folder, variant="fp32")
    assert len(str(caught.value)) < 1000
    assert "\x1b" not in str(caught.value)


def test_more_threads_than_there_can_be() -> None:
    with pytest.raises(ValueError, match="threads must be at most 32768"):
        LoadOptions(threads=2**31)
