"""``tokenizer.json`` for a checkpoint, made from older vocabulary files where it has none.

BERT's ``vocab.txt`` and RoBERTa's ``vocab.json`` with ``merges.txt`` become the tokenizer that
transformers' fast classes make of them: the same ids and the same offsets. What the files leave open
is filled with those classes' defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from fastspan.bundle.strict_json import named
from fastspan.errors import CheckpointError
from fastspan.export.checkpoint.folder import CheckpointFolder
from fastspan.export.checkpoint.special_tokens import SpecialTokens, read_special_tokens
from fastspan.options import shown

__all__ = ["ROBERTA", "Family", "family_of", "tokenizer_json"]

_TOKENIZER = "tokenizer.json"
_SETTINGS = "tokenizer_config.json"


@dataclass(frozen=True, slots=True)
class Family:
    """Tokenizers that share their files and their defaults.

    Attributes:
        classes: transformers' names for them, without ``Fast``.
        model_types: The ``model_type`` of the configurations they belong to.
        defaults: The special tokens in each role, where the settings name none.
    """

    classes: tuple[str, ...]
    model_types: tuple[str, ...]
    defaults: Mapping[str, str]


_BERT = Family(
    classes=(
        "BertTokenizer",
        "ConvBertTokenizer",
        "DistilBertTokenizer",
        "ElectraTokenizer",
        "MobileBertTokenizer",
        "SqueezeBertTokenizer",
    ),
    model_types=("bert", "convbert", "distilbert", "electra", "mobilebert", "squeezebert"),
    defaults={
        "unk_token": "[UNK]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "mask_token": "[MASK]",
    },
)
ROBERTA = Family(
    classes=("LongformerTokenizer", "RobertaTokenizer"),
    model_types=("longformer", "roberta"),
    defaults={
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
        "cls_token": "<s>",
        "mask_token": "<mask>",
    },
)


def tokenizer_json(files: CheckpointFolder, config: Mapping[str, Any]) -> str:
    """Return the text of the checkpoint's ``tokenizer.json``.

    A ``tokenizer.json`` that is there is returned as it is, less a byte order mark; ``read_tokenizer``
    applies the settings beside it. Else one is made from ``vocab.txt``, or from ``vocab.json`` and
    ``merges.txt``, under ``tokenizer_config.json``, ``special_tokens_map.json`` and ``added_tokens.json``,
    each of which may be missing.

    Args:
        files: The checkpoint's folder.
        config: Its ``config.json``, which tells the kind of tokenizer where the settings do not.

    Returns:
        JSON that ``tokenizers.Tokenizer.from_str`` reads, without truncation or padding if made here.

    Raises:
        CheckpointError: A file is missing, damaged or unsafe to read, or the checkpoint's tokenizer is of
            another kind and has to be converted by transformers.
    """
    if files.has(_TOKENIZER):
        return _existing(files)
    settings = files.json(_SETTINGS) if files.has(_SETTINGS) else {}
    family = family_of(settings, config)
    if family is None:
        kind = settings.get("tokenizer_class") or config.get("tokenizer_class") or config.get("model_type")
        raise CheckpointError(
            f"{files.path} has no {_TOKENIZER}, and none can be made here for the tokenizer of "
            f"{named(str(kind or 'an unknown model'))}: write it with transformers, "
            "`AutoTokenizer.from_pretrained(folder).save_pretrained(folder)`."
        )
    try:
        tokens = read_special_tokens(files, settings, family.defaults, roles_have_flags=family is ROBERTA)
        tokenizer = (_bert if family is _BERT else _roberta)(files, settings, tokens)
        tokenizer.add_tokens(tokens.in_order())
        for content, index in tokens.expected_ids.items():
            if tokenizer.token_to_id(content) != index:
                raise ValueError(f"the token {shown(content)} should be number {index}")
    except CheckpointError:
        raise
    except Exception as error:
        # The tokenizers package raises bare Exception for a vocabulary that contradicts itself.
        raise _unusable(files, named(str(error))) from error
    return str(tokenizer.to_str())


def _existing(files: CheckpointFolder) -> str:
    data = files.file(_TOKENIZER).read_bytes()
    try:
        text = data.decode("utf-8-sig")
        Tokenizer.from_str(text)
    except Exception as error:
        # The tokenizers package raises bare Exception for a file it cannot read.
        raise CheckpointError(
            f"{files.path / _TOKENIZER} cannot be read as a tokenizer ({named(str(error))}): "
            "copy or download the file again."
        ) from error
    return text


def family_of(settings: Mapping[str, Any], config: Mapping[str, Any]) -> Family | None:
    """Return the family of tokenizers that the files name, None for one that is not known here.

    Args:
        settings: ``tokenizer_config.json``.
        config: ``config.json``, which tells the kind of tokenizer where the settings do not.
    """
    kind = settings.get("tokenizer_class") or config.get("tokenizer_class")
    model_type = config.get("model_type")
    for family in (_BERT, ROBERTA):
        if kind is None and model_type in family.model_types:
            return family
        if isinstance(kind, str) and kind.removesuffix("Fast") in family.classes:
            return family
    return None


def _bert(files: CheckpointFolder, settings: Mapping[str, Any], tokens: SpecialTokens) -> Tokenizer:
    with files.file("vocab.txt").open(encoding="utf-8") as lines:
        vocabulary = {line.rstrip("\n"): index for index, line in enumerate(lines)}
    lowercase = settings.get("do_lower_case")
    if lowercase is None:
        if any(word.isascii() and word != word.lower() and not word.startswith("[") for word in vocabulary):
            raise _unusable(
                files,
                f"vocab.txt tells upper case from lower case and {_SETTINGS} does not say do_lower_case",
                f'add "do_lower_case": false to {_SETTINGS}',
            )
        lowercase = True
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=tokens.roles["unk_token"].content))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
        # None: whatever lowercase is, as in the original BERT.
        strip_accents=settings.get("strip_accents"),
        lowercase=lowercase,
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    cls, sep = (_in_vocabulary(tokens, role, vocabulary) for role in ("cls_token", "sep_token"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls[0]}:0 $A:0 {sep[0]}:0",
        pair=f"{cls[0]}:0 $A:0 {sep[0]}:0 $B:1 {sep[0]}:1",
        special_tokens=[cls, sep],
    )
    return tokenizer


def _roberta(files: CheckpointFolder, settings: Mapping[str, Any], tokens: SpecialTokens) -> Tokenizer:
    vocabulary = files.json("vocab.json")
    # The first line is the version. What follows the last line break is dropped too, be it empty or
    # not, as by the BPE code of GPT-2 that the models were trained with.
    lines = files.file("merges.txt").read_text(encoding="utf-8").split("\n")[1:-1]
    merges: dict[tuple[str, ...], None] = dict.fromkeys(tuple(line.split()) for line in lines)
    prefix_space = settings.get("add_prefix_space", False)
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=cast("list[tuple[str, str]]", list(merges)),
            continuing_subword_prefix="",
            end_of_word_suffix="",
            fuse_unk=False,
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    # By position: tokenizers 0.23 renamed the second argument.
    tokenizer.post_processor = processors.RobertaProcessing(
        _in_vocabulary(tokens, "sep_token", vocabulary),
        _in_vocabulary(tokens, "cls_token", vocabulary),
        add_prefix_space=prefix_space,
        trim_offsets=settings.get("trim_offsets", True),
    )
    return tokenizer


def _in_vocabulary(tokens: SpecialTokens, role: str, vocabulary: Mapping[str, int]) -> tuple[str, int]:
    """Return a special token that every window has, with its id."""
    content = tokens.roles[role].content
    index = vocabulary.get(content, tokens.expected_ids.get(content))
    if index is None:
        raise ValueError(f"the vocabulary lacks the {role} {shown(content)}")
    return content, index


def _unusable(
    files: CheckpointFolder, why: str, mend: str = "copy or download the checkpoint again"
) -> CheckpointError:
    return CheckpointError(f"{files.path} has no usable tokenizer files, {why}: {mend}.")
