"""A bundle's folder is absent or whole at every moment, whoever writes it and whatever stops them."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest

from fastspan.bundle.beside.calibrations import Calibration, SetConfidence, SetCurve, SetCurves
from fastspan.bundle.beside.file_lock import FileLock
from fastspan.bundle.folder import Bundle
from fastspan.bundle.manifest import MANIFEST, Confidence, FileRecord, FittedOn, NoAnswer, Source
from fastspan.errors import BundleError, ChecksumMismatch
from fastspan.export.publishing import placing
from fastspan.export.publishing.bundle_writer import update_manifest, write_bundle
from fastspan.export.publishing.placing import exchange, move_into_place
from support.bundles.tiny_manifest import tiny_graph, tiny_manifest, tiny_variant
from support.paths import PROGRAMS

KILLER = PROGRAMS / "kill_at_step.py"
FILES = {
    "config.json": b"{}",
    "tokenizer.json": b"{}",
    "onnx/model.onnx": b"graph",
    "onnx/model.onnx_data": b"weights",
    "README.md": b"# Card\n",
}


def manifest(name="tiny"):
    graph = tiny_graph(data=("onnx/model.onnx_data",))
    return tiny_manifest(tiny_variant("fp32", graph), name=name)


def fill(folder, files=FILES):
    for path, data in files.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(data)


def export(destination, name="tiny", *, files=FILES, options=None, **others):
    with write_bundle(destination, **(options or {})) as draft:
        fill(draft.folder, files)
        return draft.commit(replace(manifest(name), **others))


def name_at(destination):
    bundle = Bundle.open(destination)
    bundle.verify_all()
    return bundle.manifest.name


@pytest.fixture
def destination(tmp_path):
    return tmp_path / "model"


@pytest.fixture(params=["exchanged", "set aside"])
def replacing(request, monkeypatch):
    """Both ways in which an old bundle is replaced."""
    if request.param == "set aside":
        monkeypatch.setattr(placing, "exchange", lambda one, other: False)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class TestWriting:
    def test_the_bundle_lies_at_its_destination_and_verifies(self, destination):
        bundle = export(destination)
        assert bundle == Bundle.open(destination)
        bundle.verify_all()
        assert names(destination.parent) == ["model"]
        assert names(destination) == sorted(["README.md", "config.json", MANIFEST, "onnx", "tokenizer.json"])

    def test_files_and_sizes_are_measured(self, destination):
        found = export(destination).manifest
        assert dict(found.files) == {
            path: FileRecord(sha256=sha256(data).hexdigest(), bytes=len(data)) for path, data in FILES.items()
        }
        assert found.variants["fp32"].bytes == len(b"graph" + b"weights")

    def test_nothing_is_there_before_the_commit(self, destination):
        with write_bundle(destination) as draft:
            fill(draft.folder)
            assert not destination.exists()
            assert draft.folder.parent.parent == destination.parent
            draft.commit(manifest())
            assert destination.exists()

    def test_parent_folders_are_made(self, tmp_path):
        export(tmp_path / "a" / "b" / "model")
        assert name_at(tmp_path / "a" / "b" / "model") == "tiny"

    def test_a_relative_destination_stays_where_it_was_named(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "elsewhere").mkdir()
        with write_bundle("model") as draft:
            fill(draft.folder)
            monkeypatch.chdir(tmp_path / "elsewhere")
            draft.commit(manifest())
        assert name_at(tmp_path / "model") == "tiny"

    def test_an_empty_folder_is_taken(self, destination):
        destination.mkdir()
        export(destination)
        assert name_at(destination) == "tiny"

    @pytest.mark.skipif(os.name == "nt", reason="modes are those of POSIX")
    def test_others_may_read_it_as_the_user_allows(self, destination):
        before = os.umask(0o022)
        try:
            export(destination)
        finally:
            os.umask(before)
        assert stat.S_IMODE(destination.stat().st_mode) == 0o755
        assert stat.S_IMODE((destination / MANIFEST).stat().st_mode) == 0o644

    @pytest.mark.usefixtures("replacing")
    def test_an_old_bundle_is_replaced(self, destination):
        export(destination, "old", files={**FILES, "old_tokens.json": b"[]"})
        export(destination, "new")
        assert name_at(destination) == "new"
        assert names(destination.parent) == ["model"]

    @pytest.mark.usefixtures("replacing")
    def test_the_bundle_behind_a_link_is_replaced(self, tmp_path):
        export(tmp_path / "v1", "old")
        (tmp_path / "current").symlink_to("v1")
        export(tmp_path / "current", "new")
        assert (tmp_path / "current").is_symlink()
        assert name_at(tmp_path / "v1") == "new"

    def test_a_bundle_of_another_format_or_damaged_can_be_replaced(self, destination):
        destination.mkdir()
        (destination / MANIFEST).write_text('{"format": "9.0"}')
        export(destination, "new")
        assert name_at(destination) == "new"

    def test_everything_is_brought_to_disk_before_the_move(self, destination, monkeypatch):
        synced = set()
        missing = []

        def fsync(descriptor):
            synced.add(os.fstat(descriptor).st_ino)

        def move(folder, target):
            missing.extend(path for path in [folder, *folder.rglob("*")] if path.stat().st_ino not in synced)
            assert destination.parent.stat().st_ino not in synced
            folder.rename(target)

        monkeypatch.setattr(os, "fsync", fsync)
        export(destination, options={"move": move})
        assert missing == []
        assert destination.parent.stat().st_ino in synced

    def test_the_move_is_made_under_the_lock(self, destination):
        seen = []

        def watched(folder, target):
            seen.append(FileLock.take(destination.with_name(".model.lock")))
            move_into_place(folder, target)

        export(destination, options={"move": watched})
        assert seen == [None]


class TestRefusals:
    def test_a_folder_that_is_no_bundle(self, destination):
        destination.mkdir()
        (destination / "thesis.tex").write_text("years of work")
        with pytest.raises(BundleError, match="is no bundle"):
            export(destination)
        assert names(destination) == ["thesis.tex"]
        assert names(destination.parent) == ["model"]

    @pytest.mark.parametrize(
        "manifest",
        [
            b"{}",
            b"[]",
            b"",
            b"{",
            b'{"format": 1}',
            b'{"format": "new"}',
            b"[" * 100_000,
            b"\xff",
            b'{"name": "span"}',
        ],
    )
    def test_a_folder_of_someone_elses_that_holds_a_file_of_that_name(self, destination, manifest):
        destination.mkdir()
        (destination / MANIFEST).write_bytes(manifest)
        (destination / "thesis.tex").write_text("years of work")
        with pytest.raises(BundleError, match="is no manifest of FastSpan"):
            export(destination)
        assert names(destination) == [MANIFEST, "thesis.tex"]

    @pytest.mark.parametrize("path", ["thesis.tex", "onnx/notes.txt", ".env", ".secret/key", "deep/er/file"])
    def test_a_bundle_with_files_of_someone_elses(self, destination, path):
        export(destination, "old")
        (destination / path).parent.mkdir(parents=True, exist_ok=True)
        (destination / path).write_text("years of work")
        with pytest.raises(BundleError, match=f"holds {path}, which no export wrote and .* would delete"):
            export(destination, "new")
        assert (destination / path).read_text() == "years of work"
        assert name_at(destination) == "old"

    def test_a_link_to_a_folder_of_someone_elses(self, destination):
        export(destination, "old")
        (destination / "data").symlink_to(destination.parent)
        with pytest.raises(BundleError, match="holds data, which no export wrote"):
            export(destination, "new")

    def test_files_that_came_while_the_draft_was_made(self, destination):
        export(destination, "old")
        with pytest.raises(BundleError, match="holds late, which"), write_bundle(destination) as draft:
            fill(draft.folder)
            (destination / "late").write_text("years of work")
            draft.commit(manifest())
        assert (destination / "late").exists()

    @pytest.mark.parametrize(
        "path", [".DS_Store", "onnx/.DS_Store", ".gitattributes", ".cache/huggingface/x"]
    )
    def test_what_file_managers_and_hubs_leave_is_no_reason(self, destination, path):
        export(destination, "old")
        (destination / path).parent.mkdir(parents=True, exist_ok=True)
        (destination / path).write_text("")
        (destination / "README.md").write_text("# Another card")
        export(destination, "new")
        assert name_at(destination) == "new"

    def test_the_root_of_the_file_system(self):
        with pytest.raises(BundleError, match="root of a file system"):
            export(Path("/"))

    def test_a_working_tree_whose_history_would_be_lost(self, destination):
        export(destination, "old")
        (destination / ".git").mkdir()
        with pytest.raises(BundleError, match="Git working tree"):
            export(destination, "new")
        assert name_at(destination) == "old"

    def test_a_file(self, destination):
        destination.write_text("")
        with pytest.raises(BundleError, match="is a file"):
            export(destination)

    def test_a_parent_that_is_a_file(self, destination):
        destination.write_text("")
        with pytest.raises(BundleError, match="could not be written"):
            export(destination / "model")

    @pytest.mark.parametrize("missing", sorted(FILES.keys() - {"README.md"}))
    def test_a_draft_without_a_file_that_is_needed(self, destination, missing):
        export(destination, "old")
        rest = {path: data for path, data in FILES.items() if path != missing}
        with pytest.raises(BundleError, match=f"needs {missing}"):
            export(destination, "new", files=rest)
        assert name_at(destination) == "old"
        assert names(destination.parent) == ["model"]

    @pytest.mark.parametrize(
        ("path", "message"),
        [("pytorch_model.bin", "pickled"), ("a b.json", "no path that a bundle may list")],
    )
    def test_a_draft_that_could_not_be_opened(self, destination, path, message):
        with pytest.raises(BundleError, match=message):
            export(destination, files={**FILES, path: b""})
        assert names(destination.parent) == []

    def test_a_draft_with_a_link_that_leads_out(self, destination):
        (destination.parent / "outside").write_bytes(b"weights")
        with pytest.raises(BundleError, match="leads out of the bundle"), write_bundle(destination) as draft:
            fill(draft.folder)
            (draft.folder / "onnx/model.onnx").unlink()
            (draft.folder / "onnx/model.onnx").symlink_to(destination.parent / "outside")
            draft.commit(manifest())
        assert names(destination.parent) == ["outside"]

    def test_an_exception_of_the_exporter_passes_and_leaves_the_old_bundle(self, destination):
        export(destination, "old")
        with pytest.raises(OSError, match="mine"), write_bundle(destination) as draft:
            fill(draft.folder)
            raise OSError("mine")
        assert name_at(destination) == "old"
        assert names(destination.parent) == ["model"]

    def test_a_block_without_a_commit(self, destination):
        with pytest.raises(RuntimeError, match="without a call of commit"), write_bundle(destination):
            pass
        assert names(destination.parent) == []

    @pytest.mark.usefixtures("replacing")
    def test_a_full_disk(self, destination, monkeypatch):
        export(destination, "old")

        def fsync(descriptor):
            raise OSError(errno.ENOSPC, "No space left on device")

        with (
            monkeypatch.context() as patched,
            pytest.raises(BundleError, match=r"No space left .* mend"),
        ):
            patched.setattr(os, "fsync", fsync)
            export(destination, "new")
        assert name_at(destination) == "old"
        assert names(destination.parent) == ["model"]

    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
    @pytest.mark.parametrize("file", [None, "/models/x/onnx/model.onnx"])
    def test_a_disk_that_is_full_while_the_draft_is_written(self, destination, code, file):
        export(destination, "old")
        told = r"could not be written .*MB are free in .*make room"
        with pytest.raises(BundleError, match=told) as caught, write_bundle(destination):
            raise OSError(code, os.strerror(code), file)
        assert (file or str(destination)) in str(caught.value)
        assert name_at(destination) == "old"
        assert names(destination.parent) == ["model"]

    @pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")
    def test_sigterm_clears_what_was_begun(self, destination):
        export(destination, "old")
        code = """
