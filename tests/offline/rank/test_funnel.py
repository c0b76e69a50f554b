"""Establishes that scores come back out of Elasticsearch's, and that the funnel and NDCG equal slow, obvious ones."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_exchange_center.scoring import (
    RECALL_SIZE,
    TERM_BOOST,
    VECTOR_BOOST,
    VECTOR_RECALL_SIZE,
    final_scores,
    recall_scores,
)
from offline.rank.funnel import ndcg, recall_candidates

hits = st.lists(st.tuples(st.floats(-20, 20, width=32), st.booleans(), st.booleans()), min_size=1, max_size=20)


def elasticsearch_score(product: float, by_term: bool, by_vector: bool) -> float:
    """`max_inner_product`, as Elasticsearch's documentation gives it, with the boosts."""
    similarity = product + 1 if product >= 0 else 1 / (1 - product)
    return TERM_BOOST * by_term + VECTOR_BOOST * similarity * by_vector


@given(hits)
def test_inner_products_are_recovered_and_boosts_keep_their_ratio(found: list[tuple[float, bool, bool]]) -> None:
    scores = np.array([elasticsearch_score(*hit) for hit in found])
    by_term, by_vector = (np.array([hit[k] for hit in found]) for k in (1, 2))
    recovered = recall_scores(scores, by_term, by_vector)
    known = [hit[0] for hit in found if hit[2]]
    for (product, term, vector), value in zip(found, recovered.tolist(), strict=True):
        expected = (product if vector else min(known, default=0.0)) + term * TERM_BOOST / VECTOR_BOOST
        assert math.isclose(value, expected, rel_tol=1e-6, abs_tol=1e-6)


def test_candidates_equal_a_slow_search() -> None:
    rng = np.random.default_rng(0)
    users, items, genres = 5, 400, 4
    user_vectors, item_vectors = rng.normal(size=(users, 3)), rng.normal(size=(items, 3))
    liked, flags = rng.random((users, genres)) < 0.4, (rng.random((items, genres)) < 0.2).astype(np.uint8)
    liked[0] = False  # vector recall only, of all RECALL_SIZE
    seen, rank = rng.random((users, items)) < 0.1, rng.permutation(items)
    found = recall_candidates(user_vectors, item_vectors, liked, flags, seen, rank)
    for user in range(users):
        products = item_vectors @ user_vectors[user]
        unseen = [item for item in range(items) if not seen[user, item]]
        k = VECTOR_RECALL_SIZE if liked[user].any() else RECALL_SIZE
        nearest = set(sorted(unseen, key=lambda item: -products[item])[:k])
        by_term = {item for item in unseen if (flags[item] & liked[user]).any()}
        score = {i: elasticsearch_score(products[i], i in by_term, i in nearest) for i in nearest | by_term}
        expected = sorted(score, key=lambda item: (-score[item], rank[item]))[:RECALL_SIZE]
        present = found.present[user]
        assert found.items[user][present].tolist() == expected
        floor = min(products[item] for item in nearest)
        bonus = TERM_BOOST / VECTOR_BOOST
        recall = [(products[i] if i in nearest else floor) + bonus * (i in by_term) for i in expected]
        np.testing.assert_allclose(found.recall[user][present], recall, atol=1e-9)


def test_ndcg_equals_a_slow_one() -> None:
    items = np.array([[4, 2, 0, 1]])
    scores, present = np.array([[1.0, 3.0, 2.0, 9.0]]), np.array([[True, True, True, False]])
    wanted = np.zeros((1, 6), bool)
    wanted[0, [0, 1, 5]] = True  # 0 is found second; 1 is no candidate, 5 was not recalled
    expected = (1 / math.log2(3)) / (1 + 1 / math.log2(3) + 1 / math.log2(4))
    assert math.isclose(ndcg(items, scores, present, wanted, 3)[0], expected)
    assert ndcg(items, scores, present, np.zeros((1, 6), bool), 3)[0] == 0


def test_the_final_score_is_the_declared_one() -> None:
    assert final_scores(np.array([2.0, -1.0]), np.array([0.5, 0.5]), 0.1).tolist() == [0.7, 0.4]
