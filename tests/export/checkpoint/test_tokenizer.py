"""tokenizer.json made from older vocabulary files is what transformers makes of them."""

from __future__ import annotations

import json
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from fastspan.errors import CheckpointError
from fastspan.export.checkpoint.folder import CheckpointFolder
from fastspan.export.checkpoint.tokenizer import tokenizer_json
from support.paths import ROOT
from support.references.golden import Golden

MODELS = ROOT / "models"

SENTENCES = (
    "The Normans (Norman: Nourmands; French: Normands) were the people who gave their name to Normandy.",
    "When were the Normans in Normandy? In the 10th and 11th centuries!",
    "Ångström, naïve café — Über straße; İstanbul ıssız, Ǆ ﬁne.",
    "東京は日本の首都です。北京是中国的首都。 서울은 한국의 수도이다.",
    "\u00a0tabs\tand\r\nnewlines  \u200bzero\u200d-width \x00\x07control \ufffd",
    "emoji 👩‍👩‍👧 flags 🇳🇴 e\u0301 combining ا\u0644\u064e\u0639",
    "[MASK] <mask> a[SEP]b </s>x  <mask>  [mask] NEW1 new1",
    "don't we'll   I'm 3.14 $100 x_y",
    "",
    "   ",
)


def folder(path: Path, files: dict[str, Any]) -> CheckpointFolder:
    path.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        (path / name).write_bytes(text.encode())
    return CheckpointFolder.open(path)


@cache
def wordpiece_vocabulary(cased: bool) -> str:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    text = "".join(SENTENCES) + "abcdefghijklmnopqrstuvwxyz0123456789"
    letters = sorted(set(text if cased else text.lower()) - {" ", "\t", "\r", "\n", "\x00", "\x07"})
    words += letters + [f"##{letter}" for letter in letters]
    words += ["the", "norman", "##an", "##dy", "when", "were", "##ies"] + (["The", "Norman"] if cased else [])
    return "\n".join(words) + "\n"


@cache
def byte_level_files() -> tuple[dict[str, int], str]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    vocabulary = {**model["vocab"], "<mask>": len(model["vocab"])}
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    return vocabulary, "\n".join(["#version: 0.2", *merges]) + "\n"


def token(content: str, **flags: bool) -> dict[str, Any]:
    plain = {"lstrip": False, "rstrip": False, "normalized": True, "single_word": False}
    return {"content": content, **plain, **flags}


BERT = {"config.json": {"model_type": "bert"}}
ROBERTA = {"config.json": {"model_type": "roberta"}}

BERT_CASES: dict[str, dict[str, Any]] = {
    "nothing stated": {},
    "uncased": {"tokenizer_config.json": {"do_lower_case": True}},
    "cased": {"tokenizer_config.json": {"do_lower_case": False}},
    "cased without accents": {"tokenizer_config.json": {"do_lower_case": False, "strip_accents": True}},
    "uncased with accents": {"tokenizer_config.json": {"do_lower_case": True, "strip_accents": False}},
    "japanese": {"tokenizer_config.json": {"do_lower_case": False, "tokenize_chinese_chars": False}},
    "electra": {
        "config.json": {"model_type": "electra"},
        "tokenizer_config.json": {"do_lower_case": True},
    },
    "distilbert": {
        "config.json": {"model_type": "distilbert"},
        "tokenizer_config.json": {"do_lower_case": False, "tokenizer_class": "DistilBertTokenizer"},
    },
    "mobilebert": {"config.json": {"model_type": "mobilebert"}},
    "convbert": {"config.json": {"model_type": "convbert"}},
    "squeezebert": {"config.json": {"model_type": "squeezebert"}},
    "tokens of one's own": {
        "tokenizer_config.json": {
            "do_lower_case": False,
            "additional_special_tokens": ["[Q]", "[C]"],
            "bos_token": "[BOS]",
            "mask_token": {"__type": "AddedToken", **token("[MASK]", lstrip=True)},
        },
    },
    "special_tokens_map": {
        "tokenizer_config.json": {"do_lower_case": True, "additional_special_tokens": ["[A]"]},
        "special_tokens_map.json": {
            "mask_token": token("[MASK]", lstrip=True, normalized=False),
            "sep_token": "[SEP]",
            "additional_special_tokens": ["[B]", token("[C]")],
        },
    },
    "added_tokens.json": {
        "tokenizer_config.json": {"do_lower_case": True},
        "added_tokens.json": "ADDED",
    },
    "added_tokens.json that lists special tokens": {
        "tokenizer_config.json": {"do_lower_case": True, "cls_token": "[CLS]"},
        "special_tokens_map.json": {"mask_token": {"content": "[MASK]", "lstrip": True}},
        "added_tokens.json": {"[MASK]": 4, "[SEP]": 3, "[CLS]": 2},
    },
    "added_tokens_decoder": {
        "tokenizer_config.json": {
            "do_lower_case": True,
            "added_tokens_decoder": "ADDED",
            "tokenizer_class": "BertTokenizerFast",
        },
        "special_tokens_map.json": {"mask_token": "[IGNORED]"},
    },
}

