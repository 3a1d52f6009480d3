"""``tokenizer_config.json`` beside a ``tokenizer.json`` is kept, as transformers keeps it."""

from __future__ import annotations

import json
import re

import pytest
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers

from fastspan.errors import CheckpointError
from fastspan.export.checkpoint.folder import CheckpointFolder
from fastspan.export.checkpoint.probe_texts import PROBE_TEXTS
from fastspan.export.checkpoint.read_tokenizer import read_tokenizer
from fastspan.export.verification.tokenizer_reference import difference_from_transformers
from support.models.offline_tokenizers import byte_level_bpe, wordpiece

BERT = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
COVID = {
    "content": "covid19",
    "lstrip": False,
    "rstrip": False,
    "normalized": True,
    "single_word": False,
    "special": False,
}
TEXTS = (
    *PROBE_TEXTS,
    "The covid19 bridge. [MASK] [SEP] <mask> Rollo",
    "Carr\u00e9 of Paris, IT in London: \u5317\u4eac",
)


def cased() -> Tokenizer:
    tokenizer = Tokenizer.from_str(wordpiece().to_str())
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    return tokenizer


def folder(
    path, tokenizer: Tokenizer, settings: object, model_type="bert", **files: object
) -> CheckpointFolder:
    tokenizer.save(str(path / "tokenizer.json"))
    (path / "config.json").write_text(json.dumps({"model_type": model_type}))
    if settings is not None:
        (path / "tokenizer_config.json").write_text(json.dumps(settings))
    return CheckpointFolder.open(path)


def read(files: CheckpointFolder):
    return read_tokenizer(files, files.json("config.json"))


def ids(text: str, tokenizer) -> list[int]:
    found = tokenizer.encode(text, add_special_tokens=False)
    return found.ids if hasattr(found, "ids") else found


def number() -> int:
    return wordpiece().get_vocab_size()


SETTINGS = {
    "nothing new": (wordpiece, BERT, "bert"),
    "do_lower_case is false": (wordpiece, {**BERT, "do_lower_case": False}, "bert"),
    "do_lower_case is true beside a cased one": (cased, BERT, "bert"),
    "strip_accents is false": (wordpiece, {**BERT, "strip_accents": False}, "bert"),
    "strip_accents is true": (
        cased,
        {**BERT, "do_lower_case": False, "strip_accents": True},
        "bert",
    ),
    "tokenize_chinese_chars is false": (wordpiece, {**BERT, "tokenize_chinese_chars": False}, "bert"),
    "another class of the family": (
        wordpiece,
        {"tokenizer_class": "ElectraTokenizer", "do_lower_case": False},
        "electra",
    ),
    "the plain class, which does not know do_lower_case": (
        wordpiece,
        {"tokenizer_class": "PreTrainedTokenizerFast", "do_lower_case": False},
        "bert",
    ),
    "a listed token": (
        wordpiece,
        lambda: {**BERT, "added_tokens_decoder": {str(number()): COVID}},
        "bert",
    ),
    "a listed token with another number": (
        wordpiece,
        lambda: {**BERT, "added_tokens_decoder": {str(number() + 5): COVID}},
        "bert",
    ),
    "a listed token that is in the vocabulary": (
        wordpiece,
        lambda: {
            **BERT,
            "added_tokens_decoder": {
                str(wordpiece().token_to_id("the")): {**COVID, "content": "the", "single_word": True}
            },
        },
        "bert",
    ),
    "a prefix space": (
        byte_level_bpe,
        {"tokenizer_class": "RobertaTokenizer", "add_prefix_space": True, "mask_token": "<mask>"},
        "roberta",
    ),
}


@pytest.mark.reference
@pytest.mark.parametrize(("make", "settings", "model_type"), SETTINGS.values(), ids=SETTINGS)
def test_ids_are_those_of_transformers(tmp_path, make, settings, model_type):
    transformers = pytest.importorskip("transformers")
    made = settings() if callable(settings) else settings
    checkpoint = folder(tmp_path, make(), made, model_type)
    found = read(checkpoint)
    ours, theirs = Tokenizer.from_str(found.json), transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXTS:
        assert ids(text, ours) == ids(text, theirs), text
    assert difference_from_transformers(checkpoint, found.json) is None


@pytest.mark.parametrize(
    ("make", "settings", "before", "after"),
    [
        (wordpiece, {**BERT, "do_lower_case": False}, "Normans", None),
        (cased, BERT, "Normans", "normans"),
    ],
)
def test_without_transformers_the_settings_count_as_well(tmp_path, make, settings, before, after):
    tokenizer = Tokenizer.from_str(read(folder(tmp_path, make(), settings)).json)
    assert tokenizer.normalizer.normalize_str(before) == (after or before)


