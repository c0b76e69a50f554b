"""Establishes that scores translated to Elasticsearch's and back are the inner products, in one search and in many."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_exchange_center.elasticsearch_scores import (
    TERM_BONUS,
    TERM_BOOST,
    VECTOR_BOOST,
    elasticsearch_scores,
    recall_scores,
)

Hit = tuple[float, bool, bool]  # inner product, found by the terms query, found by the vector query
hits = st.lists(st.tuples(st.floats(-20, 20, width=32), st.booleans(), st.booleans()), min_size=1, max_size=20)


def columns(found: list[Hit]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    products, by_term, by_vector = zip(*found, strict=True)
    return np.array(products, np.float32), np.array(by_term), np.array(by_vector)


def documented_score(product: float, by_term: bool, by_vector: bool) -> float:
    """`max_inner_product` as Elasticsearch's documentation gives it, with the boosts of the two queries."""
    similarity = product + 1 if product >= 0 else 1 / (1 - product)
    return TERM_BOOST * by_term + VECTOR_BOOST * similarity * by_vector


def expected(found: list[Hit]) -> list[float]:
    """The inner products, with the smallest known one for hits of the terms query alone, and the terms' bonus."""
    floor = min((product for product, _, by_vector in found if by_vector), default=0.0)
    return [(product if by_vector else floor) + by_term * TERM_BONUS for product, by_term, by_vector in found]


@given(hits)
def test_the_forward_mapping_is_the_documented_one(found: list[Hit]) -> None:
    scores = elasticsearch_scores(*columns(found))
    assert scores.dtype == np.float32
    for hit, score in zip(found, scores.tolist(), strict=True):
        assert math.isclose(score, documented_score(*hit), rel_tol=1e-6, abs_tol=1e-9)


@given(hits)
def test_a_round_trip_gives_the_inner_products_and_keeps_the_ratio_of_the_boosts(found: list[Hit]) -> None:
    products, by_term, by_vector = columns(found)
    recovered = recall_scores(elasticsearch_scores(products, by_term, by_vector), by_term, by_vector)
    # Elasticsearch's float32 leaves about 1e-7 of a score; below 0 the score is as small as 1 / (1 - x).
    for value, right in zip(recovered.tolist(), expected(found), strict=True):
        assert math.isclose(value, right, rel_tol=1e-4, abs_tol=1e-4)


@given(hits)
def test_without_rounding_the_inverse_is_exact(found: list[Hit]) -> None:
    _, by_term, by_vector = columns(found)
    recovered = recall_scores(np.array([documented_score(*hit) for hit in found]), by_term, by_vector)
    for value, right in zip(recovered.tolist(), expected(found), strict=True):
        assert math.isclose(value, right, rel_tol=1e-6, abs_tol=1e-6)


@given(hits, hits)
def test_many_searches_at_once_are_each_translated_by_their_own_hits(one: list[Hit], other: list[Hit]) -> None:
    count = min(len(one), len(other))
    rows = [columns(found[:count]) for found in (one, other)]
    products, by_term, by_vector = (np.stack(part) for part in zip(*rows, strict=True))
    together = recall_scores(elasticsearch_scores(products, by_term, by_vector), by_term, by_vector)
    for row, parts in zip(together, rows, strict=True):
        np.testing.assert_array_equal(row, recall_scores(elasticsearch_scores(*parts), *parts[1:]))


@pytest.mark.filterwarnings("error")
def test_items_out_of_reach_and_no_hits_at_all_raise_nothing() -> None:
    no, yes = np.array([False]), np.array([True])
    assert elasticsearch_scores(np.array([-np.inf]), yes, no).tolist() == [np.float32(TERM_BOOST)]
    assert np.isfinite(recall_scores(np.array([0.0]), no, yes)).all()  # a similarity that float32 rounded down to 0
    assert len(recall_scores(np.empty(0), np.empty(0, bool), np.empty(0, bool))) == 0