import sys, time
from fastspan.export.publishing.bundle_writer import write_bundle
with write_bundle(sys.argv[1]) as draft:
    (draft.folder / "config.json").write_text("{}")
    print("begun", flush=True)
    time.sleep(60)
"""
        with subprocess.Popen([sys.executable, "-c", code, destination], stdout=subprocess.PIPE) as writer:
            assert writer.stdout.readline() == b"begun\n"
            assert names(destination.parent) != ["model"]
            writer.terminate()
            assert writer.wait(60) == 143
        assert names(destination.parent) == ["model"]
        assert name_at(destination) == "old"

    @pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")
    def test_a_handler_of_the_programs_own_is_left_alone(self, destination):
        seen = []
        before = signal.signal(signal.SIGTERM, lambda *_: seen.append("mine"))
        try:
            with write_bundle(destination) as draft:
                os.kill(os.getpid(), signal.SIGTERM)
                fill(draft.folder)
                draft.commit(manifest())
        finally:
            signal.signal(signal.SIGTERM, before)
        assert seen == ["mine"]
        with write_bundle(destination) as draft:
            fill(draft.folder)
            draft.commit(manifest())
        assert signal.getsignal(signal.SIGTERM) is before

    def test_the_old_bundle_is_put_back_if_the_new_one_cannot_take_its_place(self, destination, monkeypatch):
        export(destination, "old")
        rename = Path.rename

        def fail_for_the_new_one(path, target):
            if path.name == "bundle":
                raise OSError(errno.EIO, "Input/output error")
            return rename(path, target)

        monkeypatch.setattr(placing, "exchange", lambda one, other: False)
        monkeypatch.setattr(Path, "rename", fail_for_the_new_one)
        with pytest.raises(BundleError, match="Input/output error"):
            export(destination, "new")
        assert name_at(destination) == "old"
        assert names(destination.parent) == ["model"]


@pytest.mark.skipif(sys.platform != "linux", reason="the exchange is a call of Linux")
class TestExchange:
    def test_two_folders_change_places(self, tmp_path):
        (tmp_path / "a" / "in a").mkdir(parents=True)
        (tmp_path / "b" / "in b").mkdir(parents=True)
        if not exchange(tmp_path / "a", tmp_path / "b"):
            pytest.skip("this file system has no exchange")
        assert names(tmp_path / "a") == ["in b"]
        assert names(tmp_path / "b") == ["in a"]

    @pytest.mark.parametrize("code", [errno.ENOSYS, errno.EINVAL, errno.ENOTSUP])
    def test_a_file_system_that_cannot_is_no_error(self, tmp_path, monkeypatch, code):
        def renameat2(*arguments):
            ctypes.set_errno(code)
            return -1

        monkeypatch.setattr(ctypes, "CDLL", lambda name, **options: SimpleNamespace(renameat2=renameat2))
        assert not exchange(tmp_path / "a", tmp_path / "b")

    def test_nor_is_a_system_library_without_the_call(self, tmp_path, monkeypatch):
        monkeypatch.setattr(ctypes, "CDLL", lambda name, **options: SimpleNamespace())
        assert not exchange(tmp_path / "a", tmp_path / "b")

    def test_a_refusal_of_the_system_is_not_swallowed(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="nothing"):
            exchange(tmp_path / "nothing", tmp_path / "neither")


class TestSeveralWriters:
    @pytest.mark.usefixtures("replacing")
    def test_the_last_to_commit_wins(self, destination):
        with write_bundle(destination) as one:
            with write_bundle(destination) as two:
                assert one.folder != two.folder
                fill(one.folder)
                fill(two.folder)
                two.commit(manifest("two"))
            assert name_at(destination) == "two"
            one.commit(manifest("one"))
        assert name_at(destination) == "one"
        assert names(destination.parent) == ["model"]

    @pytest.mark.stress
    @pytest.mark.usefixtures("replacing")
    def test_threads(self, destination):
        failures = []

        def work(name):
            try:
                for _ in range(10):
                    export(destination, name)
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(name,)) for name in ("one", "two", "three")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert name_at(destination) in ("one", "two", "three")
        assert names(destination.parent) == ["model"]

    @pytest.mark.stress
    def test_processes(self, destination):
        export(destination, "old")
        (destination.parent / "trial").mkdir()
        (destination.parent / "trial 2").mkdir()
        exchanges = exchange(destination.parent / "trial", destination.parent / "trial 2")
        (destination.parent / "trial").rmdir()
        (destination.parent / "trial 2").rmdir()
        writers = [
            subprocess.Popen([sys.executable, KILLER, destination.parent, "export", name, "40"])
            for name in ("one", "two")
        ]
        while any(writer.poll() is None for writer in writers):
            if exchanges:
                assert destination.is_dir()
        assert [writer.returncode for writer in writers] == [0, 0]
        assert name_at(destination) in ("one", "two")
        assert names(destination.parent) == ["model"]

    def test_another_writer_that_never_lets_go(self, destination):
        held = FileLock.take(destination.with_name(".model.lock"))
        with held, pytest.raises(BundleError, match="Another process has been moving a bundle"):
            export(destination, options={"lock_wait": 0.05})
        export(destination)

    def test_a_file_system_whose_locks_exclude_their_own_holder(self, destination, monkeypatch):
        take = FileLock.take
        monkeypatch.setattr(
            FileLock, "take", lambda path, wait=0.0: None if path.name == "lock" else take(path, wait=wait)
        )
        with pytest.raises(BundleError, match="locks do not work"):
            export(destination)

    def test_a_file_system_without_locks(self, destination, monkeypatch):
        def refuse(path, *, wait=0.0):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(FileLock, "take", refuse)
        with pytest.raises(BundleError, match="No locks available"):
            export(destination)


class TestStaleWorkshops:
    def workshop(self, destination, name=".model.export-4194305-0123abcd"):
        folder = destination.parent / name
        (folder / "bundle" / "onnx").mkdir(parents=True)
        (folder / "bundle" / "config.json").write_text("{")
        (folder / "lock").write_text("")
        return folder

    def test_what_a_dead_writer_left_is_cleared(self, destination):
        self.workshop(destination)
        # This process's own number, as a container that was started again has it.
        self.workshop(destination, f".model.export-{os.getpid()}-0123abcd")
        export(destination)
        assert names(destination.parent) == ["model"]

    def test_even_if_it_died_before_it_had_its_lock(self, destination):
        (self.workshop(destination) / "lock").unlink()
        export(destination)
        assert names(destination.parent) == ["model"]

    def test_what_a_living_writer_uses_is_left_alone(self, destination):
        folder = self.workshop(destination)
        with FileLock.take(folder / "lock"):
            export(destination)
            assert (folder / "bundle" / "config.json").exists()

    @pytest.mark.parametrize(
        "name",
        [
            ".models.export-1-0123abcd",
            ".model.export-1-0123abcde",
            "model.export-1-0123abcd",
            ".model.export-x-0123abcd",
        ],
    )
    def test_what_another_destination_or_user_owns_is_left_alone(self, destination, name):
        folder = self.workshop(destination, name)
        export(destination)
        assert (folder / "bundle" / "config.json").exists()

    @pytest.mark.parametrize("there", [False, True])
    def test_an_old_bundle_that_was_set_aside_comes_back_if_nothing_took_its_place(self, destination, there):
        if there:
            export(destination, "there")
        export(self.workshop(destination) / "previous", "set aside")
        with pytest.raises(OSError, match="mine"), write_bundle(destination):
            raise OSError("mine")
        assert name_at(destination) == ("there" if there else "set aside")


FIT = FittedOn(name="dev", questions=90, sha256="1" * 64, reported_on_questions=90)
CALIBRATED = {
    "no_answer": NoAnswer(threshold=1.5, fitted_on=FIT),
    "confidence": Confidence(
        answered_scale=1.0,
        answered_offset=0.0,
        abstained_scale=-1.0,
        abstained_offset=0.0,
        fitted_on=FIT,
        ece=0.01,
    ),
}


def source(digest):
    return Source(id="tiny", revision=None, sha256={"model.safetensors": digest * 64}, format="safetensors")


class TestCalibration:
    def export(self, destination, digest, **others):
        with write_bundle(destination) as draft:
            fill(draft.folder)
            bundle = draft.commit(replace(manifest(), source=source(digest), **others))
        return bundle.manifest.no_answer, bundle.manifest.confidence, draft.calibration

    def test_it_is_kept_where_the_weights_are_the_same(self, destination):
        assert self.export(destination, "1") == (NoAnswer(), None, "")
        update_manifest(destination, replace(Bundle.open(destination).manifest, **CALIBRATED))
        *kept, said = self.export(destination, "1")
        assert kept == [*CALIBRATED.values()]
        assert "(threshold 1.5) is kept" in said

    def test_it_is_dropped_and_that_is_said_where_the_weights_are_others(self, destination):
        self.export(destination, "1", **CALIBRATED)
        no_answer, confidence, said = self.export(destination, "2")
        assert (no_answer, confidence) == (NoAnswer(), None)
        assert "(threshold 1.5) is dropped" in said
        assert "fastspan calibrate" in said

    def test_the_checkpoints_own_goes_before(self, destination):
        self.export(destination, "1", **CALIBRATED)
        own = NoAnswer(threshold=-2.0, fitted_on=FIT)
        no_answer, _, said = self.export(destination, "1", no_answer=own)
        assert no_answer == own
        assert "gives way" in said
        assert self.export(destination, "1", no_answer=own)[2] == ""

    def test_sets_and_domains_are_kept_beside_the_checkpoints_own(self, destination):
        own = {"no_answer": NoAnswer(threshold=-2.0, fitted_on=FIT)}
        self.export(destination, "1", **own)
        curve = SetCurve(margin=1.0, rival=0.0, agreement=0.0, retriever=0.0, offset=0.0)
        curves = SetCurves(answered=curve, abstained=curve)
        sets = SetConfidence(
            passages=5, threshold=0.0, curves=curves, with_retriever=curves, fitted_on=FIT, ece=0.1
        )
        former = replace(
            Bundle.open(destination).manifest,
            sets=sets,
            domains={"law": Calibration(no_answer=NoAnswer(threshold=9.0))},
        )
        update_manifest(destination, former)
        said = self.export(destination, "1", **own)[2]
        assert said == (
            "what the former bundle held of sets and the domain law is kept: the weights are the same"
        )
        kept = Bundle.open(destination).manifest
        assert (kept.sets, kept.domains, kept.no_answer) == (sets, former.domains, own["no_answer"])
        said = self.export(destination, "1", no_answer=NoAnswer(threshold=3.0, fitted_on=FIT))[2]
        assert "(threshold -2) gives way to the checkpoint's own, and what it held of sets" in said
        assert Bundle.open(destination).manifest.domains == former.domains
        said = self.export(destination, "2", **own)[2]
        assert "sets and the domain law is dropped, because the weights are others" in said
        assert Bundle.open(destination).manifest.calibration() == Calibration(**own)


class TestUpdatingTheManifest:
    def test_the_rest_stays_as_it_is(self, destination):
        before = export(destination)
        calibrated = replace(before.manifest, no_answer=NoAnswer(threshold=1.5))
        update_manifest(destination, calibrated)
        after = Bundle.open(destination)
        after.verify_all()
        assert after.manifest == calibrated
        assert names(destination.parent) == ["model"]
        assert not list(destination.glob(".*"))

    def test_of_another_bundle(self, destination):
        before = export(destination)
        export(destination, files={**FILES, "onnx/model.onnx": b"other"})
        with pytest.raises(BundleError, match="exported again since"):
            update_manifest(destination, before.manifest)
        assert name_at(destination) == "tiny"

    def test_of_a_damaged_bundle(self, destination):
        before = export(destination)
        (destination / "tokenizer.json").write_bytes(b"")
        with pytest.raises(ChecksumMismatch):
            update_manifest(destination, before.manifest)

    def test_of_a_newer_format_whose_keys_would_be_lost(self, destination):
        before = export(destination)
        with pytest.raises(BundleError, match=r"format 1\.9, and rewriting it in format 1\.2 would lose"):
            update_manifest(destination, replace(before.manifest, format="1.9"))

    def test_of_an_older_format_takes_this_ones_number(self, destination):
        before = export(destination)
        old = replace(before.manifest, format="1.0")
        (destination / MANIFEST).write_bytes(old.to_json())
        assert Bundle.open(destination).manifest.format == "1.0"
        update_manifest(destination, old)
        assert Bundle.open(destination) == before

    def test_a_manifest_that_could_not_be_read_again(self, destination):
        before = export(destination)
        with pytest.raises(BundleError, match="not finite"):
            update_manifest(destination, replace(before.manifest, no_answer=NoAnswer(threshold=float("nan"))))
        assert Bundle.open(destination) == before
        assert not list(destination.glob(".*"))

    def test_what_a_killed_update_left_is_cleared(self, destination):
        before = export(destination)
        (destination / ".fastspan.json-0123abcd").write_text("{")
        (destination / ".fastspan.json.77-0123abcd").write_text("{")
        update_manifest(destination, before.manifest)
        assert not list(destination.glob(".*"))


SCENARIOS = {
    "new": ["absent", "new 0.0"],
    "exchange": ["old 0.0", "new 0.0"],
    "aside": ["old 0.0", "absent", "new 0.0"],
    "update": ["old 0.0", "old 1.0"],
}


@pytest.fixture(scope="module")
def killers(tmp_path_factory):
    """A process for each scenario, all at once, so that no core waits."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = {
        scenario: subprocess.Popen(
            [sys.executable, KILLER, tmp_path_factory.mktemp(scenario), scenario], **pipes
        )
        for scenario in SCENARIOS
    }
    yield started
    for process in started.values():
        process.kill()
        process.communicate()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the killed writers are forked")
@pytest.mark.parametrize(("scenario", "allowed"), SCENARIOS.items())
def test_killed_at_any_step(killers, scenario, allowed):
    """Before the move the old state is found, after it the new one, and never anything else."""
    said, complained = killers[scenario].communicate(timeout=300)
    assert killers[scenario].returncode == 0, complained
    kills = json.loads(said)
    found = [kill["found"] for kill in kills]
    assert len(kills) > 5
    assert set(found) <= set(allowed)
    assert (found[0], found[-1]) == (allowed[0], allowed[-1])
    assert found == sorted(found, key=allowed.index)
    for kill in kills:
        assert kill["after"] == ("old 1.0" if scenario == "update" else "next 0.0"), kill
        assert kill["left"] == ["model", "old"], kill
