"""What DeepFM is compared with on the same rows: logistic regression on the two ids, and popularity."""

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression

from offline.metrics import auc
from offline.recall.fm_training import Pairs

C_TRIED = (0.03, 0.1, 0.3, 1.0)  # inverse penalties

Floats = npt.NDArray[np.floating]


def logistic_regression(pairs: Pairs, train: Pairs, valid: Pairs, test: Pairs) -> tuple[float, Floats]:
    """The baseline on the two ids alone: its AUC on valid, and its logits on test after a fit on `pairs`."""

    def one_hot(part: Pairs) -> sp.csr_matrix:
        columns = np.stack([part.users, part.user_count + part.items], axis=1).ravel()
        rows = np.arange(0, len(columns) + 1, 2)
        return sp.csr_matrix(
            (np.ones(len(columns)), columns, rows), (len(part.users), part.user_count + part.item_count)
        )

    def fitted(part: Pairs, c: float) -> LogisticRegression:
        return LogisticRegression(C=c, max_iter=300, tol=1e-3).fit(one_hot(part), part.labels)

    encoded = one_hot(valid)
    figures = {c: auc(valid.labels, fitted(train, c).decision_function(encoded)) for c in C_TRIED}
    best = max(figures, key=lambda c: figures[c])
    return figures[best], fitted(pairs, best).decision_function(one_hot(test))


def popularity(training: Pairs, test: Pairs) -> Floats:
    """The item's positives in the training rows, as logits: a logistic regression on their logarithm."""
    counts = np.log1p(np.bincount(training.positives().items, minlength=training.item_count))[:, None]
    model = LogisticRegression().fit(counts[training.items], training.labels)
    logits: Floats = model.decision_function(counts[test.items]) * np.sign(model.coef_[0, 0] or 1)
    return logits
