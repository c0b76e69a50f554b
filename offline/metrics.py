"""Metrics of binary predictions with their bootstrap intervals, for recall, rank and the evaluation."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.special import expit
from sklearn import metrics
from sklearn.calibration import calibration_curve

from data_exchange_center.arrays import FloatArray, IntArray

RESAMPLES = 500
CONFIDENCE = 0.95
AUC_BINS = 4096  # of equally many rows: the AUC of binned scores differs from the exact one in the sixth digit
CALIBRATION_BINS = 15

Interval = tuple[float, float]


def auc(labels: IntArray, scores: FloatArray) -> float:
    """Area under the ROC curve; 0.5 where only one class occurs (too small a data set to tell)."""
    if len(np.unique(labels)) < 2:
        return 0.5
    return float(metrics.roc_auc_score(labels, scores))


def log_loss(labels: IntArray, logits: FloatArray) -> float:
    """Mean negative log likelihood of the labels."""
    return float(metrics.log_loss(labels, expit(logits.astype(np.float64)), labels=[0, 1])) if len(labels) else 0.0


@dataclass(frozen=True)
class Calibration:
    """Of equally wide bins of the predicted probability, empty ones left out: means of predictions and of labels.

    `error` is the expected calibration error: the bins' differences, weighted by their rows (Naeini et al., AAAI 2015).
    """

    error: float
    predicted: list[float]
    observed: list[float]
    rows: list[int]


def calibration(labels: IntArray, logits: FloatArray) -> Calibration:
    """How far the predicted probabilities can be believed."""
    if not len(labels):
        return Calibration(0.0, [], [], [])
    predictions = expit(logits.astype(np.float64))
    observed, predicted = calibration_curve(labels, predictions, n_bins=CALIBRATION_BINS)
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)  # scikit-learn's
    counts = np.bincount(np.searchsorted(edges[1:-1], predictions))
    counts = counts[counts > 0]
    error = float(counts @ np.abs(observed - predicted) / counts.sum())
    return Calibration(error, predicted.round(6).tolist(), observed.round(6).tolist(), counts.tolist())


class Bootstrap:
    """Draws users with replacement, the same draws for all metrics, so that differences are paired.

    Users and not rows, because the rows of one user are alike, and an interval that takes them as independent is too
    narrow.
    """

    def __init__(self, users: IntArray, seed: int) -> None:
        """`users` [n]: the user of each row; whatever is passed to the methods below has the same rows."""
        distinct, self._user = np.unique(users, return_inverse=True)
        count = len(distinct)
        draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / max(count, 1)), RESAMPLES)
        self._weights = draws.astype(np.float64)  # [RESAMPLES, users]

    def aucs(self, labels: IntArray, scores: FloatArray) -> FloatArray:
        """[RESAMPLES] the AUC in each draw."""
        order = np.argsort(scores, kind="stable")
        rank = np.empty(len(scores), np.int64)
        rank[order] = np.arange(len(scores))
        first_of_ties = np.searchsorted(scores[order], scores)
        bins = first_of_ties * min(AUC_BINS, len(scores)) // max(len(scores), 1)
        shape = (self._weights.shape[1], int(bins.max(initial=0)) + 1)
        drawn = []
        for label in (1, 0):
            rows = labels == label
            counts = sp.csr_matrix((np.ones(rows.sum()), (self._user[rows], bins[rows])), shape)
            drawn.append((counts.T @ self._weights.T).T)  # [RESAMPLES, bins]
        positive, negative = drawn
        below = np.cumsum(negative, axis=1) - negative / 2
        pairs = positive.sum(axis=1) * negative.sum(axis=1)
        return np.where(pairs > 0, (positive * below).sum(axis=1) / np.maximum(pairs, 1), 0.5)

    def means(self, values: FloatArray) -> FloatArray:
        """[RESAMPLES] the mean in each draw of a metric of each user; users whose value is NaN are left out."""
        known = np.isfinite(values)
        weights = self._weights[:, self._user[known]]
        means: FloatArray = weights @ values[known] / np.maximum(weights.sum(axis=1), 1)
        return means


def interval(drawn: FloatArray) -> Interval:
    """The percentile interval of a bootstrapped metric."""
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return round(float(low), 6), round(float(high), 6)
