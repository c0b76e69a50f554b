"""Chooses DeepFM's penalty and what its MLP sees by AUC on `valid`, and calibrates what was chosen."""

from collections.abc import Callable

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution
from sklearn.linear_model import LogisticRegression

from data_exchange_center.arrays import FloatArray, UInt8Array
from data_exchange_center.documents import DeepInputs
from offline.distributed import gathered
from offline.fitting import BestEpoch, Schedule
from offline.metrics import auc
from offline.rank.deepfm import DeepFM
from offline.rank.training import FrameRows, HyperParameters, fit, score_all
from offline.tuning import Params, TuningResult, tune

DEEP_INPUTS: tuple[DeepInputs, ...] = ("dense+side", "dense", "dense+all")  # the first is tried first
# DeepFM's penalty is near the FM's: most of what it restrains are the same two ids.
L2_OF_FM = FloatDistribution(0.5, 1.0, log=True)
L2_OF_FM_TRIED_FIRST = 0.75
TRIALS = 4
MARGIN = 0.004  # of AUC, see offline.tuning
MOST_EPOCHS = 30


def hyper_parameters(params: Params, fm_l2: float) -> HyperParameters:
    """DeepFM's hyper-parameters, whose penalty is tuned as a multiple of the FM's."""
    return HyperParameters(l2=params["l2_of_fm"] * fm_l2, deep_inputs=params["deep_inputs"])


def choose(train: FrameRows, valid: FrameRows, sizes: dict[str, int], fm_l2: float, seed: int) -> TuningResult[DeepFM]:
    """The hyper-parameters with the best AUC on valid, their model and epochs, and all trials."""

    labels = gathered(valid.labels)

    def fit_with(params: Params, report: Callable[[int, float], None]) -> tuple[DeepFM, BestEpoch]:
        schedule = Schedule[DeepFM](MOST_EPOCHS, lambda model: auc(labels, score_all(model, valid)), report=report)
        return fit(train, hyper_parameters(params, fm_l2), sizes, schedule, seed)

    space = {"deep_inputs": CategoricalDistribution(DEEP_INPUTS), "l2_of_fm": L2_OF_FM}
    first = [{"deep_inputs": inputs, "l2_of_fm": L2_OF_FM_TRIED_FIRST} for inputs in DEEP_INPUTS]
    return tune(fit_with, space, first, TRIALS, seed, MARGIN)


def platt_scaling(logits: FloatArray, labels: UInt8Array) -> tuple[float, float]:
    """The scale and shift after which the logits are those of the labels' probability.

    Source: Platt, "Probabilistic Outputs for Support Vector Machines", 1999. `valid` is later than what was fitted, so
    the shift also takes up how the share of positives drifts.

    Args:
        logits: [n] of rows that the model was not fitted to.
        labels: [n].
    """
    if len(np.unique(labels)) < 2:
        return 1.0, 0.0
    fitted = LogisticRegression(C=np.inf, tol=1e-8).fit(logits[:, None].astype(np.float64), labels)
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
