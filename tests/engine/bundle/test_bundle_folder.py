"""A bundle that is damaged, incomplete, unsafe or of another format is refused before anything reads it."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from fastspan.bundle.folder import Bundle, sha256_of
from fastspan.bundle.manifest import MANIFEST, Manifest
from fastspan.bundle.whole_files import open_regular
from fastspan.errors import BundleError, ChecksumMismatch, IncompatibleBundle
from support.bundles.tiny_manifest import tiny_graph, tiny_manifest, tiny_variant

FILES = {
    "config.json": b'{"model_type": "bert"}',
    "tokenizer.json": b'{"version": "1.0"}',
    "tokenizer_config.json": b"{}",
    "onnx/model.onnx": b"the fp32 graph",
    "onnx/model.onnx_data": b"the fp32 weights" * 99,
    "onnx/model_int8.onnx": b"the int8 graph",
    "README.md": b"# A model card\n",
}


def manifest_of(files):
    fp32 = tiny_graph("onnx/model.onnx", data=("onnx/model.onnx_data",))
    return tiny_manifest(
        tiny_variant("fp32", fp32, size=1),
        tiny_variant("int8", tiny_graph("onnx/model_int8.onnx"), target="VNNI", size=1),
        files=files,
    )


def write(folder, files=FILES):
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    (folder / MANIFEST).write_bytes(manifest_of(files).to_json())
    return folder


def rewrite_manifest(folder, change):
    """Change the manifest's JSON and give it a right digest, as a forger would."""
    path = folder / MANIFEST
    document = json.loads(path.read_bytes())
    document["digest"] = "0" * 64
    change(document)
    data = json.dumps(document, indent=2).encode()
    path.write_bytes(data.replace(b"0" * 64, sha256(data).hexdigest().encode()))


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "bundle")


def test_a_whole_bundle_opens_and_verifies(folder):
    bundle = Bundle.open(folder)
    bundle.verify_all()
    assert bundle.folder == folder
    assert bundle.manifest == manifest_of(FILES)


def test_a_string_is_a_folder_too(folder):
    assert Bundle.open(str(folder)).folder == folder


def test_files_for_a_graph_are_what_loading_reads(folder):
    bundle = Bundle.open(folder)
    assert bundle.files_for(bundle.manifest.variants["fp32"].graphs[0]) == (
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "onnx/model.onnx",
        "onnx/model.onnx_data",
    )
    assert "onnx/model_int8.onnx" in bundle.files_for(bundle.manifest.variants["int8"].graphs[0])


def test_sha256_of_a_file_larger_than_a_chunk(tmp_path):
    data = os.urandom((1 << 20) * 2 + 17)
    (tmp_path / "large").write_bytes(data)
    assert sha256_of(tmp_path / "large") == sha256(data).hexdigest()


PROMISED = [path for path in FILES if path != "README.md"]