ROBERTA_CASES: dict[str, dict[str, Any]] = {
    "nothing stated": {},
    "prefix space": {"tokenizer_config.json": {"add_prefix_space": True}},
    "untrimmed": {"tokenizer_config.json": {"trim_offsets": False}},
    "prefix space, untrimmed": {"tokenizer_config.json": {"add_prefix_space": True, "trim_offsets": False}},
    "longformer": {"config.json": {"model_type": "longformer"}},
    "special_tokens_map": {
        "special_tokens_map.json": {
            "bos_token": token("<s>"),
            "mask_token": token("<mask>", lstrip=True, normalized=False),
            "cls_token": "<s>",
        },
    },
    "added_tokens.json that lists special tokens": {
        "tokenizer_config.json": {"cls_token": "<s>", "additional_special_tokens": ["<new>", "<pad>"]},
        "added_tokens.json": {"<mask>": 340, "<s>": 0, "<pad>": 1},
    },
    "added_tokens_decoder": {
        "tokenizer_config.json": {
            "additional_special_tokens": ["<unk>", "NEW1"],
            "tokenizer_class": "RobertaTokenizer",
            "cls_token": "<s>",
            "added_tokens_decoder": {
                "0": token("<s>", special=True),
                "1": token("<pad>", normalized=False, special=True),
                "3": token("<unk>", rstrip=True, special=True),
            },
        },
    },
}


def bert_files(case: dict[str, Any]) -> dict[str, Any]:
    cased = case.get("tokenizer_config.json", {}).get("do_lower_case") is False
    vocabulary = wordpiece_vocabulary(cased)
    files = {"vocab.txt": vocabulary, **BERT, **json.loads(json.dumps(case))}
    first = vocabulary.count("\n")
    if files.get("added_tokens.json") == "ADDED":
        files["added_tokens.json"] = {"NEW1": first, "new2": first + 1}
    if files.get("tokenizer_config.json", {}).get("added_tokens_decoder") == "ADDED":
        files["tokenizer_config.json"]["added_tokens_decoder"] = {
            "0": token("[PAD]", normalized=False, special=True),
            str(first): token("NEW1"),
            str(first + 1): token("[Q]", normalized=False, special=True),
        }
    return files


def roberta_files(case: dict[str, Any]) -> dict[str, Any]:
    vocabulary, merges = byte_level_files()
    return {"vocab.json": vocabulary, "merges.txt": merges, **ROBERTA, **case}


CASES = [
    *(pytest.param(bert_files, case, id=f"bert: {name}") for name, case in BERT_CASES.items()),
    *(pytest.param(roberta_files, case, id=f"roberta: {name}") for name, case in ROBERTA_CASES.items()),
]


def reference(path: Path) -> Any:
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    assert tokenizer.is_fast
    return tokenizer


