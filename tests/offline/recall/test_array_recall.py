"""Establishes that recall on arrays equals a slow, obvious one in Elasticsearch's float32, ties included."""

from dataclasses import dataclass

import numpy as np
import pytest

from data_exchange_center.elasticsearch_scores import TERM_BONUS, TERM_BOOST, VECTOR_BOOST
from data_exchange_center.limits import RECALL_SIZE, VECTOR_RECALL_SIZE
from offline.recall.array_recall import CandidateBatch, recall_on_arrays

GENRES = 4


@dataclass(frozen=True)
class Case:
    """The arguments of recall_on_arrays."""

    user_vectors: np.ndarray
    item_vectors: np.ndarray
    liked: np.ndarray
    flags: np.ndarray
    seen: np.ndarray
    popularity_rank: np.ndarray

    def recall(self) -> CandidateBatch:
        return recall_on_arrays(**vars(self))


def a_case(seed: int, items: int = 700, whole_numbers: bool = False, users: int = 6, seen: float = 0.1) -> Case:
    """Random arguments; vectors of small whole numbers give many products that tie."""
    rng = np.random.default_rng(seed)

    def vectors(count: int) -> np.ndarray:
        drawn = rng.integers(-2, 3, (count, 3)) if whole_numbers else rng.normal(size=(count, 3))
        return drawn.astype(np.float32)

    liked = rng.random((users, GENRES)) < 0.4
    liked[0], liked[-1, 0] = False, True
    user_vectors = vectors(users)
    user_vectors[:2] += ~user_vectors[:2].any(axis=1, keepdims=True)  # these two have a vector
    user_vectors[-1] = 0  # has none, and terms
    return Case(
        user_vectors,
        vectors(items),
        liked,
        (rng.random((items, GENRES)) < 0.2).astype(np.uint8),
        rng.random((users, items)) < seen,
        rng.permutation(items),
    )


def slow_recall(case: Case, user: int) -> list[tuple[int, float, bool, bool]]:
    """One user's candidates, best first: place, score on the inner product's scale, by term, by vector."""
    rank = case.popularity_rank.tolist()
    products = (case.user_vectors @ case.item_vectors.T)[user]  # float32
    unseen = [item for item in range(len(products)) if not case.seen[user, item]]
    by_term = {item for item in unseen if (case.flags[item] & case.liked[user]).any()}
    k = VECTOR_RECALL_SIZE if case.liked[user].any() else RECALL_SIZE
    has_vector = case.user_vectors[user].any()
    nearest = set(sorted(unseen, key=lambda item: (-products[item], rank[item]))[:k]) if has_vector else set()

    def elasticsearch_score(item: int) -> np.float32:
        x, one = products[item], np.float32(1)
        similarity = x + one if x >= 0 else one / (one - x)
        return (item in nearest) * similarity * np.float32(VECTOR_BOOST) + (item in by_term) * np.float32(TERM_BOOST)

    listed = sorted(nearest | by_term, key=lambda item: (-elasticsearch_score(item), rank[item]))[:RECALL_SIZE]
    floor = min((float(products[item]) for item in listed if item in nearest), default=0.0)
    scores = [(float(products[i]) if i in nearest else floor) + TERM_BONUS * (i in by_term) for i in listed]
    return [(item, score, item in by_term, item in nearest) for item, score in zip(listed, scores, strict=True)]


def assert_equals_slow(case: Case) -> None:
    found = case.recall()
    for user in range(len(case.user_vectors)):
        expected = slow_recall(case, user)
        present = found.present[user]
        assert present.tolist() == [place < len(expected) for place in range(len(present))]
        items, scores, by_term, by_vector = zip(*expected, strict=True) if expected else ((), (), (), ())
        assert found.items[user][present].tolist() == list(items)
        assert found.by_term[user][present].tolist() == list(by_term)
        assert found.by_vector[user][present].tolist() == list(by_vector)
        # The way back from a float32 score costs digits where x is far below 0.
        np.testing.assert_allclose(found.scores[user][present], scores, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("whole_numbers", [False, True], ids=["few ties", "many ties"])
@pytest.mark.parametrize("seed", range(5))
def test_candidates_equal_slow_ones(seed: int, whole_numbers: bool) -> None:
    case = a_case(seed, whole_numbers=whole_numbers)
    assert_equals_slow(case)
    if whole_numbers:
        products = (case.user_vectors @ case.item_vectors.T)[0]
        assert len(np.unique(products)) < 30  # ties decide both the nearest and the list


@pytest.mark.parametrize("items", [1, 5, RECALL_SIZE, RECALL_SIZE + 1])
def test_small_catalogues_leave_places_empty(items: int) -> None:
    assert_equals_slow(a_case(0, items=items, whole_numbers=True))


def test_a_user_who_has_seen_everything_gets_nothing() -> None:
    case = a_case(0, seen=1.1)
    assert case.seen.all() and not case.recall().present.any()


def test_one_user_gets_what_a_block_of_users_gets() -> None:
    """The ranker's lists ask for blocks of users, the benchmark's recall index for one."""
    case = a_case(3, whole_numbers=True)
    together = case.recall()
    for user in range(len(case.user_vectors)):
        rows = slice(user, user + 1)
        alone = recall_on_arrays(
            case.user_vectors[rows],
            case.item_vectors,
            case.liked[rows],
            case.flags,
            case.seen[rows],
            case.popularity_rank,
        )
        for name in ("items", "scores", "by_term", "by_vector", "present"):
            assert (getattr(alone, name)[0] == getattr(together, name)[user]).all(), name


def test_ties_go_by_popularity_and_no_real_difference_does() -> None:
    """At a million items a rank that is added to the scores reorders neighbours; here it must decide ties alone."""
    steps = np.array([0, 1, 1, 2, 3], np.float32) * np.float32(2**-21)
    case = Case(
        np.ones((1, 1), np.float32),
        (np.float32(1) + steps)[:, None],
        np.zeros((1, GENRES), bool),
        np.zeros((5, GENRES), np.uint8),
        np.zeros((1, 5), bool),
        np.array([0, 10, 3, 999_999, 2_000_000]),
    )
    found = case.recall()
    assert found.items[0][found.present[0]].tolist() == [4, 3, 2, 1, 0]


def test_products_on_both_sides_of_zero_keep_their_order() -> None:
    """A negative zero ties with zero, and the smallest numbers stand on their own side."""
    values = np.array([-0.0, 0.0, -3.0, 3.0, -0.5, 0.5, -1e30, 1e30], np.float32)
    case = Case(
        np.ones((1, 1), np.float32),
        values[:, None],
        np.zeros((1, GENRES), bool),
        np.zeros((8, GENRES), np.uint8),
        np.zeros((1, 8), bool),
        np.arange(8)[::-1].copy(),
    )
    found = case.recall()
    assert found.items[0][found.present[0]].tolist() == [7, 3, 5, 1, 0, 4, 2, 6]
