"""Plans: every window exactly once, no batch beyond its budget, nothing padded that need not be."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastspan.runtime.batching import plan_equal_lengths, plan_packed, plan_padded

LENGTHS = st.lists(st.integers(1, 512), max_size=200) | st.lists(st.sampled_from([16, 17, 384]), max_size=200)
BUDGET = st.integers(1, 5000)


def each_once(groups: list[list[int]], lengths: list[int]) -> bool:
    return sorted(index for group in groups for index in group) == list(range(len(lengths)))


@given(LENGTHS, BUDGET)
def test_windows_of_equal_length_share_a_group(lengths: list[int], budget: int) -> None:
    groups = plan_equal_lengths(lengths, budget)
    assert each_once(groups, lengths)
    group_lengths = [lengths[group[0]] for group in groups]
    assert group_lengths == sorted(group_lengths, reverse=True)
    for group in groups:
        assert len({lengths[index] for index in group}) == 1
        assert len(group) == 1 or sum(lengths[index] for index in group) <= budget
    for length, count in Counter(lengths).items():
        fewest = -(-count // max(1, budget // length))
        assert group_lengths.count(length) == fewest


@given(LENGTHS, BUDGET)
def test_padded_groups_keep_to_the_budget_with_their_padding(lengths: list[int], budget: int) -> None:
    groups = plan_padded(lengths, budget)
    assert each_once(groups, lengths)
    for group in groups:
        longest = max(lengths[index] for index in group)
        assert len(group) == 1 or len(group) * longest <= budget
    # Sorted by length, so that padding is least: no window is shorter than one of a later group.
    ordered = [lengths[index] for group in groups for index in group]
    assert ordered == sorted(lengths, reverse=True)


@given(LENGTHS, BUDGET)
def test_padded_groups_are_filled(lengths: list[int], budget: int) -> None:
    groups = plan_padded(lengths, budget)
    for group in groups[:-1]:
        longest = max(lengths[index] for index in group)
        assert (len(group) + 1) * longest > budget


@given(LENGTHS, BUDGET)
def test_packed_groups_keep_to_the_budget_and_are_filled(lengths: list[int], budget: int) -> None:
    groups = plan_packed(lengths, budget)
    assert each_once(groups, lengths)
    sums = [sum(lengths[index] for index in group) for group in groups]
    assert all(total <= budget or len(group) == 1 for total, group in zip(sums, groups, strict=True))
    for total, after in zip(sums, groups[1:], strict=False):
        assert total + lengths[after[0]] > budget
    # Sorted by length, so that the longest window of a group is little longer than the others.
    ordered = [lengths[index] for group in groups for index in group]
    assert ordered == sorted(lengths, reverse=True)


@pytest.mark.parametrize("plan", [plan_equal_lengths, plan_packed, plan_padded])
def test_no_windows_make_no_groups(plan: object) -> None:
    assert plan([], 100) == []  # type: ignore[operator]


def test_the_order_within_a_group_is_the_order_of_the_input() -> None:
    assert plan_equal_lengths([5, 7, 5, 5, 7], 15) == [[1, 4], [0, 2, 3]]
    assert plan_padded([5, 7, 5, 5, 7], 15) == [[1, 4], [0, 2, 3]]
