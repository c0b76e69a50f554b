"""What DeepFM is compared with on the same rows: logistic regression on the two ids, and popularity.

A baseline is fitted to convergence: one that is stopped early flatters every model beside it.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression

from data_exchange_center.arrays import FloatArray
from offline.metrics import auc
from offline.recall.interactions import Interactions

INVERSE_PENALTIES = (0.3, 1.0, 3.0)  # scikit-learn's C
# scikit-learn averages the loss over the rows, so that the gradients are small from the start: at 1e-3 LBFGS stops at
# once, and at 1e-5 its logits are still off by 0.7. Newton's method converges in half a dozen steps, and sooner.
SOLVER = "newton-cg"
TOLERANCE = 1e-7
MOST_ITERATIONS = 100


@dataclass(frozen=True)
class FittedBaseline:
    """The logits [n] on test, and what was chosen on valid."""

    logits: FloatArray
    valid_auc: float
    c: float


def one_hot(rows: Interactions) -> sp.csr_matrix:
    """[n, users + items] a 1 for the user and a 1 for the item of each row."""
    columns = np.stack([rows.users, rows.user_count + rows.items], axis=1).ravel()
    starts = np.arange(0, len(columns) + 1, 2)
    return sp.csr_matrix((np.ones(len(columns)), columns, starts), (len(rows.users), rows.user_count + rows.item_count))


def fit_logistic_regression(rows: Interactions, c: float) -> LogisticRegression:
    """A logistic regression on the two ids, fitted to convergence.

    Raises:
        ConvergenceWarning: the solver has not converged in MOST_ITERATIONS.
        Warning: the solver warns of anything else.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = LogisticRegression(C=c, solver=SOLVER, max_iter=MOST_ITERATIONS, tol=TOLERANCE)
        return model.fit(one_hot(rows), rows.labels)


def logistic_regression(
    training: Interactions, train: Interactions, valid: Interactions, test: Interactions
) -> FittedBaseline:
    """Chooses the penalty on valid, fits to all training rows, and scores test."""
    encoded = one_hot(valid)
    aucs = {
        c: auc(valid.labels, fit_logistic_regression(train, c).decision_function(encoded)) for c in INVERSE_PENALTIES
    }
    best = max(aucs, key=lambda c: aucs[c])
    logits = fit_logistic_regression(training, best).decision_function(one_hot(test))
    return FittedBaseline(logits, aucs[best], best)


def popularity(training: Interactions, test: Interactions) -> FloatArray:
    """[n] the item's positives in the training rows, as logits: a logistic regression on their logarithm."""
    counts = np.log1p(np.bincount(training.positives().items, minlength=training.item_count))[:, None]
    model = LogisticRegression(C=np.inf, tol=1e-8).fit(counts[training.items], training.labels)
    logits: FloatArray = model.decision_function(counts[test.items]) * np.sign(model.coef_[0, 0] or 1)
    return logits
