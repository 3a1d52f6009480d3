"""Loading a bundle by its hub id, from a stand-in for the hub on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastspan import BundleError, MissingDependency, QuestionAnswerer
from fastspan.bundle.folder import Bundle
from fastspan.bundle.manifest import MANIFEST
from support.stand_in_hub import ID, MAIN, OLD, Hub, serve

pytest.importorskip("huggingface_hub")

USE = """
import pickle, sys
from pathlib import Path
from fastspan import BundleError, QuestionAnswerer

local, hub_id, revision = sys.argv[1:]
with QuestionAnswerer.load(local, variant="fp32") as qa:
    expected = qa.answer("who built the tower", "the norse built the tower")
with QuestionAnswerer.load(hub_id, revision=revision or None, variant="fp32") as qa:
    assert qa.answer("who built the tower", "the norse built the tower") == expected
    snapshot = Path(qa.info().bundle)
    assert (snapshot / "tokenizer.json").is_symlink()
    # A pickle is loaded from where the files lie, without asking the hub again.
    with pickle.loads(pickle.dumps(qa)) as again:
        assert again.answer("who built the tower", "the norse built the tower") == expected
with QuestionAnswerer.load(str(snapshot), variant="fp32") as qa:
    assert qa.info().variant == "fp32"
print(snapshot.name)
"""
FAIL = """
import sys
from fastspan import BundleError, QuestionAnswerer
try:
    QuestionAnswerer.load(sys.argv[2], revision=sys.argv[3] or None, variant="fp32")
except BundleError as error:
    print(error)
"""


def run(code: str, bundle: Path, hub: Hub, home: Path, *, name: str = ID, revision: str = "") -> str:
    """Run ``code`` as a program that knows the stand-in as its hub."""
    environment = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home)}
    environment.pop("HF_HUB_OFFLINE", None)
    done = subprocess.run(
        [sys.executable, "-c", code, bundle, name, revision],
        env={**environment, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def hub_of(bundle: Path) -> Hub:
    files = {
        path.relative_to(bundle).as_posix(): path.read_bytes() for path in bundle.rglob("*") if path.is_file()
    }
    return Hub(files={MAIN: {**files, ".gitattributes": b"*.onnx filter=lfs"}, OLD: files})


def test_a_bundle_is_loaded_by_its_hub_id(tiny_bundle: Path, tmp_path: Path) -> None:
    with serve(hub_of(tiny_bundle)) as hub:
        assert run(USE, tiny_bundle, hub, tmp_path) == MAIN
        assert run(USE, tiny_bundle, hub, tmp_path, revision="v1") == OLD


def test_only_what_the_manifest_lists_is_fetched(tiny_bundle: Path, tmp_path: Path) -> None:
    state = hub_of(tiny_bundle)
    state.files[MAIN] |= {"model.safetensors": b"weights", "pytorch_model.bin": b"the same again"}
    with serve(state) as hub:
        assert run(USE, tiny_bundle, hub, tmp_path) == MAIN
        listed = {MANIFEST, *Bundle.open(tiny_bundle).manifest.files}
        assert hub.fetched() == listed


def test_nothing_of_a_checkpoint_is_fetched(tiny_bundle: Path, tmp_path: Path) -> None:
    files = {"config.json": b"{}", "model.safetensors": b"weights", "pytorch_model.bin": b"the same again"}
    with serve(Hub(files={MAIN: files})) as hub:
        message = run(FAIL, tiny_bundle, hub, tmp_path)
        assert hub.fetched() <= {MANIFEST}
    assert message.startswith(f"'{ID}' on the hub holds no {MANIFEST}, so it is no bundle")
    assert f"`fastspan export {ID} --out FOLDER`" in message


def test_a_file_that_the_hub_changed_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    state = hub_of(tiny_bundle)
    weights = bytearray(state.files[MAIN]["onnx/model.onnx_data"])
    weights[1000] ^= 4
    state.files[MAIN]["onnx/model.onnx_data"] = bytes(weights)
    with serve(state) as hub:
        message = run(FAIL, tiny_bundle, hub, tmp_path)
    assert "onnx/model.onnx_data is not the file that was exported" in message


@pytest.mark.parametrize(
    ("name", "revision"), [("owner/unknown", ""), (ID, "v9")], ids=["repository", "revision"]
)
def test_what_the_hub_does_not_have(tiny_bundle: Path, tmp_path: Path, name: str, revision: str) -> None:
    with serve(hub_of(tiny_bundle)) as hub:
        message = run(FAIL, tiny_bundle, hub, tmp_path, name=name, revision=revision)
    assert message.startswith(f"'{name}' is no folder here and could not be had from the hub: ")
    assert "\n" not in message


def test_links_out_of_an_ordinary_folder_stay_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    blobs, folder = tmp_path / "blobs", tmp_path / "snapshots" / MAIN
    blobs.mkdir()
    for path in tiny_bundle.rglob("*"):
        place = folder / path.relative_to(tiny_bundle)
        if path.is_dir():
            place.mkdir(parents=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            (blobs / path.name).write_bytes(path.read_bytes())
            place.symlink_to(blobs / path.name)
    assert Bundle.open(folder, links_into=blobs)
    with pytest.raises(BundleError, match="leads out of the bundle"):
        QuestionAnswerer.load(folder)


def test_without_huggingface_hub_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingDependency, match=r"huggingface_hub is missing: .*fastspan\[hub\]"):
        QuestionAnswerer.load("owner/tiny-qa")


def test_a_path_object_is_never_sought_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(BundleError, match="owner/tiny-qa does not exist"):
        QuestionAnswerer.load(Path("owner/tiny-qa"))