def test_what_changed_is_told(tmp_path):
    settings = {**BERT, "do_lower_case": False, "added_tokens_decoder": {str(number()): COVID}}
    assert read(folder(tmp_path, wordpiece(), settings)).notes == (
        "do_lower_case is false, from tokenizer_config.json",
        "the tokens 'covid19' are added, from tokenizer_config.json",
    )


def test_a_number_that_cannot_be_kept_is_told(tmp_path):
    settings = {**BERT, "added_tokens_decoder": {str(number() + 5): COVID}}
    notes = read(folder(tmp_path, wordpiece(), settings)).notes
    assert (
        f"the token 'covid19' has the id {number()}, as in transformers; tokenizer_config.json says "
        in notes[1]
    )


@pytest.mark.parametrize(
    ("normalizer", "settings", "note"),
    [
        (
            normalizers.Lowercase(),
            {**BERT, "do_lower_case": False},
            "do_lower_case is false .* makes 'a' of 'A'",
        ),
        (normalizers.NFC(), {**BERT, "do_lower_case": True}, "do_lower_case is true .* makes 'A' of 'A'"),
        (
            None,
            {**BERT, "do_lower_case": False, "strip_accents": True},
            "strip_accents is true .* cannot be kept",
        ),
    ],
)
def test_a_setting_that_cannot_be_kept_is_told(tmp_path, normalizer, settings, note):
    tokenizer = Tokenizer.from_str(wordpiece().to_str())
    tokenizer.normalizer = normalizer
    (found,) = read(folder(tmp_path, tokenizer, {**BERT, **settings})).notes
    assert re.search(note, found)


def test_a_prefix_space_within_a_sequence_is_told(tmp_path):
    tokenizer = Tokenizer.from_str(byte_level_bpe().to_str())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    settings = {"tokenizer_class": "RobertaTokenizer", "add_prefix_space": True}
    notes = read(folder(tmp_path, tokenizer, settings, "roberta")).notes
    assert any(
        "add_prefix_space is true in tokenizer_config.json, which cannot be kept" in note for note in notes
    )


def test_where_the_settings_are_silent_tokenizer_json_stands(tmp_path):
    tokenizer = cased()
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True) for token in ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")]
    )
    found = read(folder(tmp_path, tokenizer, {"tokenizer_class": "BertTokenizer"}))
    assert found.json == (tmp_path / "tokenizer.json").read_text(encoding="utf-8")
    assert found.notes == ()


@pytest.mark.reference
def test_where_transformers_differs_it_is_told(tmp_path):
    pytest.importorskip("transformers")
    checkpoint = folder(tmp_path, cased(), {"tokenizer_class": "BertTokenizer"})
    told = difference_from_transformers(checkpoint, read(checkpoint).json)
    assert told is not None
    assert told.startswith("transformers gives other tokens for 'The bridge was built by Rollo Smith")


@pytest.mark.reference
def test_a_tokenizer_that_transformers_cannot_make_is_told(tmp_path):
    pytest.importorskip("transformers")
    checkpoint = folder(tmp_path, wordpiece(), {"tokenizer_class": "NoSuchTokenizer"}, "no-such-model")
    told = difference_from_transformers(checkpoint, read(checkpoint).json)
    assert told is not None
    assert told.startswith("transformers makes no tokenizer of the checkpoint to compare with (")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({**BERT, "do_lower_case": "yes"}, "do_lower_case must be true or false, not 'yes'"),
        ({**BERT, "do_lower_case": None}, "do_lower_case must be true or false, not None"),
        ({**BERT, "strip_accents": 1}, "strip_accents must be true or false, not 1"),
        ({**BERT, "added_tokens_decoder": {"x": COVID}}, "tokenizer settings that cannot be read"),
        ({**BERT, "added_tokens_decoder": [1]}, "tokenizer settings that cannot be read"),
        ([], "holds a JSON list where an object is expected"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(tmp_path, settings, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        read(folder(tmp_path, wordpiece(), settings))
    assert "\n" not in str(caught.value)


def test_a_byte_order_mark_is_dropped(tmp_path):
    files = folder(tmp_path, wordpiece(), BERT)
    plain = read(files).json
    path = tmp_path / "tokenizer.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read(files).json == plain


def test_a_token_without_an_embedding_is_named(tmp_path):
    tokenizer = Tokenizer.from_str(wordpiece().to_str())
    rows = tokenizer.get_vocab_size()
    tokenizer.add_tokens(["covid19"])
    found = read(folder(tmp_path, tokenizer, BERT))
    found.require_rows(rows + 1)
    with pytest.raises(CheckpointError, match=rf"token 'covid19' has the id {rows}, but .* below {rows}:"):
        found.require_rows(rows)
