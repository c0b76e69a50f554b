"""Establishes that recall over the catalogue and NDCG of a list equal slow, obvious ones."""

import math

import numpy as np
import pytest

from offline.recall.interactions import Interactions
from offline.retrieval_metrics import ndcg, recall_at


def test_recall_equals_a_slow_one() -> None:
    rng = np.random.default_rng(0)
    users, items = 6, 12
    vectors = rng.normal(size=(users, 3)).astype(np.float32), rng.normal(size=(items, 3)).astype(np.float32)
    seen = Interactions(np.array([1, 1, 2, 5]), np.array([3, 4, 3, 7]), np.zeros(4, np.uint8), users, items)
    held_out = Interactions(
        np.array([1, 1, 2, 4, 5]), np.array([5, 0, 8, 2, 9]), np.array([1, 1, 1, 0, 1], np.uint8), users, items
    )
    expected = []
    for user, relevant in ((1, {5, 0}), (2, {8}), (5, {9})):  # item 0 is unknown: relevant, never found
        left_out = {0, *seen.items[seen.users == user].tolist()}
        order = sorted(set(range(items)) - left_out, key=lambda item: -float(vectors[0][user] @ vectors[1][item]))
        expected.append([len(relevant & set(order[:k])) / len(relevant) for k in (2, 5)])
    found = recall_at(*vectors, seen, held_out, (2, 5))
    assert [found[2], found[5]] == pytest.approx(np.mean(expected, axis=0))


def test_recall_without_a_held_out_positive_is_0() -> None:
    nothing = Interactions(np.array([1]), np.array([1]), np.zeros(1, np.uint8), 2, 3)
    assert recall_at(np.ones((2, 1), np.float32), np.ones((3, 1), np.float32), nothing, nothing, (1,)) == {1: 0.0}


def test_ndcg_equals_a_slow_one() -> None:
    items = np.array([[4, 2, 0, 1]])
    scores, present = np.array([[1.0, 3.0, 2.0, 9.0]]), np.array([[True, True, True, False]])
    relevant = np.zeros((1, 6), bool)
    relevant[0, [0, 1, 5]] = True  # 0 is found second; 1 is no candidate, 5 was not recalled
    expected = (1 / math.log2(3)) / (1 + 1 / math.log2(3) + 1 / math.log2(4))
    assert math.isclose(ndcg(items, scores, present, relevant, 3)[0], expected)
    assert ndcg(items, scores, present, np.zeros((1, 6), bool), 3)[0] == 0


@pytest.mark.parametrize("k", [1, 5, 50])
def test_ndcg_of_many_users_equals_a_slow_one(k: int) -> None:
    rng = np.random.default_rng(k)
    users, count, candidates = 20, 60, 30
    items = np.stack([rng.permutation(count)[:candidates] for _ in range(users)])
    scores = rng.integers(0, 8, (users, candidates)).astype(float)  # few, so that they tie
    present, relevant = rng.random((users, candidates)) < 0.8, rng.random((users, count)) < 0.1
    found = ndcg(items, scores, present, relevant, k)
    for user in range(users):
        places = [place for place in range(candidates) if present[user, place]]
        listed = sorted(places, key=lambda place: (-scores[user, place], place))[:k]
        gains = [1 / math.log2(rank + 2) for rank, place in enumerate(listed) if relevant[user, items[user, place]]]
        ideal = sum(1 / math.log2(rank + 2) for rank in range(min(k, int(relevant[user].sum()))))
        assert found[user] == pytest.approx(sum(gains) / ideal if ideal else 0.0)
