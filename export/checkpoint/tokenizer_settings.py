"""What ``tokenizer_config.json`` says of a tokenizer that lies beside it as ``tokenizer.json``.

The settings win over ``tokenizer.json``, as they do in transformers' fast tokenizers, whose ids are the
reference. One thing differs on purpose. Where the settings are silent, ``tokenizer.json`` stands;
transformers puts the defaults of its class there, and so lower-cases a cased ``tokenizer.json`` of BERT whose
settings lack ``do_lower_case``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tokenizers import AddedToken, Tokenizer

from fastspan.errors import CheckpointError
from fastspan.export.checkpoint.special_tokens import SpecialTokens
from fastspan.options import shown

__all__ = ["with_settings"]

# Key of the settings → key of BertNormalizer in tokenizer.json.
_NORMALIZER = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
# What shows whether a normalizer does what a setting asks for: a text, and what it becomes.
_SIGNS = {
    "do_lower_case": ("A", "a"),
    "strip_accents": ("\u00e9", "e"),
    "tokenize_chinese_chars": ("\u5317\u4eac", " \u5317  \u4eac "),
}


def with_settings(
    text: str, settings: Mapping[str, Any], tokens: SpecialTokens
) -> tuple[str, tuple[str, ...]]:
    """Apply the settings to a ``tokenizer.json``.

    Args:
        text: The ``tokenizer.json``.
        settings: ``tokenizer_config.json``.
        tokens: The special and added tokens that the checkpoint's files name. One that has a role and is
            not in the vocabulary is left out: it would have no embedding.

    Returns:
        The ``tokenizer.json`` to use, the same text where nothing changes, and for people what was changed
        and which setting could not be kept.

    Raises:
        CheckpointError: A setting is of the wrong type.
    """
    notes: list[str] = []
    document = json.loads(text)
    changed = _set_normalizer(document, settings, notes)
    changed |= _set_byte_level(document, settings, notes)
    if changed:
        text = json.dumps(document, ensure_ascii=False)
    tokenizer = Tokenizer.from_str(text)
    if _add_tokens(tokenizer, tokens, notes):
        text = str(tokenizer.to_str())
    _note_what_is_not_kept(tokenizer, settings, notes)
    return text, tuple(notes)


def _set_normalizer(document: dict[str, Any], settings: Mapping[str, Any], notes: list[str]) -> bool:
    """Set case, accents and CJK characters; only BERT's normalizer has switches for them."""
    for key in _NORMALIZER:
        may_be_null = key == "strip_accents"
        value = settings.get(key)
        if not (isinstance(value, bool) or (value is None and (may_be_null or key not in settings))):
            raise CheckpointError(
                f"tokenizer_config.json: {key} must be true or false, not {shown(value)}: mend the file."
            )
    normalizer = document.get("normalizer")
    if not isinstance(normalizer, dict) or normalizer.get("type") != "BertNormalizer":
        return False
    if str(settings.get("tokenizer_class")).startswith("PreTrainedTokenizer"):
        return False  # transformers' plain class does not know these settings
    changed = False
    for key, switch in _NORMALIZER.items():
        if key in settings and normalizer.get(switch) != settings[key]:
            normalizer[switch] = settings[key]
            notes.append(f"{key} is {_spelled(settings[key])}, from tokenizer_config.json")
            changed = True
    return changed


def _set_byte_level(document: dict[str, Any], settings: Mapping[str, Any], notes: list[str]) -> bool:
    """Set what ByteLevel tokenizers do about spaces, where ByteLevel is the whole pre-tokenizer."""
    changed = False
    places = (
        ("add_prefix_space", "pre_tokenizer", "ByteLevel"),
        ("add_prefix_space", "post_processor", "RobertaProcessing"),
        ("trim_offsets", "post_processor", "RobertaProcessing"),
    )
    for key, component, kind in places:
        value, node = settings.get(key), document.get(component)
        if not isinstance(value, bool) or not isinstance(node, dict) or node.get("type") != kind:
            continue
        if node.get(key) != value:
            node[key] = value
            notes.append(f"{key} of its {component} is {_spelled(value)}, from tokenizer_config.json")
            changed = True
    wanted, inner = settings.get("add_prefix_space"), document.get("pre_tokenizer")
    in_sequence = isinstance(inner, dict) and inner.get("type") == "Sequence"
    if (
        isinstance(wanted, bool)
        and in_sequence
        and any(node.get("add_prefix_space", wanted) != wanted for node in _byte_levels(inner))
    ):
        notes.append(
            f"add_prefix_space is {_spelled(wanted)} in tokenizer_config.json, which cannot be kept: "
            "tokenizer.json has its own in a sequence of pre-tokenizers"
        )
    return changed


def _byte_levels(component: Any) -> Iterator[dict[str, Any]]:
    if isinstance(component, dict):
        if component.get("type") == "ByteLevel":
            yield component
        for value in component.values():
            yield from _byte_levels(value)
    elif isinstance(component, list):
        for value in component:
            yield from _byte_levels(value)


def _add_tokens(tokenizer: Tokenizer, tokens: SpecialTokens, notes: list[str]) -> bool:
    """Add the tokens that the files list and ``tokenizer.json`` lacks, or has with other flags."""
    present = {repr(token) for token in tokenizer.get_added_tokens_decoder().values()}
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    listed = [tokens.added[index] for index in sorted(tokens.added)]
    missing = [token for token in listed if repr(token) not in present]
    known |= {token.content for token in listed}
    missing += [
        _special(token)
        for token in tokens.in_order()
        if token.content not in known and tokenizer.token_to_id(token.content) is not None
    ]
    if not missing:
        return False
    new = [token.content for token in missing if tokenizer.token_to_id(token.content) is None]
    tokenizer.add_tokens(missing)
    if new:
        names = ", ".join(map(shown, new[:5])) + (f" and {len(new) - 5} more" if len(new) > 5 else "")
        notes.append(f"the tokens {names} are added, from tokenizer_config.json")
    ids = {index: tokenizer.token_to_id(token.content) for index, token in tokens.added.items()}
    notes.extend(
        f"the token {shown(tokens.added[index].content)} has the id {given}, as in transformers; "
        f"tokenizer_config.json says {index}"
        for index, given in sorted(ids.items())
        if given != index
    )
    return True


def _special(token: AddedToken) -> AddedToken:
    token.special = True
    return token


def _note_what_is_not_kept(tokenizer: Tokenizer, settings: Mapping[str, Any], notes: list[str]) -> None:
    normalizer = tokenizer.normalizer
    for key, (probe, becomes) in _SIGNS.items():
        wanted = settings.get(key)
        found = normalizer is not None and normalizer.normalize_str(probe) == becomes
        if isinstance(wanted, bool) and wanted != found:
            made = normalizer.normalize_str(probe) if normalizer is not None else probe
            notes.append(
                f"{key} is {_spelled(wanted)} in tokenizer_config.json, which cannot be kept: tokenizer.json "
                f"makes {shown(made)} of {probe!r}"
            )


def _spelled(value: object) -> str:
    return json.dumps(value)
