"""Windows to batches: which windows run together. Pure planning.

On a CPU a batch is no faster than its windows one after the other (``docs/performance.md``), and padding is
wasted work. A dynamic int8 scale is taken over a batch, so that an answer would depend on the other windows
in it. So windows of equal length share a run only while they are short, and never in plain int8. FastSpan's
own int8 kernels have a scale a row and no padding: windows of any lengths share a run, up to a budget. On a
GPU windows are sorted by length and packed under a token budget.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["KERNEL_BATCH_TOKENS", "SHORT_BATCH_TOKENS", "plan_equal_lengths", "plan_packed", "plan_padded"]

# Up to about this many tokens, windows of equal length gain from sharing one matrix product.
SHORT_BATCH_TOKENS = 128

# Tokens that share a run of the kernels. Weights are read once for all of them; from about so many on that
# gains nothing more.
KERNEL_BATCH_TOKENS = 512


def plan_equal_lengths(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Group windows of exactly equal length.

    Args:
        lengths: Tokens in each window.
        token_budget: Most tokens in a group; a longer window is a group of its own.

    Returns:
        Indexes into ``lengths``, each exactly once; longest groups first, so that workers that share
        the groups finish together.
    """
    by_length: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        by_length.setdefault(length, []).append(index)
    groups = []
    for length in sorted(by_length, reverse=True):
        members = by_length[length]
        size = max(1, token_budget // max(length, 1))
        groups += [members[at : at + size] for at in range(0, len(members), size)]
    return groups


def plan_padded(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Group windows of similar length, to be padded to the longest of their group.

    Args:
        lengths: Tokens in each window.
        token_budget: Most tokens in a group, padding included; a longer window is a group of its own.

    Returns:
        Indexes into ``lengths``, each exactly once, longest groups first.
    """
    groups: list[list[int]] = []
    longest = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if groups and (len(groups[-1]) + 1) * longest <= token_budget:
            groups[-1].append(index)
        else:
            groups.append([index])
            longest = lengths[index]
    return groups


def plan_packed(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Group windows of any lengths, to be joined end to end without padding.

    Args:
        lengths: Tokens in each window.
        token_budget: Most tokens in a group; a longer window is a group of its own.

    Returns:
        Indexes into ``lengths``, each exactly once, longest first: attention's work in a group is divided
        by its longest window, so windows of similar length go together.
    """
    groups: list[list[int]] = []
    tokens = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if groups and tokens + lengths[index] <= token_budget:
            groups[-1].append(index)
            tokens += lengths[index]
        else:
            groups.append([index])
            tokens = lengths[index]
    return groups
