"""Establishes that bootstrapped metrics equal scikit-learn's weighted ones, and what the calibration error counts."""

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score

from offline.metrics import RESAMPLES, Bootstrap, auc, calibration, interval


def some_rows(count: int = 3000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = (rng.random(count) < 0.5).astype(np.uint8)
    return np.sort(rng.integers(0, 100, count)), labels, rng.normal(size=count) + labels


@pytest.mark.parametrize("ties", [False, True])
def test_each_draw_is_a_weighted_auc(ties: bool) -> None:
    users, labels, scores = some_rows()
    if ties:
        scores = scores.round(0)
    bootstrap = Bootstrap(users, 1)
    drawn = bootstrap.aucs(labels, scores)
    assert drawn.shape == (RESAMPLES,)
    for draw in range(0, RESAMPLES, 100):
        weights = bootstrap._weights[draw][bootstrap._user]
        assert drawn[draw] == pytest.approx(roc_auc_score(labels, scores, sample_weight=weights), abs=1e-5)
    low, high = interval(drawn)
    assert low < auc(labels, scores) < high and 0.01 < high - low < 0.06


def test_means_leave_out_users_without_a_value() -> None:
    users = np.arange(50)
    values = np.where(users < 10, np.nan, 1.0)
    assert np.allclose(Bootstrap(users, 0).means(values), 1.0)
    low, high = interval(Bootstrap(users, 0).means(np.where(users % 2 == 0, 0.0, 1.0)))
    assert 0.3 < low < 0.5 < high < 0.7


def test_rows_of_one_user_are_no_independent_evidence() -> None:
    """The same rows, once as 100 users and once as 3000: the interval of the former must be the wider."""
    _, labels, _ = some_rows()
    users = np.repeat(np.arange(100), 30)
    scores = np.repeat(np.random.default_rng(1).normal(size=100), 30)
    labels = (np.random.default_rng(2).random(3000) < expit(scores)).astype(np.uint8)
    widths = [np.diff(interval(Bootstrap(unit, 0).aucs(labels, scores)))[0] for unit in (users, np.arange(3000))]
    assert widths[0] > 1.2 * widths[1]


def test_the_calibration_error_is_the_weighted_gap() -> None:
    probabilities = np.repeat([0.1, 0.5, 0.9], [100, 200, 100])
    labels = np.concatenate([np.arange(100) < 10, np.arange(200) < 140, np.arange(100) < 90]).astype(np.uint8)
    found = calibration(labels, logit(probabilities))
    assert found.error == pytest.approx(0.2 * 200 / 400) and found.rows == [100, 200, 100]
    assert found.observed == pytest.approx([0.1, 0.7, 0.9]) and found.predicted == pytest.approx([0.1, 0.5, 0.9])
    assert calibration(labels[:0], probabilities[:0]).error == 0
