"""Loading a bundle by its hub id, from a stand-in for the hub on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastspan import BundleError, ChecksumMismatch, MissingDependency, QuestionAnswerer
from fastspan.bundle.folder import Bundle
from fastspan.bundle.manifest import MANIFEST
from support.packages import hide
from support.stand_ins.hub import ID, MAIN, OLD, Hub, offline, serve, use_hub

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
    assert qa.info().revision == snapshot.name
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


def test_a_private_repository_is_loaded_with_the_environments_token(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = hub_of(tiny_bundle)
    state.private, state.token = True, "secret"
    with serve(state) as hub:
        monkeypatch.setenv("HF_TOKEN", "secret")
        assert run(USE, tiny_bundle, hub, tmp_path / "one") == MAIN
        monkeypatch.setenv("HF_TOKEN", "another")
        assert "log in with `hf auth login` if it is private" in run(FAIL, tiny_bundle, hub, tmp_path / "two")


def test_a_bundle_is_loaded_by_its_hub_id(tiny_bundle: Path, tmp_path: Path) -> None:
    with serve(hub_of(tiny_bundle)) as hub:
        assert run(USE, tiny_bundle, hub, tmp_path) == MAIN
        assert run(USE, tiny_bundle, hub, tmp_path, revision="v1") == OLD


@pytest.fixture
def hub(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """This process's hub, with an empty cache in ``tmp_path / "cache"``."""
    with serve(hub_of(tiny_bundle)) as state:
        use_hub(monkeypatch, state.endpoint, tmp_path / "cache")
        yield state


def answer(source: str | Path, revision: str | None = None, variant: str = "fp32") -> str:
    with QuestionAnswerer.load(source, revision=revision, variant=variant) as qa:
        qa.answer("who built the tower", "the norse built the tower")
        return qa.info().bundle


FP32 = {"onnx/model_cpu.onnx", "onnx/model.onnx_data"}
INT8 = {"onnx/model_int8.onnx", "onnx/model_int8.onnx_data"}
SHARED = {MANIFEST, "config.json", "tokenizer.json", "tokenizer_config.json"}


@pytest.mark.parametrize(("variant", "graphs"), [("fp32", FP32), ("int8", INT8)], ids=["fp32", "int8"])
def test_only_the_chosen_variants_files_are_fetched(hub: Hub, variant: str, graphs: set[str]) -> None:
    hub.files[MAIN] |= {"model.safetensors": b"weights", "pytorch_model.bin": b"the same again"}
    answer(ID, variant=variant)
    assert hub.fetched() == SHARED | graphs
    hub.requested.clear()
    snapshot = answer(ID, variant=variant)
    assert hub.fetched() == set()
    # The folder of the cache is a bundle of what was fetched.
    answer(snapshot, variant=variant)
    other = "int8" if variant == "fp32" else "fp32"
    with pytest.raises(BundleError, match=r"lacks onnx/model.*: load the bundle by its hub id to fetch it"):
        answer(snapshot, variant=other)
    answer(ID, variant=other)
    answer(snapshot, variant=other)


def test_card_licence_and_unknown_files_on_the_hub_may_change(hub: Hub) -> None:
    hub.files[MAIN]["README.md"] += b"One more line.\n"
    hub.files[MAIN] |= {"LICENSE": b"Apache", "notes/figures.txt": b"of no use here"}
    answer(ID)
    assert not hub.fetched() & {"README.md", "LICENSE", "notes/figures.txt"}


def test_a_branch_that_moves_meanwhile_gives_one_commit(hub: Hub, tiny_half_bundle: Path) -> None:
    hub.files[OLD] = hub_of(tiny_half_bundle).files[MAIN]
    hub.moves_to = OLD
    assert Path(answer(ID)).name == MAIN
    snapshot = Path(answer(ID))
    assert snapshot.name == OLD
    assert (snapshot / MANIFEST).read_bytes() == (tiny_half_bundle / MANIFEST).read_bytes()


def test_offline_the_cache_knows_what_the_branch_was(hub: Hub) -> None:
    snapshot = answer(ID)
    with offline():
        hub.requested.clear()
        assert answer(ID) == answer(ID, MAIN) == snapshot
        assert hub.requested == []
        with pytest.raises(BundleError, match=r"not in the hub cache.* HF_HUB_OFFLINE is set"):
            answer(ID, variant="int8")