def encoded(tokenizer: Any, first: str, second: str | None) -> tuple[list[int], list[tuple[int, int]]]:
    # As a batch of one: called with two strings, transformers leaves out an empty second one.
    batch = tokenizer([first if second is None else (first, second)], return_offsets_mapping=True)
    return batch["input_ids"][0], batch["offset_mapping"][0]


def digest(value: Any) -> str:
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def shown(tokenizer: str) -> dict[str, Any]:
    """A tokenizer.json whose long lists are digests."""
    made = json.loads(tokenizer)
    made["model"] |= {
        name: digest(made["model"][name]) for name in ("vocab", "merges") if name in made["model"]
    }
    return made


PAIRS = [(first, second) for first in SENTENCES for second in (None, *SENTENCES[:3])]


@pytest.mark.parametrize(("make", "case"), CASES)
def test_equals_the_tokenizer_transformers_makes(
    tmp_path: Path, golden: Golden, request: pytest.FixtureRequest, make: Any, case: dict[str, Any]
) -> None:
    files = folder(tmp_path, make(case))
    ours = tokenizer_json(files, files.json("config.json"))

    def theirs() -> dict[str, Any]:
        tokenizer = reference(tmp_path)
        return {
            "tokenizer.json": shown(tokenizer.backend_tokenizer.to_str()),
            "encodings": [digest(encoded(tokenizer, *pair)) for pair in PAIRS],
        }

    made = Tokenizer.from_str(ours)
    encodings = [made.encode(*pair) for pair in PAIRS]
    expected = golden.value(request.node.callspec.id, theirs)
    assert shown(ours) == expected["tokenizer.json"]
    assert [digest((each.ids, each.offsets)) for each in encodings] == expected["encodings"]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Tokenizer, Any]]:
    """Ours and transformers' tokenizers, of one cased BERT and one RoBERTa."""
    made = []
    for number, contents in enumerate((bert_files(BERT_CASES["cased"]), roberta_files({}))):
        files = folder(tmp_path_factory.mktemp(f"tokenizer-{number}"), contents)
        made.append(
            (Tokenizer.from_str(tokenizer_json(files, files.json("config.json"))), reference(files.path))
        )
    return made


@pytest.mark.reference
@given(
    st.text(max_size=60),
    st.text(alphabet=st.sampled_from("aeT nés'\u0301\u00a0東<mask>[MASK]\n1"), max_size=60),
)
@example("\u0130\u0307 ﷺ", "<mask> x")
@settings(max_examples=200, deadline=None)
def test_any_text_gives_the_same_ids_and_offsets(
    pairs: list[tuple[Tokenizer, Any]], question: str, context: str
) -> None:
    for ours, theirs in pairs:
        encoding = ours.encode(question, context)
        assert (encoding.ids, encoding.offsets) == encoded(theirs, question, context)


def test_last_merge_without_a_line_break_is_dropped_as_transformers_does(
    tmp_path: Path, golden: Golden
) -> None:
    vocabulary, merges = byte_level_files()
    files = folder(tmp_path, {"vocab.json": vocabulary, "merges.txt": merges.rstrip("\n"), **ROBERTA})
    made = json.loads(tokenizer_json(files, files.json("config.json")))["model"]["merges"]
    assert len(made) == merges.count("\n") - 2

    def theirs() -> str:
        return digest(json.loads(reference(tmp_path).backend_tokenizer.to_str())["model"]["merges"])

    assert digest(made) == golden.value("merges without a last line break", theirs)


def test_windows_line_breaks_in_vocab_are_line_breaks(tmp_path: Path) -> None:
    unix = folder(tmp_path / "unix", {**BERT, "vocab.txt": wordpiece_vocabulary(False)})
    windows = folder(
        tmp_path / "windows", {**BERT, "vocab.txt": wordpiece_vocabulary(False).replace("\n", "\r\n")}
    )
    assert tokenizer_json(unix, {"model_type": "bert"}) == tokenizer_json(windows, {"model_type": "bert"})


def test_an_existing_tokenizer_json_is_returned_as_it_is() -> None:
    path = MODELS / "minilm-l6-squad2"
    files = CheckpointFolder.open(path)
    assert tokenizer_json(files, {}) == (path / "tokenizer.json").read_text(encoding="utf-8")


