"""Small tokenizers of the three families in use, trained on the spot from a few sentences."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import BPE, Unigram, WordPiece

CORPUS = (
    "The Normans were the people who in the 10th and 11th centuries gave their name to Normandy, in France.",
    "They were descended from Norse raiders from Denmark, Iceland and Norway under their leader Rollo.",
    "Who was the leader of the Norse raiders? When did the Normans settle? What is the name of the region?",
    "An increase of 17.5% (about $3.2 billion) was reported; analysts' estimates had been far lower.",
    "Der schnelle braune Fuchs springt über den Hund. ¿Dónde está la biblioteca? Déjà vu, café, naïve.",
    "東京は日本の首都です。北京是中华人民共和国的首都。Москва — столица России. القاهرة عاصمة مصر.",
    "Extractive question answering points at the span of a passage that answers the question.",
)


@cache
def wordpiece() -> Tokenizer:
    """BERT's: lower case, WordPiece, ``[CLS] question [SEP] context [SEP]``, two segments."""
    tokenizer = Tokenizer(WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    return tokenizer


@cache
def byte_level_bpe() -> Tokenizer:
    """RoBERTa's: bytes, BPE, ``<s> question </s></s> context </s>``, one segment, offsets without blanks."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False
    )
    return tokenizer


@cache
def unigram() -> Tokenizer:
    """XLM-RoBERTa's: NFKC, Unigram over ``▁``-marked words, RoBERTa's template, offsets with blanks."""
    tokenizer = Tokenizer(Unigram())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]  # the hub's charsmap is much the same
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    trainer = trainers.UnigramTrainer(
        vocab_size=300,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    return tokenizer


FAMILIES: dict[str, Callable[[], Tokenizer]] = {
    "wordpiece": wordpiece,
    "byte_level_bpe": byte_level_bpe,
    "unigram": unigram,
}
