"""Establishes that recall's features equal slow ones of each list, wherever candidates are absent and scores tie."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_exchange_center.features import RECALL_FEATURES
from data_exchange_center.recall_features import SMALLEST_DEVIATION, recall_features

WIDTH = 7
Candidate = tuple[int, bool, bool]  # a fifth of the score: few, so that they tie; by term, by vector
candidates = st.tuples(st.integers(-4, 4), st.booleans(), st.booleans())
lists = st.lists(st.lists(candidates, min_size=WIDTH, max_size=WIDTH), min_size=1, max_size=5)


def slow_features(listed: list[Candidate]) -> list[list[float]]:
    """One candidate after the other; those that tie stand half before each other."""
    scores = {place: c[0] / 5 for place, c in enumerate(listed) if c[1] or c[2]}
    mean, deviation = (float(f(list(scores.values()))) if scores else 0.0 for f in (np.mean, np.std))
    rows = []
    for place, (_, by_term, by_vector) in enumerate(listed):
        if place not in scores:
            rows.append([0.0] * 5)
            continue
        score = scores[place]
        z = (score - mean) / (deviation + SMALLEST_DEVIATION)
        ahead = sum((other > score) + (other == score) / 2 for other in scores.values()) - 0.5
        rows.append([score - max(scores.values()), z, np.log(1 + ahead), by_term, by_vector])
    return rows


def columns(table: list[list[Candidate]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scores, by_term, by_vector = (np.array([[c[k] for c in listed] for listed in table]) for k in range(3))
    return scores / 5, by_term.astype(bool), by_vector.astype(bool)


@given(lists)
def test_features_equal_slow_ones(table: list[list[Candidate]]) -> None:
    found = recall_features(*columns(table))
    assert found.dtype == np.float32 and found.shape == (len(table), WIDTH, len(RECALL_FEATURES))
    np.testing.assert_allclose(found, [slow_features(listed) for listed in table], rtol=1e-5, atol=1e-6)


@given(lists)
def test_a_list_does_not_depend_on_its_batch_or_on_how_precise_its_scores_are(table: list[list[Candidate]]) -> None:
    scores, by_term, by_vector = columns(table)
    together = recall_features(scores, by_term, by_vector)
    for row in range(len(table)):
        alone = recall_features(scores[row], by_term[row], by_vector[row])
        assert (alone == together[row]).all()
    # A whole number of eighths has no rounding in either precision, nor have their sums.
    eighths = scores * 5 / 8
    single = recall_features(eighths.astype(np.float32), by_term, by_vector)
    np.testing.assert_allclose(single, recall_features(eighths, by_term, by_vector), rtol=1e-4, atol=1e-5)


@given(lists, st.integers(-80, 80))
def test_what_recall_scores_higher_throughout_changes_nothing(table: list[list[Candidate]], eighths: int) -> None:
    scores, by_term, by_vector = columns(table)
    scores = scores * 5 / 8
    before = recall_features(scores, by_term, by_vector)
    np.testing.assert_allclose(recall_features(scores + eighths / 8, by_term, by_vector), before, atol=1e-5)


@given(lists)
def test_a_near_tie_changes_little(table: list[list[Candidate]]) -> None:
    """As the server's single precision does to scores: no place jumps."""
    scores, by_term, by_vector = columns(table)
    noise = np.random.default_rng(0).uniform(-1e-6, 1e-6, scores.shape)
    before, after = (recall_features(s, by_term, by_vector) for s in (scores, scores + noise))
    assert np.abs(after - before)[..., [0, 2]].max(initial=0) < 2e-3


def test_what_stands_in_an_absent_place_changes_nothing() -> None:
    scores, present = np.array([[9.0, 1.0, -9.0, 2.0]]), np.array([[False, True, False, True]])
    before = recall_features(scores, present, np.zeros_like(present))
    assert not before[~present].any() and before[present].any()
    scores[~present] = 1e6, -1e6
    assert (recall_features(scores, present, np.zeros_like(present)) == before).all()


def test_lists_without_candidates_are_zeros() -> None:
    for shape in ((3, 4), (2, 0), (0, 4)):
        none = np.zeros(shape, bool)
        found = recall_features(np.ones(shape), none, none)
        assert found.shape == (*shape, 5) and not found.any()
