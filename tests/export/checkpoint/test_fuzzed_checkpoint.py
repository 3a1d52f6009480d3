"""Whatever the files of a checkpoint say, reading and exporting it raise errors of ours alone."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastspan import FastSpanError
from fastspan.export import exporter
from fastspan.export.checkpoint.calibration import read_calibration
from fastspan.export.checkpoint.folder import CheckpointFolder
from fastspan.export.options import ExportOptions
from fastspan.export.progress import LineProgress
from fastspan.export.verification.checks import Effort
from support.fuzzing import check_message, fuzzed, watched
from support.mutations import bytes_of, files

TOKEN = {"content": "covid", "lstrip": False, "rstrip": False, "normalized": True, "single_word": False}
FILES = {
    "tokenizer_config.json": {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": True,
        "strip_accents": None,
        "tokenize_chinese_chars": True,
        "unk_token": "[UNK]",
        "mask_token": {**TOKEN, "content": "[MASK]", "special": True, "__type": "AddedToken"},
        "added_tokens_decoder": {"0": {**TOKEN, "content": "[PAD]", "special": True}},
    },
    "special_tokens_map.json": {
        "cls_token": "[CLS]",
        "mask_token": {**TOKEN, "content": "[MASK]"},
        "additional_special_tokens": ["[MASK]"],
    },
    "calibration.json": {
        "no_answer_threshold": 1.5,
        "fitted_on": {"name": "questions", "questions": 10, "sha256": "0" * 64, "half": "first"},
        "confidence": {
            "answered_scale": 1.0,
            "answered_offset": 0.0,
            "abstained_scale": -1.0,
            "abstained_offset": 0.0,
        },
        "reported_on": [{"name": "others", "questions": 5, "exact": 70.0, "f1": 80.0, "ece": 0.1}],
    },
}
NAMES = ["config.json", "tokenizer.json", *FILES]


@pytest.fixture(scope="module")
def whole(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A true checkpoint with every file that may lie beside the weights."""
    folder = tmp_path_factory.mktemp("whole") / "checkpoint"
    shutil.copytree(tiny_checkpoint, folder)
    for name, document in FILES.items():
        (folder / name).write_text(json.dumps(document), encoding="utf-8")
    return folder


def read(folder: Path) -> None:
    exporter._read(str(folder), ExportOptions())
    read_calibration(CheckpointFolder.open(folder))


def test_the_true_one_is_read(whole: Path) -> None:
    read(whole)


@pytest.mark.parametrize("name", NAMES)
@fuzzed(examples=60)
@given(change=st.data(), older=st.booleans())
def test_reading(whole: Path, name: str, change: st.DataObject, older: bool) -> None:
    data = change.draw(files((whole / name).read_bytes()))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "checkpoint")
        shutil.copytree(whole, folder)
        if older:
            # special_tokens_map.json counts only where the settings list no tokens.
            (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
        (folder / name).write_bytes(data)
        try:
            with watched():
                read(folder)
        except FastSpanError as error:
            check_message(error)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("config.json", "vocab_size"),
        ("config.json", "model_type"),
        ("config.json", "hidden_act"),
        ("tokenizer.json", "version"),
        ("tokenizer_config.json", "do_lower_case"),
        ("tokenizer_config.json", "unk_token"),
    ],
)
@pytest.mark.parametrize("value", ["a" * 100_000, "\x1b[2J\u202e"])
def test_a_message_quotes_no_value_at_length_nor_raw(
    whole: Path, tmp_path: Path, name: str, key: str, value: str
) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(whole, folder)
    document = json.loads((whole / name).read_bytes())
    (folder / name).write_bytes(bytes_of({**document, key: value}))
    try:
        read(folder)
    except FastSpanError as error:
        check_message(error)


@fuzzed(examples=4)
@given(change=st.data(), name=st.sampled_from(NAMES))
def test_exporting(whole: Path, change: st.DataObject, name: str) -> None:
    data = change.draw(files((whole / name).read_bytes()))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "checkpoint")
        shutil.copytree(whole, folder)
        (folder / name).write_bytes(data)
        options = ExportOptions(
            variants=("fp32",), allow_parity_loss=True, pytorch=False, effort=Effort(work=0, fewest=3)
        )
        try:
            with watched():
                exporter.export(folder, Path(place, "out"), options, progress=LineProgress(io.StringIO()))
        except FastSpanError as error:
            check_message(error)
