"""The tokenizer of a checkpoint as its bundle will have it: made or read, settings applied, offsets tried."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from fastspan.bundle.strict_json import named
from fastspan.errors import CheckpointError
from fastspan.export.checkpoint.folder import CheckpointFolder
from fastspan.export.checkpoint.special_tokens import read_special_tokens
from fastspan.export.checkpoint.tokenizer import ROBERTA, family_of, tokenizer_json
from fastspan.export.checkpoint.tokenizer_offsets import with_offsets_that_fit
from fastspan.export.checkpoint.tokenizer_settings import with_settings
from fastspan.options import shown

__all__ = ["CheckpointTokenizer", "read_tokenizer"]


@dataclass(frozen=True, slots=True)
class CheckpointTokenizer:
    """A tokenizer that serves.

    Attributes:
        json: The text of its ``tokenizer.json``.
        notes: What was changed in it, and which settings could not be kept, for people.
    """

    json: str
    notes: tuple[str, ...]

    def require_rows(self, rows: int) -> None:
        """Refuse a tokenizer with a token that has no embedding: a text that holds it could not be answered.

        Args:
            rows: Rows of the model's token embedding.

        Raises:
            CheckpointError: A token's id is not below ``rows``; the message names the token.
        """
        vocabulary = Tokenizer.from_str(self.json).get_vocab(with_added_tokens=True)
        beyond = sorted((index, token) for token, index in vocabulary.items() if index >= rows)
        if beyond:
            index, token = beyond[0]
            others = f" and {len(beyond) - 1} more tokens like it" if len(beyond) > 1 else ""
            raise CheckpointError(
                f"The token {shown(token)} has the id {index}{others}, but the model has embeddings only for "
                f"the ids below {rows}: take the token out of the tokenizer's files, or resize the model's "
                "token embeddings and train them."
            )


def read_tokenizer(files: CheckpointFolder, config: Mapping[str, Any]) -> CheckpointTokenizer:
    """Read a checkpoint's tokenizer, or make it from older vocabulary files.

    Args:
        files: The checkpoint's folder.
        config: Its ``config.json``.

    Raises:
        CheckpointError: The tokenizer's files are missing, damaged or unsafe to read, contradict each
            other, or give offsets that miss the text and cannot be corrected.
    """
    text = tokenizer_json(files, config)
    notes: tuple[str, ...] = ()
    if files.has("tokenizer.json"):
        settings = files.json("tokenizer_config.json") if files.has("tokenizer_config.json") else {}
        family = family_of(settings, config)
        try:
            tokens = read_special_tokens(
                files,
                settings,
                family.defaults if family is not None else {},
                roles_have_flags=family is ROBERTA,
            )
            text, notes = with_settings(text, settings, tokens)
        except CheckpointError:
            raise
        except Exception as error:
            # The files may say anything, and the tokenizers package raises bare Exception.
            raise CheckpointError(
                f"{files.path} has tokenizer settings that cannot be read ({named(str(error))}): mend "
                "tokenizer_config.json, or copy or download the checkpoint again."
            ) from error
    try:
        text, corrected = with_offsets_that_fit(text)
    except ValueError as error:
        raise CheckpointError(
            f"The tokenizer of {files.path} loses track of the text, {error}: answers would be cut "
            "wrongly; mend pre_tokenizer and post_processor in tokenizer.json."
        ) from error
    except Exception as error:
        # The tokenizers package raises bare Exception for a word that it has no token for.
        raise CheckpointError(
            f"The tokenizer of {files.path} cannot tokenize ordinary texts ({named(str(error))}): mend the "
            "vocabulary in tokenizer.json, its unknown token above all, or copy or download the checkpoint "
            "again."
        ) from error
    return CheckpointTokenizer(text, notes if corrected is None else (*notes, corrected))
