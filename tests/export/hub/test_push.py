"""A push puts a whole bundle on the hub in one commit, or nothing: the true client against a stand-in."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fastspan import BundleError, ChecksumMismatch, InputError, MissingDependency, QuestionAnswerer
from fastspan.bundle.folder import Bundle
from fastspan.bundle.manifest import MANIFEST
from fastspan.cli.main import main
from fastspan.export.hub.push import plan_push, push
from fastspan.export.hub.refusals import refused
from fastspan.export.publishing.slim import slim
from support.stand_ins.hub import ID, Hub, serve, use_hub

huggingface_hub = pytest.importorskip("huggingface_hub")

# huggingface_hub 2 still calls its HTTP library in a way that this calls old.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

PAIR = ("who built the tower", "the norse leader built the stone tower")


@pytest.fixture
def whole(tiny_bundle: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "whole"
    shutil.copytree(tiny_bundle, folder)
    (folder / "LICENSE").write_text("as you like")
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub without the repository, whose token this process has."""
    with serve(Hub(exists=False, token="secret")) as state:
        use_hub(monkeypatch, state.endpoint, tmp_path / "cache")
        monkeypatch.setenv("HF_TOKEN", "secret")
        yield state


def held(hub: Hub, revision: str = "main") -> dict[str, bytes]:
    return hub.files[hub.revisions[revision]]


def answer(source: str | Path, variant: str = "int8", revision: str | None = None) -> object:
    with QuestionAnswerer.load(source, variant=variant, revision=revision) as qa:
        return qa.answer(*PAIR)


def test_what_was_pushed_is_loaded_from_there_and_answers_alike(hub: Hub, whole: Path) -> None:
    pushed = push(plan_push(whole, ID))
    assert pushed.commit == hub.revisions["main"]
    assert pushed.url == f"{hub.endpoint}/{ID}"
    expected = {"README.md", "LICENSE", MANIFEST, *Bundle.open(whole).promised}
    assert set(held(hub)) == {".gitattributes", *expected}
    for path in Bundle.open(whole).promised:
        assert held(hub)[path] == (whole / path).read_bytes()
    assert answer(ID, revision=pushed.commit) == answer(whole)


def test_the_same_again_makes_no_commit(hub: Hub, whole: Path) -> None:
    first = push(plan_push(whole, ID))
    again = push(plan_push(whole, ID))
    assert (again.commit, again.changed, first.changed) == (first.commit, False, True)


def test_a_smaller_bundle_removes_the_former_ones_files_and_no_others(
    hub: Hub, whole: Path, tmp_path: Path
) -> None:
    push(plan_push(whole, ID))
    held(hub)["notes.txt"] = b"somebody's own"
    small = slim(whole, tmp_path / "small", ["int8"])
    pushed = push(plan_push(small.folder, ID))
    assert set(pushed.removed) == {"onnx/model.onnx", "onnx/model_cpu.onnx", "onnx/model.onnx_data"}
    assert not set(pushed.removed) & set(held(hub))
    assert held(hub)["notes.txt"] == b"somebody's own"
    assert answer(ID) == answer(whole)


def test_a_branch_is_made_and_the_main_one_left_alone(hub: Hub, whole: Path) -> None:
    push(plan_push(whole, ID), revision="v2")
    assert MANIFEST in held(hub, "v2")
    assert set(held(hub)) == {".gitattributes"}
    push(plan_push(whole, ID), revision="v2")


def test_private_is_made_so_and_a_public_repository_refused(hub: Hub, whole: Path) -> None:
    push(plan_push(whole, ID), private=True)
    assert hub.private
    hub.private = False
    before = dict(held(hub))
    with pytest.raises(InputError, match="is public, and a private one was asked for"):
        push(plan_push(whole, ID), private=True)
    assert held(hub) == before


def test_a_repository_of_something_else_is_refused(hub: Hub, whole: Path) -> None:
    hub.exists = True
    hub.files["c" * 40] = {"config.json": b"{}", "README.md": b"of a checkpoint"}
    hub.revisions = {"main": "c" * 40}
    with pytest.raises(InputError, match=r"holds config.json and no fastspan.json.*Nothing was published"):
        push(plan_push(whole, ID))
    assert hub.revisions == {"main": "c" * 40}


@pytest.mark.parametrize(
    ("route", "status", "body", "message"),
    [
        ("/repos/create", 401, {"error": "Invalid credentials"}, "token is not valid any more"),
        ("/repos/create", 403, {"error": "No rights"}, "take one with write access to what owner"),
        ("/validate-yaml", 400, {"errors": [{"message": "license is odd"}]}, "license is odd"),
        ("/repos/create", 500, {}, "the fault is the hub's; push again later"),
        ("/preupload/", 404, {}, "there is no such repository, or the token may not see it"),
        ("/objects/batch", 413, {}, "larger than the hub takes; push fewer variants"),
        ("/commit/", 409, {"error": "busy"}, "another change of the repository is under way"),
        ("/commit/", 412, {"error": "updated since"}, "somebody else changed the branch main meanwhile"),
        ("/commit/", 429, {}, "asked too often"),
        ("/commit/", 503, {}, "the fault is the hub's"),
        ("/commit/", 418, {"error": "a tea\x1bpot"}, r"a tea\\x1bpot"),
    ],
)  # fmt: skip
def test_each_refusal_is_one_sentence_and_publishes_nothing(
    hub: Hub, whole: Path, route: str, status: int, body: dict[str, object], message: str
) -> None:
    hub.write_refusals[route] = status, {}, json.dumps(body).encode()
    with pytest.raises(BundleError, match=message) as caught:
        push(plan_push(whole, ID))
    text = str(caught.value)
    assert f"(HTTP {status}" in text
    assert text.endswith("Nothing was published.")
    assert text.isprintable()
    assert not hub.exists or set(held(hub)) == {".gitattributes"}


