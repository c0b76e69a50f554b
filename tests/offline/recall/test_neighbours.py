"""Establishes that neighbours and their recall equal slow, obvious ones, and that few likes leave the vectors a say."""

import numpy as np
import pytest

from data_exchange_center.arrays import Float32Array
from data_exchange_center.similar_items import SimilarItemsSettings
from offline.recall import neighbours
from offline.recall.following_likes import HORIZON, Queries
from offline.recall.interactions import Interactions
from offline.recall.neighbour_choice import choose, lists_of, measure
from offline.recall.neighbours import Followed, Neighbours, best, blended, lag_weights, prior

USERS, ITEMS = 12, 9


def rows_of(seed: int, each: int = 30) -> Interactions:
    rng = np.random.default_rng(seed)
    users = np.sort(rng.integers(1, USERS, USERS * each))
    items, labels = rng.integers(0, ITEMS, len(users)), rng.integers(0, 2, len(users)).astype(np.uint8)
    return Interactions(users, items, labels, USERS, ITEMS)


def vectors(seed: int = 0) -> Float32Array:
    return np.random.default_rng(seed).normal(size=(ITEMS, 5)).astype(np.float32)


def slow_counts(rows: Interactions, weights: list[float]) -> np.ndarray:
    counts = np.zeros((ITEMS, ITEMS))
    lines = list(zip(rows.users.tolist(), rows.items.tolist(), rows.labels.tolist(), strict=True))
    for place, (user, item, _) in enumerate(lines):
        for lag, weight in enumerate(weights, start=1):
            if place + lag < len(lines):
                other, later, liked = lines[place + lag]
                if other == user and liked and later not in (0, item):
                    counts[item, later] += weight
    return counts


@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_what_follows_an_item_equals_a_slow_count_in_blocks_of_any_size(
    decay: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, weights = rows_of(1), lag_weights(decay, 4)
    expected = slow_counts(rows, weights.tolist())
    np.testing.assert_allclose(Followed.of(rows).counts(np.arange(ITEMS), weights), expected, rtol=1e-6)
    for cells in (1, 2 * ITEMS, 100 * ITEMS):
        monkeypatch.setattr(neighbours, "CELLS", cells)
        parts = [Followed.of(rows).counts(block, weights) for block in neighbours.blocks(np.array([7, 2, 5]), ITEMS)]
        np.testing.assert_allclose(np.concatenate(parts), expected[[7, 2, 5]], rtol=1e-6)


def test_the_prior_is_a_distribution_over_the_other_items() -> None:
    popularity = np.arange(ITEMS, dtype=float)
    found = prior(np.array([3, 0]), vectors(), popularity, 5.0)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    assert found[0, 3] == 0 and not found[:, 0].any() and (np.delete(found[0], [0, 3]) > 0).all()


def test_the_vectors_decide_where_nobody_has_met_the_item_and_not_where_many_have() -> None:
    counts = np.array([[0, 0, 0, 0], [0, 900, 100, 0], [0, 0, 0, 0]], np.float32)
    of_vectors = np.array([[0, 0.1, 0.2, 0.7]] * 3, np.float32)
    scores = blended(counts, of_vectors, 10.0)
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-5)
    items, _ = best(scores, 5)
    assert items.tolist() == [[3, 2, 1, 0, 0], [1, 2, 3, 0, 0], [3, 2, 1, 0, 0]]  # 0 where there is nothing


def test_recall_equals_a_slow_one() -> None:
    held_out, lists = rows_of(3, each=5), {}
    queries = Queries.of(held_out)
    rng = np.random.default_rng(0)
    for item in queries.query_items.tolist():
        lists[item] = rng.permutation(np.arange(1, ITEMS))[:3]
    likes = [line[:2] for line in zip(held_out.users, held_out.items, held_out.labels, strict=True) if line[2]]
    by_user: dict[int, list[float]] = {}
    for place, (user, item) in enumerate(likes):
        relevant = [later for other, later in likes[place + 1 : place + 1 + HORIZON] if other == user]
        if relevant and item:
            found = sum(later in lists[item] for later in relevant) / len(relevant)
            by_user.setdefault(int(user), []).append(found)
    users, recall = queries.recall(np.array(list(lists.values())), ITEMS)
    assert users.tolist() == sorted(by_user)
    assert recall.tolist() == pytest.approx([np.mean(by_user[user]) for user in sorted(by_user)])


def test_what_follows_is_found_before_what_is_popular() -> None:
    """Everybody goes through 1, 2, 3 and so on in circles, and comes back to 8 all the time."""
    sequence = np.tile([1, 8, 2, 8, 3, 8, 4, 8, 5, 8, 6, 8, 7, 8], 20)
    users = np.repeat(np.arange(1, 11), len(sequence))
    rows = Interactions(users, np.tile(sequence, 10), np.ones(len(users), np.uint8), USERS, ITEMS)
    known = Neighbours.of(rows, vectors())
    choice = choose(known, Queries.of(rows).drawn(100, 0))
    assert {trial.settings.after for trial in choice.tried} == {"likes", "impressions"}
    assert choice.settings == max(choice.tried, key=lambda trial: trial.recall).settings
    lists, scores = lists_of(lambda block: known.scores(block, choice.settings), np.array([3, 6]), ITEMS, 2)
    assert lists.tolist() == [[8, 4], [8, 7]] and (np.diff(scores, axis=1) <= 0).all()
    measured = measure(known, Queries.of(rows), choice, 0)
    assert measured["blend"].recall >= measured["popularity"].recall > 0
    assert measured["co_popularity"].gain_interval is not None and measured["blend"].gain_of_blend is None


def test_a_data_set_without_a_query_has_neighbours_all_the_same() -> None:
    rows = rows_of(5)
    nothing = rows.select(np.zeros(len(rows.users), bool))
    choice = choose(Neighbours.of(rows, vectors()), Queries.of(nothing).drawn(10, 0))
    assert measure(Neighbours.of(rows, vectors()), Queries.of(nothing), choice, 0)["blend"].recall == 0
    assert Neighbours.of(nothing, vectors()).scores(np.array([1, 2]), SimilarItemsSettings()).max() > 0
