"""Sources of checkpoints: folders, and hub ids served by a stand-in for the hub on this machine."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from fastspan.errors import CheckpointError, InputError, MissingDependency
from fastspan.export.checkpoint.reader import read_checkpoint
from fastspan.export.checkpoint.source import resolve_source
from support.packages import hide
from support.stand_ins.hub import ID, MAIN, OLD, Hub, offline, serve, use_hub

huggingface_hub = pytest.importorskip("huggingface_hub")

CONFIG = json.dumps({"model_type": "bert", "architectures": ["BertForQuestionAnswering"]}).encode()
WEIGHTS = safetensors.numpy.save(
    {"qa_outputs.weight": np.ones((2, 4), np.float32), "qa_outputs.bias": np.zeros(2, np.float32)}
)
SMALL = {
    "config.json": CONFIG,
    "README.md": b"---\nlicense: apache-2.0\n---\n",
    "tokenizer_config.json": b"{}",
    "calibration.json": b'{"no_answer_threshold": 0}',
    "vocab.txt": b"[PAD]\n",
}
UNWANTED = {
    ".gitattributes": b"*.bin filter=lfs",
    "pytorch_model.bin": b"never fetched",
    "flax_model.msgpack": b"never fetched",
    "tf_model.h5": b"never fetched",
    "modeling.py": b"never fetched",
    "onnx/model.onnx": b"never fetched",
    "training_args.bin": b"never fetched",
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    files = {
        MAIN: {**SMALL, "model.safetensors": WEIGHTS, **UNWANTED},
        OLD: {"config.json": CONFIG, "model.safetensors": WEIGHTS},
    }
    with serve(Hub(files=files)) as state:
        use_hub(monkeypatch, state.endpoint, tmp_path)
        yield state


def unreachable() -> str:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{held.getsockname()[1]}"


def listed(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def refuse(
    message: str, source: str | Path, kind: type[Exception] = CheckpointError, **options: object
) -> None:
    with pytest.raises(kind, match=message) as caught:
        resolve_source(source, **options)  # type: ignore[arg-type]
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")


def local(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_bytes(CONFIG)
    (path / "model.safetensors").write_bytes(WEIGHTS)
    return path


# --- Hub ids. ---


def test_a_hub_id_brings_what_the_export_needs_and_no_more(hub: Hub, tmp_path: Path) -> None:
    source = resolve_source(ID)
    assert (source.id, source.revision) == (ID, MAIN)
    assert listed(source.folder) == {*SMALL, "model.safetensors"}
    assert hub.fetched() == {*SMALL, "model.safetensors"}
    # The snapshot is made of links out of its folder, which are fine in a hub cache.
    assert (source.folder / "config.json").is_symlink()
    checkpoint = read_checkpoint(source)
    assert (checkpoint.source, checkpoint.revision) == (ID, MAIN)
    np.testing.assert_array_equal(checkpoint.weights["qa_outputs.weight"], np.ones((2, 4)))


@pytest.mark.parametrize("revision", ["v1", OLD])
def test_a_revision_is_resolved_to_its_commit(hub: Hub, tmp_path: Path, revision: str) -> None:
    source = resolve_source(ID, revision)
    assert source.revision == OLD
    assert listed(source.folder) == {"config.json", "model.safetensors"}
    assert read_checkpoint(source).revision == OLD


def test_the_second_time_nothing_is_downloaded(hub: Hub, tmp_path: Path) -> None:
    first = resolve_source(ID)
    hub.requested.clear()
    assert resolve_source(ID) == first
    assert hub.fetched() == set()


SHARDED = {f"model-0000{i}-of-00002.safetensors": WEIGHTS for i in (1, 2)}
OTHER_FORMATS = {
    "sharded": ({"model.safetensors.index.json": b"{}", **SHARDED}, {"pytorch_model.bin": b""}),
    "pytorch": ({"pytorch_model.bin": b""}, {"flax_model.msgpack": b"", "training_args.bin": b""}),
    "flax": ({"flax_model.msgpack": b""}, {"tf_model.h5": b"", "rust_model.ot": b""}),
}


@pytest.mark.parametrize(("wanted", "unwanted"), OTHER_FORMATS.values(), ids=OTHER_FORMATS)
def test_one_weight_format_is_fetched(
    hub: Hub, tmp_path: Path, wanted: dict[str, bytes], unwanted: dict[str, bytes]
) -> None:
    hub.files[MAIN] = {"config.json": CONFIG, **wanted, **unwanted}
    source = resolve_source(ID)
    assert listed(source.folder) == {"config.json", *wanted}


def test_environment_logging_and_bars_are_left_as_they_were(hub: Hub, tmp_path: Path) -> None:
    def state() -> tuple[object, ...]:
        bars = huggingface_hub.utils.are_progress_bars_disabled
        return dict(os.environ), bars(), bars("huggingface_hub.http_get"), logging.root.level

    before = state()
    resolve_source(ID)
    assert state() == before


def test_an_unknown_model_may_also_be_a_mistyped_folder(hub: Hub, tmp_path: Path) -> None:
    message = f"'models/tiny' is neither a folder here nor a public model at {hub.endpoint}"
    refuse(message, "models/tiny")
    refuse("'tiny' is neither a folder here nor", "tiny")


def test_an_unknown_revision_is_named(hub: Hub, tmp_path: Path) -> None:
    refuse("has no revision 'v9'", ID, revision="v9")


def test_a_gated_model_says_where_to_accept_its_conditions(hub: Hub, tmp_path: Path) -> None:
    hub.refusal = 403, {"X-Error-Code": "GatedRepo"}
    message = f"is gated: accept its conditions at {hub.endpoint}/{ID} and log in"
    refuse(message, ID)


def test_a_model_whose_files_alone_are_gated(hub: Hub, tmp_path: Path) -> None:
    hub.refused_files = {"model.safetensors"}
    refuse("is gated", ID)


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (401, "log in with `hf auth login`"),
        (403, "log in with `hf auth login`"),
        (404, "check the spelling"),
        (429, "asked too often; wait 7 s, or log in"),
        (500, "the fault is the hub's; try again later"),
        (503, "the fault is the hub's; try again later"),
    ],
)
def test_what_the_hub_refuses_is_told_with_its_status_and_a_remedy(
    hub: Hub, status: int, remedy: str
) -> None:
    hub.refusal = status, {"Retry-After": "7", **({"X-Error-Code": "RepoNotFound"} if status == 404 else {})}
    for revision in (None, MAIN):
        # A failing hub is not a hub out of reach: a cached commit is not used behind the user's back.
        refuse(rf"\(HTTP {status}[^)]*\): .*{remedy}", ID, revision=revision)


def test_a_damaged_file_is_fetched_once_more(hub: Hub) -> None:
    hub.damaged_downloads = {"model.safetensors": 1, "config.json": 1}
    source = resolve_source(ID)
    assert (source.folder / "model.safetensors").read_bytes() == WEIGHTS
    # In the cache, later.
    (source.folder / "model.safetensors").resolve().write_bytes(WEIGHTS[::-1])
    assert resolve_source(ID) == source
    assert (source.folder / "model.safetensors").read_bytes() == WEIGHTS


def test_a_file_that_stays_damaged_is_refused(hub: Hub) -> None:
    hub.damaged_downloads = {"model.safetensors": 2}
    refuse(f"model.safetensors of '{ID}' was downloaded twice .* and is damaged", ID)


def test_a_branch_that_moves_meanwhile_gives_one_commit(hub: Hub) -> None:
    other = safetensors.numpy.save({"other": np.zeros(1, np.float32)})
    hub.files[OLD] = {**hub.files[MAIN], "model.safetensors": other}
    hub.moves_to = OLD
    source = resolve_source(ID)
    assert (source.revision, source.folder.name) == (MAIN, MAIN)
    assert (source.folder / "model.safetensors").read_bytes() == WEIGHTS
    assert resolve_source(ID).revision == OLD


def test_a_model_without_config_or_weights_is_not_downloaded(hub: Hub, tmp_path: Path) -> None:
    hub.files[MAIN] = {"model.safetensors": WEIGHTS}
    refuse("holds no config.json", ID)
    hub.files[MAIN] = {"config.json": CONFIG, "tf_model.h5": b""}
    refuse("holds no weights in a format that is read", ID)
    assert hub.fetched() == set()


def test_a_hub_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = unreachable()
    use_hub(monkeypatch, place, tmp_path)
    # The system's own words, out of all that an HTTP library wraps them into.
    failed = rf"'{ID}' is no folder here, and getting it from {place} failed \(\[Errno \d+\] [^:(]*\): check"
    refuse(failed, ID)
    refuse("set HF_HUB_OFFLINE=1 or give a commit", ID)
    message = f"'{ID}' at revision '{OLD}' is no folder here and not in the hub cache"
    refuse(message, ID, revision=OLD)


def test_without_the_hub_a_cached_commit_is_used_and_a_cached_branch_is_not(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = resolve_source(ID, MAIN)
    resolve_source(ID)
    use_hub(monkeypatch, unreachable(), tmp_path)
    assert resolve_source(ID, MAIN) == first
    refuse("failed", ID)


def test_offline_mode_uses_the_cache(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = resolve_source(ID)
    with offline():
        hub.requested.clear()
        assert resolve_source(ID) == first
        use_hub(monkeypatch, hub.endpoint, tmp_path / "empty")
        refuse("HF_HUB_OFFLINE is set", ID)
        assert hub.requested == []


def test_without_huggingface_hub_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "huggingface_hub")
    refuse(r"huggingface_hub is missing: run pip install 'fastspan\[export\]'", ID, kind=MissingDependency)


# --- Folders. ---


def test_a_folder_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "huggingface_hub")
    path = local(tmp_path / "owner" / "tiny-qa")
    monkeypatch.chdir(tmp_path)
    for source in (path, str(path), ID):
        resolved = resolve_source(source)
        assert (resolved.folder.resolve(), resolved.id, resolved.revision) == (path, "tiny-qa", None)
    monkeypatch.chdir(path)
    assert resolve_source(".").id == "tiny-qa"


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    local(tmp_path / "m")
    assert resolve_source("~/m").folder == tmp_path / "m"


def test_a_revision_of_a_folder_is_refused(tmp_path: Path) -> None:
    path = local(tmp_path / "m")
    refuse("revision applies to a hub id only", path, InputError, revision="main")
    refuse("revision applies to a hub id only", str(path), InputError, revision="main")


@pytest.mark.parametrize(
    "source",
    ["./models/tiny", "/models/tiny", "a/b/c", "owner/tiny/", "", "own er/tiny", "C:\\models", "a//b"],
)
def test_a_path_that_does_not_exist_is_neither_folder_nor_hub_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.chdir(tmp_path)
    refuse(re.escape(repr(source)) + " is neither a folder that exists nor a hub id", source)


@pytest.mark.usefixtures("hub")
def test_a_name_that_only_the_hub_can_judge_is_judged_by_it() -> None:
    refuse("neither a folder that exists nor a hub id", "owner/a--b")


def test_a_path_object_is_never_a_hub_id(tmp_path: Path) -> None:
    refuse("does not exist", tmp_path / "owner" / "tiny-qa")
    file = local(tmp_path / "m") / "config.json"
    refuse("is a file: give the folder", file)
    refuse("is a file: give the folder", str(file))


def test_a_snapshot_folder_of_a_hub_cache_keeps_its_id_and_commit(hub: Hub, tmp_path: Path) -> None:
    source = resolve_source(ID)
    again = resolve_source(str(source.folder))
    assert (again.folder, again.id, again.revision) == (source.folder, ID, MAIN)
    assert read_checkpoint(source.folder).sha256 == read_checkpoint(source).sha256
    (tmp_path / "link").symlink_to(source.folder)
    assert resolve_source(tmp_path / "link").id == ID


def test_links_that_leave_the_hub_cache_are_refused_there_too(hub: Hub, tmp_path: Path) -> None:
    source = resolve_source(ID)
    outside = local(tmp_path / "outside")
    (source.folder / "config.json").unlink()
    (source.folder / "config.json").symlink_to(outside / "config.json")
    with pytest.raises(CheckpointError, match="leads out of the checkpoint"):
        read_checkpoint(source)


def test_the_links_of_a_hub_cache_are_refused_where_there_is_no_cache(tmp_path: Path) -> None:
    blobs = local(tmp_path / "blobs")
    snapshot = tmp_path / "snapshots" / "latest"
    snapshot.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (snapshot / name).symlink_to(blobs / name)
    with pytest.raises(CheckpointError, match="leads out of the checkpoint"):
        read_checkpoint(snapshot)
