"""A smaller bundle answers as the whole one does, and holds nothing that it does not need."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from fastspan import BundleError, ChecksumMismatch, InputError, QuestionAnswerer
from fastspan.bundle.folder import Bundle
from fastspan.bundle.manifest import NoAnswer
from fastspan.export.publishing.bundle_writer import update_manifest
from fastspan.export.publishing.slim import slim
from support.stand_ins.hub import ID, MAIN, Hub, serve, use_hub

PAIR = ("who built the tower", "the norse leader built the stone tower")


def answer(folder: Path, variant: str) -> object:
    with QuestionAnswerer.load(folder, variant=variant) as qa:
        return qa.answer(*PAIR)


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def whole(tiny_bundle: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "whole"
    shutil.copytree(tiny_bundle, folder)
    return folder


@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_the_variants_that_are_named_are_kept(whole: Path, tmp_path: Path, variant: str) -> None:
    update_manifest(whole, replace(Bundle.open(whole).manifest, no_answer=NoAnswer(threshold=2.5)))
    (whole / "LICENSE").write_text("as you like")
    (whole / "notes.txt").write_text("of no use")
    bundle = slim(whole, tmp_path / "slim", [variant])
    bundle.verify_all()
    assert bundle == Bundle.open(tmp_path / "slim")
    assert list(bundle.manifest.variants) == [variant]
    assert bundle.manifest.no_answer.threshold == 2.5
    graphs = Bundle.open(whole).manifest.variants[variant].files
    beside = {"config.json", "tokenizer.json", "tokenizer_config.json"}
    assert files(bundle.folder) == {*graphs, *beside, "fastspan.json", "README.md", "LICENSE"}
    assert answer(bundle.folder, "auto") == answer(whole, variant)
    card = (bundle.folder / "README.md").read_text(encoding="utf-8")
    other = "int8" if variant == "fp32" else "fp32"
    assert f"\n| {variant} |" in card
    assert f"\n| {other} |" not in card


def test_a_hub_id_brings_no_more_than_is_kept(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("huggingface_hub")
    contents = {path: (tiny_bundle / path).read_bytes() for path in files(tiny_bundle)}
    with serve(Hub(files={MAIN: contents})) as hub:
        use_hub(monkeypatch, hub.endpoint, tmp_path / "cache")
        bundle = slim(ID, tmp_path / "slim", ["int8"])
    assert hub.fetched() == files(bundle.folder) - {"README.md"}
    assert answer(bundle.folder, "int8") == answer(tiny_bundle, "int8")


@pytest.mark.parametrize(
    ("variants", "kind", "message"),
    [
        ([], InputError, "variants must name those to keep"),
        ("int8", InputError, "variants must name those to keep"),
        (["int4"], BundleError, "holds no variant 'int4'; it holds fp32, int8"),
    ],
)
def test_variants_that_are_not_there(
    whole: Path, tmp_path: Path, variants: list[str], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        slim(whole, tmp_path / "slim", variants)  # type: ignore[arg-type]
    assert not (tmp_path / "slim").exists()


def test_the_bundle_itself_is_not_slimmed_in_place(whole: Path) -> None:
    before = files(whole)
    with pytest.raises(InputError, match="out is the bundle itself"):
        slim(whole, whole, ["int8"])
    assert files(whole) == before


def test_a_damaged_bundle_leaves_nothing_behind(whole: Path, tmp_path: Path) -> None:
    data = bytearray((whole / "onnx/model_int8.onnx_data").read_bytes())
    data[5] ^= 1
    (whole / "onnx/model_int8.onnx_data").write_bytes(data)
    with pytest.raises(ChecksumMismatch, match="model_int8"):
        slim(whole, tmp_path / "slim", ["int8"])
    assert not (tmp_path / "slim").exists()
