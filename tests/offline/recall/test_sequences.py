"""Establishes that a window of impressions ends before its row, and never holds another user's."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from offline.recall.interactions import Interactions
from offline.recall.sequences import Sequences

ITEMS = 6
Table = list[tuple[int, int, int]]  # user, item, label
tables = st.lists(
    st.tuples(st.integers(1, 5), st.integers(1, ITEMS - 1), st.integers(0, 1)), max_size=40
).map(lambda table: sorted(table, key=lambda row: row[0]))  # fmt: skip


def sequences_of(table: Table) -> Sequences:
    users, items, labels = (np.array([row[k] for row in table], np.int64) for k in range(3))
    return Sequences.of(Interactions(users, items, labels.astype(np.uint8), 6, ITEMS))


def slow_window(table: Table, user: int, before: int, length: int) -> list[tuple[int, int]]:
    """Items and labels of one user's last rows before a row."""
    own = [(item, label) for at, (of, item, label) in enumerate(table) if of == user and at < before][-length:]
    return [(0, 0)] * (length - len(own)) + own


@given(tables)
def test_bounds_are_those_of_the_users(table: Table) -> None:
    sequences = sequences_of(table)
    rows_of = {user: [at for at, row in enumerate(table) if row[0] == user] for user, _, _ in table}
    assert sequences.start.tolist() == [min(rows_of[row[0]]) for row in table]
    assert sequences.end.tolist() == [max(rows_of[row[0]]) + 1 for row in table]
    assert sequences.item_count == ITEMS and sequences.labels.dtype == np.int64
    assert [*zip(sequences.users, sequences.items, sequences.labels, strict=True)] == table


@given(tables, st.integers(1, 12))
def test_windows_equal_slow_ones(table: Table, length: int) -> None:
    items, liked = sequences_of(table).windows(np.arange(len(table)), length)
    assert items.shape == liked.shape == (len(table), length)
    for row, (user, _, _) in enumerate(table):
        found = list(zip(items[row].tolist(), liked[row].tolist(), strict=True))
        assert found == slow_window(table, user, row, length)


@given(tables, st.integers(1, 12))
def test_the_newest_windows_end_with_each_users_last_row(table: Table, length: int) -> None:
    users, items, liked = sequences_of(table).newest(length)
    assert users.tolist() == sorted({user for user, _, _ in table})
    for row, user in enumerate(users.tolist()):
        found = list(zip(items[row].tolist(), liked[row].tolist(), strict=True))
        assert found == slow_window(table, user, len(table), length)


@given(tables.filter(len), st.integers(0, 39), st.integers(1, 12), st.data())
def test_the_state_before_a_row_sees_neither_it_nor_later_rows_nor_other_users(
    table: Table, at: int, length: int, data: st.DataObject
) -> None:
    """Everything that the state must not see is replaced; what it may see is not."""
    row = at % len(table)
    changed = [
        (user, item, label)
        if user == table[row][0] and place < row
        else (user, data.draw(st.integers(1, ITEMS - 1)), 1 - label)
        for place, (user, item, label) in enumerate(table)
    ]
    before, after = (sequences_of(rows).windows(np.array([row]), length) for rows in (table, changed))
    for one, other in zip(before, after, strict=True):
        assert one.tolist() == other.tolist()