def test_vocab_of_the_bundled_checkpoint_gives_back_its_tokenizer(tmp_path: Path) -> None:
    path = MODELS / "minilm-l6-squad2"
    original = json.loads((path / "tokenizer.json").read_text(encoding="utf-8"))
    words = sorted(original["model"]["vocab"], key=original["model"]["vocab"].__getitem__)
    settings_text = (path / "tokenizer_config.json").read_text(encoding="utf-8")
    files = folder(
        tmp_path, {**BERT, "vocab.txt": "\n".join(words) + "\n", "tokenizer_config.json": settings_text}
    )
    made = Tokenizer.from_str(tokenizer_json(files, {"model_type": "bert"}))
    shipped = Tokenizer.from_str(json.dumps(original))
    shipped.no_truncation()
    shipped.no_padding()
    for first in SENTENCES:
        theirs, ours = shipped.encode(first, SENTENCES[0]), made.encode(first, SENTENCES[0])
        assert (ours.ids, ours.offsets, ours.type_ids) == (theirs.ids, theirs.offsets, theirs.type_ids)


UNUSABLE: dict[str, tuple[dict[str, Any], str]] = {
    "no files": (BERT, r"vocab\.txt is missing"),
    "cased but not said": (
        {**BERT, "vocab.txt": "[UNK]\n[CLS]\n[SEP]\nThe\nthe\n"},
        r'upper case.*do_lower_case.*"do_lower_case": false',
    ),
    "no separator": ({**BERT, "vocab.txt": "[UNK]\n[CLS]\nthe\n"}, r"lacks the sep_token '\[SEP\]'"),
    "vocab.txt not text": ({**BERT, "vocab.txt": "LATIN"}, "no usable tokenizer files"),
    "merges of unknown words": (
        {
            **ROBERTA,
            "vocab.json": {"<s>": 0, "</s>": 1, "a": 2},
            "merges.txt": "#version: 0.2\na b\n",
        },
        "no usable tokenizer files",
    ),
    "vocab.json a list": ({**ROBERTA, "vocab.json": "[]", "merges.txt": "#\n"}, "JSON list where an object"),
    "an id that does not follow": (
        {**BERT, "vocab.txt": "[UNK]\n[CLS]\n[SEP]\n", "added_tokens.json": {"new": 77}},
        "'new' should be number 77",
    ),
    "sentencepiece": (
        {"config.json": {"model_type": "xlm-roberta"}, "sentencepiece.bpe.model": "x"},
        r"xlm-roberta: write it with transformers, `AutoTokenizer",
    ),
    "another class": (
        {**BERT, "vocab.txt": "a\n", "tokenizer_config.json": {"tokenizer_class": "BertJapaneseTokenizer"}},
        "BertJapaneseTokenizer",
    ),
    "broken tokenizer.json": (
        {**BERT, "tokenizer.json": "{}"},
        r"tokenizer\.json cannot be read as",
    ),
    "settings not JSON": ({**BERT, "tokenizer_config.json": "{"}, r"tokenizer_config\.json is not JSON"),
}


@pytest.mark.parametrize(("contents", "message"), UNUSABLE.values(), ids=UNUSABLE)
def test_unusable_files_are_refused_in_one_sentence(
    tmp_path: Path, contents: dict[str, Any], message: str
) -> None:
    files = folder(tmp_path, contents)
    if contents.get("vocab.txt") == "LATIN":
        (tmp_path / "vocab.txt").write_bytes("[UNK]\ncafé\n".encode("latin-1"))
    with pytest.raises(CheckpointError, match=message) as caught:
        tokenizer_json(files, files.json("config.json"))
    assert str(caught.value).count("\n") == 0


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("[UNK]\n[CLS]\n[SEP]\n")
    files = folder(tmp_path / "checkpoint", BERT)
    (files.path / "vocab.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(CheckpointError, match="leads out of the checkpoint"):
        tokenizer_json(files, {"model_type": "bert"})
