"""Establishes that the baselines are fitted to convergence: one that is stopped early flatters the models beside it."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning

from offline.metrics import auc
from offline.rank import baselines
from offline.rank.baselines import INVERSE_PENALTIES, fit_logistic_regression, logistic_regression, one_hot, popularity
from offline.rank.selection import platt_scaling
from offline.recall.interactions import Interactions


def some_rows(seed: int = 0, users: int = 60, items: int = 40, count: int = 3000) -> Interactions:
    """Labels that follow from a bias of the user and one of the item; index 0 is unknown, and a few rows hold it."""
    rng = np.random.default_rng(seed)
    biases = np.random.default_rng(1).normal(size=users), np.random.default_rng(2).normal(size=items)
    drawn_users, drawn_items = rng.integers(0, users, count), rng.integers(0, items, count)
    logits = biases[0][drawn_users] + biases[1][drawn_items] + 0.5
    labels = (rng.random(count) < expit(logits)).astype(np.uint8)
    return Interactions(drawn_users, drawn_items, labels, users, items)


def newton(features: np.ndarray, labels: np.ndarray, c: float = np.inf) -> np.ndarray:
    """[1 + features] intercept and weights of log loss + half the squared weights / c, by Newton's full steps."""
    design = np.hstack([np.ones((len(features), 1)), features])
    penalty = np.r_[0.0, np.full(features.shape[1], 1 / c)]  # the intercept has none
    weights = np.zeros(design.shape[1])
    for _ in range(100):
        predicted = expit(design @ weights)
        gradient = design.T @ (predicted - labels) + penalty * weights
        hessian = (design * (predicted * (1 - predicted))[:, None]).T @ design + np.diag(penalty)
        weights -= np.linalg.solve(hessian, gradient)
        if np.abs(gradient).max() < 1e-8:
            return weights
    raise AssertionError("Newton's method did not converge")


@pytest.mark.parametrize("c", INVERSE_PENALTIES)
@pytest.mark.parametrize("count", [3000, 30_000])
def test_logistic_regression_equals_a_converged_solver(c: float, count: int) -> None:
    rows = some_rows(count=count)
    features = one_hot(rows).toarray()
    assert features.sum(axis=1).tolist() == [2.0] * count
    assert (features[np.arange(count), rows.users] == 1).all()
    assert (features[np.arange(count), rows.user_count + rows.items] == 1).all()
    weights = newton(features, rows.labels, c)
    found = fit_logistic_regression(rows, c).decision_function(one_hot(rows))
    np.testing.assert_allclose(found, features @ weights[1:] + weights[0], rtol=0, atol=1e-3)


def test_a_solver_that_does_not_converge_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "MOST_ITERATIONS", 2)
    with pytest.raises(ConvergenceWarning):
        fit_logistic_regression(some_rows(), 1.0)


def test_the_penalty_is_chosen_on_valid_and_test_is_scored_by_a_fit_to_all_training_rows() -> None:
    train, valid, test = (some_rows(seed) for seed in (0, 1, 2))
    users, items, labels = (
        np.concatenate([getattr(part, name) for part in (train, valid)]) for name in ("users", "items", "labels")
    )
    training = Interactions(users, items, labels, train.user_count, train.item_count)
    fitted = logistic_regression(training, train, valid, test)
    aucs = {
        c: auc(valid.labels, fit_logistic_regression(train, c).decision_function(one_hot(valid)))
        for c in INVERSE_PENALTIES
    }
    assert fitted.valid_auc == max(aucs.values()) == aucs[fitted.c]
    expected = fit_logistic_regression(training, fitted.c).decision_function(one_hot(test))
    assert np.array_equal(fitted.logits, expected)


def test_popularity_is_a_converged_fit_to_the_logarithm_of_the_positives() -> None:
    """Its logits order the items by their positives, and solve the unpenalised regression."""
    training, test = some_rows(0), some_rows(2)
    logits = popularity(training, test)
    positives = np.bincount(training.items[training.labels == 1], minlength=training.item_count)
    order = np.argsort(logits, kind="stable")
    assert (np.diff(positives[test.items][order]) >= 0).all()
    features = np.log1p(positives)[:, None]
    weights = newton(features[training.items], training.labels)
    np.testing.assert_allclose(logits, features[test.items][:, 0] * weights[1] + weights[0], rtol=0, atol=1e-3)


def test_platt_scaling_equals_a_converged_solver() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=20_000) * 3
    labels = (rng.random(20_000) < expit(0.4 * logits - 0.7)).astype(np.uint8)
    shift, scale = newton(logits[:, None], labels)
    assert platt_scaling(logits, labels) == pytest.approx((scale, shift), abs=1e-4)
    assert platt_scaling(logits, np.ones(20_000, np.uint8)) == (1.0, 0.0)  # one class alone tells nothing
