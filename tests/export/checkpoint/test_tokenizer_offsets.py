"""Offsets that miss the text are found in every script, corrected where they can be, and else refused."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import BPE

from fastspan.errors import CheckpointError
from fastspan.export.checkpoint import tokenizer_offsets
from fastspan.export.checkpoint.folder import CheckpointFolder
from fastspan.export.checkpoint.probe_texts import PROBE_TEXTS
from fastspan.export.checkpoint.read_tokenizer import read_tokenizer
from fastspan.export.checkpoint.tokenizer_offsets import offset_fault, with_offsets_that_fit
from support.models.offline_tokenizers import FAMILIES
from support.paths import MINILM

TEXT = "The bridge was built by Rollo in 1963, a year late."


def bytes_within_words(*, trim: bool, decoder: bool = True) -> Tokenizer:
    """RoBERTa's bytes behind a split at blanks: every word is given a space that is not in the text."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=True)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT] * 40, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), add_prefix_space=True, trim_offsets=trim
    )
    if decoder:
        tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def cut_words(text: str) -> list[str]:
    tokenizer = Tokenizer.from_str(text)
    encoding = tokenizer.encode(TEXT, add_special_tokens=False)
    return [TEXT[start:end] for start, end in encoding.offsets]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_families_in_use_pass(family):
    assert offset_fault(Tokenizer.from_str(FAMILIES[family]().to_str())) is None


def test_the_bundled_models_tokenizer_passes_unchanged():
    text = (MINILM / "tokenizer.json").read_text(encoding="utf-8")
    assert with_offsets_that_fit(text) == (text, None)


@pytest.mark.parametrize("decoder", [True, False])
def test_a_lost_first_letter_is_found_and_corrected(decoder):
    broken = bytes_within_words(trim=True, decoder=decoder)
    assert "ridge" in cut_words(broken.to_str())
    corrected, note = with_offsets_that_fit(broken.to_str())
    words = cut_words(corrected)
    assert {"bridge", "Rollo", "1963"} <= set(words)
    assert "trim_offsets of its post-processor is off now" in note
    repaired = Tokenizer.from_str(corrected)
    for text in PROBE_TEXTS:
        assert repaired.encode(text).ids == broken.encode(text).ids


class Shifted:
    """Stands before a tokenizer and moves its offsets, as a faulty component would."""

    def __init__(self, tokenizer: Tokenizer, move) -> None:
        self._tokenizer, self._move = tokenizer, move

    def __getattr__(self, name: str):
        return getattr(self._tokenizer, name)

    def encode(self, text: str, **options):
        found = self._tokenizer.encode(text, **options)
        offsets = [self._move(start, end, text) for start, end in found.offsets]
        return SimpleNamespace(tokens=found.tokens, offsets=offsets)


@pytest.mark.parametrize(
    ("move", "fault"),
    [
        (lambda start, end, text: (start + 1, end + 1), "points at"),
        (lambda start, end, text: (start, max(start, end - 1)), "points at"),
        (lambda start, end, text: (0, len(text)), "points at all of"),
        (lambda start, end, text: (end, start), "stands at"),
        (lambda start, end, text: (start, len(text) + 1), "stands at"),
        (
            lambda start, end, text: (len(text[:start].encode()), len(text[:end].encode())),
            "points at|stands at",
        ),
    ],
    ids=["shifted", "short", "everything", "reversed", "beyond", "bytes instead of characters"],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_other_faults_are_found_too(family, move, fault):
    found = offset_fault(Shifted(Tokenizer.from_str(FAMILIES[family]().to_str()), move))
    assert found is not None
    assert re.search(fault, found)


def test_a_text_that_the_normalizer_rewrites_is_left_out():
    tokenizer = Tokenizer.from_str(FAMILIES["wordpiece"]().to_str())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace("bridge", "tower"), normalizers.BertNormalizer()]
    )
    assert offset_fault(tokenizer) is None


def test_a_fault_without_a_remedy_names_the_tokenizers_files(tmp_path, monkeypatch):
    bytes_within_words(trim=False).save(str(tmp_path / "tokenizer.json"))
    monkeypatch.setattr(tokenizer_offsets, "offset_fault", lambda tokenizer: "the token 'a' points at 'b'")
    with pytest.raises(CheckpointError) as caught:
        read_tokenizer(CheckpointFolder.open(tmp_path), {"model_type": "roberta"})
    message = str(caught.value)
    assert "the token 'a' points at 'b'" in message
    assert "mend pre_tokenizer and post_processor in tokenizer.json" in message
    assert "\n" not in message


def test_a_vocabulary_without_its_unknown_token_is_refused(tmp_path):
    tokenizer = FAMILIES["wordpiece"]()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    text = (tmp_path / "tokenizer.json").read_text().replace('"unk_token":"[UNK]"', '"unk_token":"[GONE]"')
    text = text.replace('"unk_token": "[UNK]"', '"unk_token": "[GONE]"')
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"cannot tokenize ordinary texts .*unknown token"):
        read_tokenizer(CheckpointFolder.open(tmp_path), {"model_type": "bert"})
