"""The special and added tokens of a checkpoint without a ``tokenizer.json``.

Three files may speak of them: ``tokenizer_config.json``, which since transformers 4.34 also lists every
added token with its id, and before that ``special_tokens_map.json`` and ``added_tokens.json``. Which file
wins, and which flags a token named by its text alone gets, is as in transformers' fast tokenizers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken

from fastspan.export.checkpoint.folder import CheckpointFolder

__all__ = ["SpecialTokens", "read_special_tokens"]

# Roles of special tokens, in the order in which those that the vocabulary lacks get their ids.
_ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_OTHERS = "additional_special_tokens"
_DECODER = "added_tokens_decoder"


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Tokens that stand beside the words of the vocabulary.

    Attributes:
        roles: The token in each role.
        others: Special tokens without a role.
        added: Tokens that the files list with an id, by that id.
    """

    roles: Mapping[str, AddedToken]
    others: tuple[AddedToken, ...]
    added: Mapping[int, AddedToken]

    @property
    def expected_ids(self) -> dict[str, int]:
        """The ids that the files give the added tokens."""
        return {token.content: index for index, token in self.added.items()}

    def in_order(self) -> list[AddedToken]:
        """Return every token once, in the order that decides about new ids."""
        special: dict[str, AddedToken] = {}
        for token in (*(self.roles[role] for role in _ROLES if role in self.roles), *self.others):
            special.setdefault(token.content, token)
        # A token that is both keeps the place of the first and takes the flags of the second.
        listed = {self.added[index].content: self.added[index] for index in sorted(self.added)}
        for token in special.values():
            token.special = True
        return list((listed | special).values())


def read_special_tokens(
    files: CheckpointFolder,
    settings: Mapping[str, Any],
    defaults: Mapping[str, str],
    *,
    roles_have_flags: bool,
) -> SpecialTokens:
    """Return the special and added tokens that a checkpoint's files name.

    Args:
        files: The checkpoint's folder.
        settings: Its ``tokenizer_config.json``.
        defaults: The token in each role of the tokenizer's class, where the files name none.
        roles_have_flags: Whether the class gives tokens named by their text flags of its own, as
            RoBERTa's does: looked for in normalized text, and the mask takes the space before it along,
            as the word it stands for would.

    Raises:
        CheckpointError: A file cannot be read.
        ValueError, TypeError, KeyError, AttributeError: A file does not say what such a file says.
    """
    stated = dict(settings)
    added: dict[int, AddedToken] = {}
    if _DECODER in settings:
        added = {int(index): _token(spec) for index, spec in settings[_DECODER].items()}
    else:
        # The layout before transformers 4.34: two files beside the settings.
        if files.has("special_tokens_map.json"):
            mapped = files.json("special_tokens_map.json")
            others = [*(stated.get(_OTHERS) or ()), *map(_special, mapped.pop(_OTHERS, None) or ())]
            stated |= {**{role: _special(spec) for role, spec in mapped.items()}, _OTHERS: others}
        if files.has("added_tokens.json"):
            specials = (*map(stated.get, _ROLES), *(stated.get(_OTHERS) or ()))
            special = {_content(spec) for spec in specials if spec}
            added = {
                index: AddedToken(content, normalized=content not in special, special=content in special)
                for content, index in files.json("added_tokens.json").items()
            }
    listed = {token.content: token for token in added.values()}

    def token(role: str, spec: Any) -> AddedToken:
        """A role's token: as it stands among the added ones, else as its specification has it."""
        bare = isinstance(spec, str)
        flagged = roles_have_flags and role != _OTHERS
        named_in_decoder = role in stated and role != _OTHERS and _DECODER in settings
        if _content(spec) in listed and (named_in_decoder or (bare and not flagged)):
            return listed[_content(spec)]
        if not bare:
            return _token(spec)
        mask = flagged and role == "mask_token"
        return AddedToken(spec, lstrip=mask, normalized=flagged and not mask, special=True)

    specs = {**defaults, **{role: stated[role] for role in _ROLES if role in stated}}
    return SpecialTokens(
        roles={role: token(role, spec) for role, spec in specs.items() if spec is not None},
        others=tuple(token(_OTHERS, spec) for spec in stated.get(_OTHERS) or []),
        added=added,
    )


def _content(spec: str | Mapping[str, Any]) -> str:
    return spec if isinstance(spec, str) else str(spec["content"])


def _special(spec: Any) -> Any:
    return {**spec, "special": True} if isinstance(spec, dict) else spec


def _token(spec: Mapping[str, Any]) -> AddedToken:
    flags = {key: bool(value) for key, value in spec.items() if key not in ("__type", "content")}
    flags.setdefault("special", False)
    flags.setdefault("normalized", not flags["special"])
    return AddedToken(_content(spec), **flags)