class TestIntegrity:
    @pytest.mark.parametrize("path", PROMISED)
    @pytest.mark.parametrize("position", ["first", "middle", "last"])
    def test_a_flipped_byte_in_any_file(self, folder, path, position):
        data = bytearray((folder / path).read_bytes())
        data[{"first": 0, "middle": len(data) // 2, "last": -1}[position]] ^= 1
        (folder / path).write_bytes(data)
        bundle = Bundle.open(folder)
        with pytest.raises(
            ChecksumMismatch, match=f"{path} is not the file .* copy the bundle again or export"
        ):
            bundle.verify_all()

    def test_only_what_is_asked_for_is_hashed(self, folder):
        (folder / "onnx/model_int8.onnx").write_bytes(FILES["onnx/model_int8.onnx"][::-1])
        bundle = Bundle.open(folder)
        bundle.verified(bundle.files_for(bundle.manifest.variants["fp32"].graphs[0]))
        with pytest.raises(ChecksumMismatch, match="model_int8"):
            bundle.verified(bundle.files_for(bundle.manifest.variants["int8"].graphs[0]))

    def test_a_flip_of_any_byte_of_the_manifest(self, folder):
        path = folder / MANIFEST
        data = path.read_bytes()
        for position in range(len(data)):
            for bit in (0x01, 0x20):
                flipped = bytearray(data)
                flipped[position] ^= bit
                with pytest.raises(BundleError):
                    Manifest.from_json(bytes(flipped))

    def test_a_flipped_byte_of_the_manifest_fails_at_open(self, folder):
        path = folder / MANIFEST
        path.write_bytes(path.read_bytes().replace(b'"tiny"', b'"tinx"', 1))
        with pytest.raises(ChecksumMismatch, match=r"fastspan\.json is not the file that was exported"):
            Bundle.open(folder)

    @pytest.mark.parametrize("path", PROMISED)
    @pytest.mark.parametrize("size", [0, -1], ids=["emptied", "cut by one byte"])
    def test_a_truncated_file(self, folder, path, size):
        (folder / path).write_bytes(FILES[path][:size])
        with pytest.raises(
            ChecksumMismatch, match=rf"{path} is not .* \(\d+ bytes, expected {len(FILES[path])}\)"
        ):
            Bundle.open(folder)

    def test_a_longer_file(self, folder):
        with (folder / "onnx/model.onnx").open("ab") as file:
            file.write(b"\0")
        with pytest.raises(ChecksumMismatch, match=r"onnx/model\.onnx"):
            Bundle.open(folder)

    def test_a_truncated_manifest(self, folder):
        data = (folder / MANIFEST).read_bytes()
        for size in range(len(data)):
            with pytest.raises(BundleError):
                Manifest.from_json(data[:size])

    @pytest.mark.parametrize("path", PROMISED)
    def test_a_missing_file(self, folder, path):
        (folder / path).unlink()
        with pytest.raises(BundleError, match=f"lacks {path}, which its manifest lists"):
            Bundle.open(folder)

    @pytest.mark.parametrize(
        "path", ["README.md", "LICENSE", "notes.txt", "onnx/model_old.onnx", "deep/er/file"]
    )
    def test_card_licence_and_unknown_files_are_no_part_of_the_promise(self, folder, path):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"another line")
        Bundle.open(folder).verify_all()

    def test_a_bundle_without_its_card(self, folder):
        (folder / "README.md").unlink()
        Bundle.open(folder).verify_all()

    @pytest.mark.parametrize("path", PROMISED)
    def test_what_is_read_is_what_was_verified(self, folder, path):
        bundle = Bundle.open(folder)
        assert bundle.read(path) == {path: FILES[path]}
        (folder / path).write_bytes(FILES[path][::-1])
        with pytest.raises(ChecksumMismatch, match=f"{path} is not the file that was exported"):
            bundle.read(*PROMISED)
        (folder / path).write_bytes(FILES[path] + b"more")
        with pytest.raises(ChecksumMismatch, match=f"{path} is not the file that was exported"):
            bundle.read(*PROMISED)

    def test_what_was_opened_is_read_to_its_end_while_the_folder_is_replaced(self, folder, monkeypatch):
        bundle = Bundle.open(folder)
        opened = []

        def open_and_replace(path):
            file = open_regular(path)
            opened.append(path)
            if len(opened) == len(PROMISED):
                shutil.move(folder, folder.with_name("old"))
                shutil.rmtree(folder.with_name("old"))
            return file

        monkeypatch.setattr("fastspan.bundle.folder.open_regular", open_and_replace)
        assert bundle.read(*PROMISED) == {path: FILES[path] for path in PROMISED}

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the platform has no named pipes")
    def test_a_pipe_that_takes_a_files_place_is_not_waited_on(self, folder):
        bundle = Bundle.open(folder)
        (folder / "config.json").unlink()
        os.mkfifo(folder / "config.json")
        with pytest.raises(BundleError, match="not a regular file"):
            bundle.read("config.json")

    def test_what_hubs_and_file_managers_add_is_passed_over(self, folder):
        for path in (".DS_Store", "onnx/.DS_Store", "onnx/.cache/deeper/lock"):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(b"")
        (folder / ".gitattributes").write_text("*.onnx filter=lfs")
        (folder / ".cache" / "huggingface").mkdir(parents=True)
        (folder / ".cache" / "huggingface" / "download.lock").write_text("")
        Bundle.open(folder).verify_all()

    def test_a_git_lfs_pointer_says_how_to_get_the_file(self, folder):
        (folder / "onnx/model.onnx").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
        with pytest.raises(ChecksumMismatch, match="git lfs pull"):
            Bundle.open(folder)

    def test_a_file_that_goes_away_after_opening(self, folder):
        bundle = Bundle.open(folder)
        (folder / "tokenizer.json").unlink()
        with pytest.raises(BundleError, match="cannot be read"):
            bundle.verify_all()

    def test_a_path_the_manifest_does_not_list_is_never_verified(self, folder):
        with pytest.raises(BundleError, match="not listed"):
            Bundle.open(folder).verified(["../bundle/config.json"])


class TestPaths:
    @pytest.mark.parametrize(
        "path",
        [
            "../secret",
            "onnx/../../secret",
            "onnx/..",
            "/etc/passwd",
            "//server/share",
            "C:/secret",
            "C:secret",
            "onnx\\model.onnx",
            "..\\secret",
            "onnx/model.onnx\0.txt",
            "onnx/model.onnx:stream",
            "./config.json",
            "onnx//model.onnx",
            "onnx/",
            "",
            ".",
            "..",
            "config.json.",
            "config.json ",
            "config.json\n",
            "ｃonfig.json",
        ],
    )
    def test_an_unsafe_path_in_the_manifest(self, folder, path):
        record = {"sha256": "1" * 64, "bytes": 0}
        rewrite_manifest(folder, lambda document: document["files"].update({path: record}))
        with pytest.raises(BundleError, match="no path that a bundle may list"):
            Bundle.open(folder)

    def test_a_graph_outside_the_bundle(self, folder):
        def point_out(document):
            document["variants"]["fp32"]["graphs"][0]["file"] = "../model.onnx"

        rewrite_manifest(folder, point_out)
        with pytest.raises(BundleError, match=r"needs \.\./model\.onnx but does not list it"):
            Bundle.open(folder)

    @pytest.mark.parametrize("path", ["config.json", "onnx/model.onnx", MANIFEST])
    def test_a_link_that_leads_out(self, folder, path):
        shutil.move(folder / path, folder.parent / "outside")
        (folder / path).symlink_to(folder.parent / "outside")
        with pytest.raises(BundleError, match="leads out of the bundle"):
            Bundle.open(folder)

    def test_a_folder_that_is_a_link(self, folder):
        shutil.move(folder / "onnx", folder.parent / "outside")
        (folder / "onnx").symlink_to(folder.parent / "outside")
        with pytest.raises(BundleError, match="link to a folder"):
            Bundle.open(folder)

    @pytest.mark.parametrize("target", ["nowhere", "model.onnx"], ids=["dangling", "loop"])
    def test_a_link_that_leads_nowhere(self, folder, target):
        (folder / "onnx/model.onnx").unlink()
        (folder / "onnx/model.onnx").symlink_to(target)
        with pytest.raises(BundleError, match="leads nowhere"):
            Bundle.open(folder)

    def test_links_into_the_contents_of_a_hub_cache_are_followed_if_named(self, folder):
        blobs = folder.parent / "blobs"
        blobs.mkdir()
        for path in (*FILES, MANIFEST):
            blob = blobs / sha256_of(folder / path)
            (folder / path).rename(blob)
            (folder / path).symlink_to(os.path.relpath(blob, (folder / path).parent))
        with pytest.raises(BundleError, match="leads out of the bundle"):
            Bundle.open(folder)
        Bundle.open(folder, links_into=blobs).verify_all()
        with pytest.raises(BundleError, match="leads out of the bundle"):
            Bundle.open(folder, links_into=folder.parent / "blob")

    def test_a_bundle_reached_through_a_link(self, folder):
        (folder.parent / "current").symlink_to(folder)
        Bundle.open(folder.parent / "current").verify_all()

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the platform has no named pipes")
    def test_a_pipe_is_not_waited_on(self, folder):
        (folder / "config.json").unlink()
        os.mkfifo(folder / "config.json")
        record = {"sha256": "1" * 64, "bytes": 0}
        rewrite_manifest(folder, lambda document: document["files"].update({"config.json": record}))
        with pytest.raises(BundleError, match="not a regular file"):
            Bundle.open(folder)

    @pytest.mark.parametrize(
        "name",
        [
            "pytorch_model.bin",
            "a.pkl",
            "a.pickle",
            "a.pt",
            "a.pth",
            "a.ckpt",
            "a.joblib",
            "a.npy",
            "a.npz",
            "A.PKL",
        ],
    )
    @pytest.mark.parametrize("listed", [True, False])
    def test_a_pickled_file_whatever_the_manifest_says(self, folder, name, listed):
        (folder / "onnx" / name).write_bytes(b"\x80\x04.")
        if listed:
            record = {"sha256": sha256(b"\x80\x04.").hexdigest(), "bytes": 3}
            rewrite_manifest(folder, lambda document: document["files"].update({f"onnx/{name}": record}))
        with pytest.raises(BundleError, match=f"onnx/{name} is a pickled or NumPy file"):
            Bundle.open(folder)


class TestOtherFolders:
    def test_missing(self, tmp_path):
        with pytest.raises(BundleError, match="does not exist"):
            Bundle.open(tmp_path / "nothing")

    def test_a_file(self, folder):
        with pytest.raises(BundleError, match="is a file"):
            Bundle.open(folder / MANIFEST)

    @pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin", "flax_model.msgpack"])
    def test_a_checkpoint_names_the_command(self, tmp_path, weights):
        (tmp_path / "config.json").write_text("{}")
        (tmp_path / weights).write_bytes(b"")
        with pytest.raises(
            BundleError, match=f"checkpoint, not a bundle: run `fastspan export {tmp_path} --out"
        ):
            Bundle.open(tmp_path)

    def test_any_other_folder(self, tmp_path):
        with pytest.raises(BundleError, match=r"holds no fastspan\.json"):
            Bundle.open(tmp_path)

    def test_a_manifest_that_is_a_folder(self, tmp_path):
        (tmp_path / MANIFEST).mkdir()
        with pytest.raises(BundleError, match="not a regular file"):
            Bundle.open(tmp_path)

    def test_a_manifest_too_large_to_be_one(self, folder):
        os.truncate(folder / MANIFEST, (16 << 20) + 1)
        with pytest.raises(BundleError, match="larger than any manifest"):
            Bundle.open(folder)

    def test_another_major_format(self, folder):
        rewrite_manifest(folder, lambda document: document.update(format="2.3"))
        with pytest.raises(
            IncompatibleBundle, match=r"format 2\.3, .* reads format 1\.x: export .* or upgrade"
        ):
            Bundle.open(folder)

    @pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind this user")
    def test_a_folder_that_may_not_be_read(self, folder):
        (folder / "onnx").chmod(0)
        try:
            with pytest.raises(BundleError, match="cannot be read"):
                Bundle.open(folder)
        finally:
            (folder / "onnx").chmod(0o755)


def test_opening_does_not_change_the_folder(folder):
    before = {path: path.stat() for path in folder.rglob("*")}
    Bundle.open(folder).verify_all()
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == {
        path: status.st_mtime_ns for path, status in before.items()
    }


def test_a_bundle_is_a_value(folder):
    bundle = Bundle.open(folder)
    assert bundle == Bundle.open(Path(folder))
    assert replace(bundle, folder=folder.parent) != bundle
