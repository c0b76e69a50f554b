"""Establishes that what follows an item equals a slow count, and that items are counted on the rows given alone."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline.rank import item_knowledge
from offline.rank.item_knowledge import FOLLOW_WINDOW, NEIGHBOURS, SHRINKAGE, empty_knowledge, followers, knowledge_of
from offline.recall.interactions import Interactions

ITEMS = 7
Table = list[tuple[int, int]]  # user, item
tables = st.lists(st.tuples(st.integers(1, 3), st.integers(0, ITEMS - 1)), max_size=60).map(
    lambda table: sorted(table, key=lambda row: row[0])
)


def slow_counts(table: Table) -> dict[int, Counter[int]]:
    """How often each known item is among the next impressions of the same user, pair by pair."""
    counts: dict[int, Counter[int]] = defaultdict(Counter)
    for at, (user, item) in enumerate(table):
        for other_user, other in table[at + 1 : at + 1 + FOLLOW_WINDOW]:
            if other_user == user and item and other:
                counts[item][other] += 1
    return counts


def found_followers(table: Table) -> tuple[np.ndarray, np.ndarray]:
    users, items = (np.array([row[k] for row in table], np.int64) for k in (0, 1))
    return followers(users, items, ITEMS)


@given(tables)
def test_followers_equal_slow_ones(table: Table) -> None:
    neighbours, probabilities = found_followers(table)
    assert neighbours.shape == probabilities.shape == (ITEMS, NEIGHBOURS)
    assert neighbours.dtype == np.int32 and probabilities.dtype == np.float32
    counts = slow_counts(table)
    for item in range(ITEMS):
        total = sum(counts[item].values())
        expected = {other: pytest.approx(n / (total + SHRINKAGE), rel=1e-5) for other, n in counts[item].items()}
        kept = len(expected)
        assert dict(zip(neighbours[item, :kept].tolist(), probabilities[item, :kept].tolist(), strict=True)) == expected
        assert (np.diff(probabilities[item]) <= 0).all()  # the most frequent first
        assert not neighbours[item, kept:].any() and not probabilities[item, kept:].any()


@given(tables)
def test_the_most_frequent_followers_are_kept(table: Table) -> None:
    """The probabilities are of all that followed, whatever is kept."""
    every, all_probabilities = found_followers(table)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(item_knowledge, "NEIGHBOURS", 2)
        neighbours, probabilities = found_followers(table)
    assert neighbours.shape == (ITEMS, 2)
    assert (probabilities == all_probabilities[:, :2]).all()
    for item in range(ITEMS):
        of_all = dict(zip(every[item].tolist(), all_probabilities[item].tolist(), strict=True))
        for other, probability in zip(neighbours[item].tolist(), probabilities[item].tolist(), strict=True):
            assert probability == of_all[other] or probability == 0


def test_what_another_user_did_does_not_follow() -> None:
    neighbours, _ = found_followers([(1, 2), (2, 3), (2, 4)])
    assert not neighbours[2].any() and neighbours[3, 0] == 4


def test_what_comes_after_the_window_does_not_follow() -> None:
    items = np.arange(1, FOLLOW_WINDOW + 3)
    neighbours, probabilities = followers(np.ones_like(items), items, len(items) + 1)
    assert sorted(neighbours[1][neighbours[1] > 0].tolist()) == [*range(2, FOLLOW_WINDOW + 2)]
    assert probabilities[1, 0] == pytest.approx(1 / (FOLLOW_WINDOW + SHRINKAGE))


def test_items_are_counted_on_the_rows_given() -> None:
    users, items = np.array([1, 1, 1, 2, 2, 3]), np.array([2, 3, 2, 3, 5, 0])
    rows = Interactions(users, items, np.array([1, 0, 1, 1, 0, 1], np.uint8), 4, ITEMS)
    vectors, fm = np.ones((ITEMS, 3), np.float32), (np.zeros((4, 2), np.float32), np.zeros((ITEMS, 2), np.float32))
    knowledge = knowledge_of(rows, vectors, fm)
    assert knowledge.counts.tolist() == [1, 0, 2, 2, 0, 1, 0]
    assert knowledge.positives.tolist() == [1, 0, 2, 1, 0, 0, 0]
    assert knowledge.vectors is vectors and (knowledge.fm_users, knowledge.fm_items) == fm
    for found, expected in zip(
        (knowledge.neighbours, knowledge.probabilities), followers(users, items, ITEMS), strict=True
    ):
        assert (found == expected).all()


@pytest.mark.parametrize("rows", [0, 1])
def test_knowledge_of_hardly_any_row_fills_the_empty_tables(rows: int) -> None:
    """The shapes and dtypes are those that a state dict is loaded into."""
    nothing = Interactions(np.ones(rows, np.int64), np.ones(rows, np.int64), np.ones(rows, np.uint8), 4, ITEMS)
    empty = empty_knowledge(4, ITEMS, vector_dim=8, fm_dim=2)
    knowledge = knowledge_of(nothing, empty.vectors, (empty.fm_users, empty.fm_items))
    for name, table in vars(empty).items():
        found = getattr(knowledge, name)
        assert (found.shape, found.dtype) == (table.shape, table.dtype), name
        assert found.sum() == (rows if name in ("counts", "positives") else 0)