def test_a_refusal_of_the_hubs_storage_has_its_status_in_its_text_alone() -> None:
    error = OSError("Network error: HTTP status client error (403 Forbidden), domain: https://cas")
    told = refused(error, ID, None, "https://hub")
    assert "refused the push (HTTP 403): the token may not write there" in told


def test_a_wrong_token_and_none(hub: Hub, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "another")
    with pytest.raises(BundleError, match=r"HTTP 401, Invalid username or password\.\).*hf auth login"):
        push(plan_push(whole, ID))
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(whole / "none"))
    hub.written.clear()
    with pytest.raises(InputError, match="set the environment variable HF_TOKEN"):
        push(plan_push(whole, ID))
    assert not hub.written


def test_a_commit_of_somebody_else_in_between_is_not_overwritten(hub: Hub, whole: Path) -> None:
    push(plan_push(whole, ID))
    hub.moves_to = "d" * 40
    hub.files["d" * 40] = {**held(hub), "README.md": b"a newer one"}
    with pytest.raises(BundleError, match="HTTP 412"):
        push(plan_push(whole, ID))
    assert held(hub)["README.md"] == b"a newer one"


def test_a_hub_that_is_not_there(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache")
    monkeypatch.setenv("HF_TOKEN", "secret")
    with pytest.raises(BundleError, match=r"could not be reached \(.*Nothing was published"):
        push(plan_push(whole, ID))


def test_a_damaged_bundle_is_refused_before_anything_is_asked(hub: Hub, whole: Path) -> None:
    weights = whole / "onnx" / "model.onnx_data"
    data = bytearray(weights.read_bytes())
    data[1000] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ChecksumMismatch):
        plan_push(whole, ID)
    assert not hub.written


def test_a_file_that_changes_between_plan_and_push_is_refused(
    hub: Hub, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastspan.export.hub.push._SMALL", 0)
    plan = plan_push(whole, ID)
    weights = whole / "onnx" / "model.onnx_data"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(BundleError, match=r"onnx/model.onnx_data changed while it was read"):
        push(plan)
    assert set(held(hub)) == {".gitattributes"}


@pytest.mark.parametrize("name", ["tiny-qa", "a/b/c", "../x", "", "owner/na me", "owner/"])
def test_what_is_no_id_of_a_repository(tiny_bundle: Path, name: str) -> None:
    with pytest.raises(InputError, match="give owner/name"):
        plan_push(tiny_bundle, name)


def test_a_hub_id_is_no_bundle_to_push() -> None:
    with pytest.raises(BundleError, match="does not exist"):
        plan_push("owner/tiny-qa", ID)


def test_without_huggingface_hub_the_extra_is_named(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingDependency, match=r"pip install 'fastspan\[hub\]'"):
        plan_push(tiny_bundle, ID)


class TestCommand:
    def test_a_dry_run_shows_card_and_files_and_asks_nothing(
        self, hub: Hub, whole: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["push", str(whole), ID, "--dry-run"]) == 0
        shown = capsys.readouterr()
        assert shown.out.startswith("---\n")
        assert "library_name: fastspan" in shown.out
        assert "onnx/model_int8.onnx_data" in shown.out
        assert shown.out.rstrip().endswith("Nothing was sent.")
        assert "names no licence" in shown.err
        assert (hub.written, hub.requested) == ([], [])

    def test_a_push_says_where_the_bundle_is_now(
        self, hub: Hub, whole: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["push", str(whole), ID, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["commit"] == hub.revisions["main"]
        assert found["files"]["fastspan.json"] == (whole / MANIFEST).stat().st_size
        assert main(["push", str(whole), ID]) == 0
        assert "held all of it already" in capsys.readouterr().out

    def test_an_error_is_one_line(self, hub: Hub, whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
        hub.write_refusals["/commit/"] = 503, {}, b"<html>"
        assert main(["push", str(whole), ID]) == 1
        *_, last = capsys.readouterr().err.splitlines()
        assert last.startswith("fastspan: error: owner/tiny-qa at http")


def test_the_manifest_of_another_format_removes_nothing(hub: Hub, whole: Path) -> None:
    push(plan_push(whole, ID))
    held(hub)[MANIFEST] = b'{"format": "9.0"}'
    assert push(plan_push(whole, ID)).removed == ()
    assert replace(Bundle.open(whole)).manifest.variants
