"""Figures of binary predictions, for the models of both recall and rank (scikit-learn's, made safe for tiny data)."""

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from sklearn import metrics

Labels = npt.NDArray[np.uint8]
Scores = npt.NDArray[np.floating]


def auc(labels: Labels, scores: Scores) -> float:
    """Area under the ROC curve; 0.5 where only one class occurs (too small a data set to tell)."""
    if len(np.unique(labels)) < 2:
        return 0.5
    return float(metrics.roc_auc_score(labels, scores))


def log_loss(labels: Labels, logits: Scores) -> float:
    """Mean negative log likelihood of the labels."""
    return float(metrics.log_loss(labels, expit(logits.astype(np.float64)), labels=[0, 1])) if len(labels) else 0.0