def test_without_the_hub_a_cached_commit_is_used_and_a_cached_branch_is_not(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = answer(ID)
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache")
    assert answer(ID, MAIN) == snapshot
    with pytest.raises(BundleError, match=r"failed \(.*HF_HUB_OFFLINE=1 or give a commit"):
        answer(ID)


@pytest.mark.parametrize("damage", ["flipped", "cut", "emptied"])
@pytest.mark.parametrize("path", [MANIFEST, "tokenizer.json", "onnx/model.onnx_data"])
def test_a_damaged_file_of_the_cache_is_fetched_once_more(hub: Hub, path: str, damage: str) -> None:
    blob = (Path(answer(ID)) / path).resolve()
    data = blob.read_bytes()
    blob.write_bytes(
        {"flipped": data[:99] + bytes([data[99] ^ 1]) + data[100:], "cut": data[:-1], "emptied": b""}[damage]
    )
    hub.requested.clear()
    answer(ID)
    assert hub.fetched() == {path}
    assert blob.read_bytes() == data


def test_a_file_that_arrives_damaged_twice_is_refused(hub: Hub) -> None:
    hub.damaged_downloads = {"tokenizer.json": 1}
    answer(ID)
    hub.damaged_downloads = {"onnx/model_int8.onnx_data": 2}
    with pytest.raises(
        ChecksumMismatch, match=r"onnx/model_int8.onnx_data is not the file that was exported"
    ):
        answer(ID, variant="int8")


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (403, "log in with `hf auth login`"),
        (404, "check the spelling"),
        (429, "asked too often; wait some minutes"),
        (500, "the fault is the hub's; try again later"),
    ],
)
def test_what_the_hub_refuses_is_told_with_its_status_and_a_remedy(
    hub: Hub, status: int, remedy: str
) -> None:
    hub.refusal = status, {"X-Error-Code": "RepoNotFound"} if status == 404 else {}
    # Before it asks for a file, the client waits long for a hub that fails.
    for revision in (None,) if status == 500 else (None, MAIN):
        with pytest.raises(BundleError, match=rf"\(HTTP {status}[^)]*\): .*{remedy}"):
            answer(ID, revision)


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no terminals on this system")
def test_a_terminal_sees_no_progress_bars(tiny_bundle: Path, tmp_path: Path) -> None:
    code = f"from fastspan import QuestionAnswerer; QuestionAnswerer.load({ID!r}, variant='fp32').close()"
    with serve(hub_of(tiny_bundle)) as hub:
        environment = {
            **os.environ,
            "HF_ENDPOINT": hub.endpoint,
            "HF_HOME": str(tmp_path),
            "HF_HUB_DISABLE_XET": "1",
        }
        for name in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_PROGRESS_BARS"):
            environment.pop(name, None)
        ours, theirs = os.openpty()
        try:
            done = subprocess.run(
                [sys.executable, "-c", code], env=environment, stderr=theirs, timeout=120, check=False
            )
            os.set_blocking(ours, False)
            try:
                seen = os.read(ours, 1 << 16)
            except OSError:
                seen = b""
        finally:
            os.close(ours)
            os.close(theirs)
    assert (done.returncode, seen) == (0, b"")


def test_a_repository_of_something_else_is_told_apart(tiny_bundle: Path, tmp_path: Path) -> None:
    with serve(Hub(files={MAIN: {"pytorch_model.bin": b"weights"}})) as hub:
        message = run(FAIL, tiny_bundle, hub, tmp_path)
        assert hub.fetched() <= {MANIFEST, "config.json"}
    assert message.startswith(f"'{ID}' on the hub holds neither {MANIFEST} nor config.json")


def test_a_file_that_the_hub_changed_is_refused(hub: Hub) -> None:
    weights = bytearray(hub.files[MAIN]["onnx/model.onnx_data"])
    weights[1000] ^= 4
    hub.files[MAIN]["onnx/model.onnx_data"] = bytes(weights)
    with pytest.raises(ChecksumMismatch, match=r"onnx/model.onnx_data is not the file that was exported"):
        answer(ID)


@pytest.mark.parametrize(
    ("name", "revision", "message"),
    [
        ("owner/unknown", None, r"neither a folder here nor a public model at .* \(HTTP 404\)"),
        (ID, "v9", r"has no revision 'v9' at .* \(HTTP 404\)"),
        (ID, "c" * 40, r"has no revision 'c+' at .* \(HTTP 404\)"),
    ],
    ids=["repository", "revision", "commit"],
)
def test_what_the_hub_does_not_have(hub: Hub, name: str, revision: str | None, message: str) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        answer(name, revision)
    assert "\n" not in str(caught.value)


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
    hide(monkeypatch, "huggingface_hub")
    with pytest.raises(MissingDependency, match=r"huggingface_hub is missing: .*fastspan\[hub\]"):
        QuestionAnswerer.load("owner/tiny-qa")


def test_a_path_object_is_never_sought_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "huggingface_hub")
    with pytest.raises(BundleError, match="owner/tiny-qa does not exist"):
        QuestionAnswerer.load(Path("owner/tiny-qa"))
