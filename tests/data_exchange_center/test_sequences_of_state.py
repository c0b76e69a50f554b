"""Establishes that the sequences of last impressions equal slow ones: bounds, length, unknown items, no rows at all."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_exchange_center.user_state import sequences

Rows = list[tuple[int, int]]  # item, 0 unknown; label
rows = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1)), max_size=25)
bounds = st.lists(st.tuples(st.integers(0, 25), st.integers(0, 25)), max_size=8)


def slow_sequence(table: Rows, start: int, end: int, length: int) -> Rows:
    """The last impressions one by one, an unknown item as an empty place."""
    places = [(item, label) if item else (0, 0) for item, label in table[start:end][-length:]]
    return [(0, 0)] * (length - len(places)) + places


@given(rows, bounds, st.integers(1, 30))
def test_sequences_equal_slow_ones(table: Rows, asked: list[tuple[int, int]], length: int) -> None:
    items, labels = (np.array([row[k] for row in table], np.int32) for k in (0, 1))
    within = [sorted((min(one, len(table)), min(other, len(table)))) for one, other in asked]
    starts, ends = (np.array([pair[k] for pair in within], np.int64) for k in (0, 1))
    found = sequences(items, labels.astype(np.uint8), starts, ends, length)
    for part in found:
        assert part.dtype == np.int64 and part.shape == (len(asked), length)
    for row, (start, end) in enumerate(within):
        assert list(zip(*(part[row].tolist() for part in found), strict=True)) == slow_sequence(
            table, start, end, length
        )


@given(rows, st.integers(0, 25), st.integers(1, 30))
def test_what_lies_outside_the_bounds_changes_nothing(table: Rows, at: int, length: int) -> None:
    """Neither the impression at the end nor those of the user before; each is replaced by what occurs nowhere."""
    end = min(at, len(table))
    start = end // 2
    items, labels = (np.array([row[k] for row in table], np.int64) for k in (0, 1))
    bound = np.array([start]), np.array([end])
    before = sequences(items, labels, *bound, length)
    outside = np.r_[np.arange(start), np.arange(end, len(table))]
    items[outside], labels[outside] = 99, 1 - labels[outside]
    for one, other in zip(before, sequences(items, labels, *bound, length), strict=True):
        assert (one == other).all()


def test_an_unknown_item_keeps_its_place_and_says_nothing() -> None:
    found = sequences(np.array([3, 0, 4]), np.array([1, 1, 1]), np.array([0]), np.array([3]), 4)
    assert [part.tolist() for part in found] == [[[0, 3, 0, 4]], [[0, 1, 0, 1]]]
