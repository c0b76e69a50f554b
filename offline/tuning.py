"""Hyper-parameter tuning on `valid` by Optuna: every trial is kept as a row, and the same seed tries the same values.

A Gaussian process finds a good penalty in half a dozen fits, where a grid would need as many for each factor of 2.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from data_exchange_center.documents import Trial
from offline.distributed import agreed, is_first
from offline.fitting import BestEpoch

FIRST_EPOCH_TO_PRUNE = 4  # earlier, a learning curve says too little
PRUNED = "pruned"

Params = dict[str, Any]
Fitted = TypeVar("Fitted")
Fit = Callable[[Params, Callable[[int, float], None]], tuple[Fitted, BestEpoch]]


@dataclass(frozen=True)
class TuningResult(Generic[Fitted]):
    """The best hyper-parameters, the model fitted with them, its best epoch, and all trials in order."""

    params: Params
    model: Fitted
    best: BestEpoch
    trials: list[Trial]


class MarginPruner(optuna.pruners.BasePruner):
    """Prunes a fit that is `margin` behind the best one so far at the same epoch.

    Optuna's own pruners compare without a margin, and so prune what learns slowly and ends higher: strong penalties.
    """

    def __init__(self, margin: float) -> None:
        """`margin` is in units of the metric."""
        self._margin = margin

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether to prune the trial now."""
        epoch = trial.last_step
        done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if epoch is None or epoch < FIRST_EPOCH_TO_PRUNE or not done:
            return False
        curve = max(done, key=lambda other: other.value or 0.0).intermediate_values
        return trial.intermediate_values[epoch] < curve[min(epoch, max(curve))] - self._margin


def tune(
    fit: "Fit[Fitted]",
    space: Mapping[str, BaseDistribution],
    first: Sequence[Params],
    trials: int,
    seed: int,
    margin: float = float("inf"),
) -> "TuningResult[Fitted]":
    """Maximises the metric on valid.

    Args:
        fit: takes hyper-parameters and a function that each epoch's metric is reported to; returns the model and its
            best epoch.
        space: of the hyper-parameters.
        first: hyper-parameters to try before the sampler proposes its own.
        trials: how many fits, those of `first` included.
        seed: of the sampler.
        margin: how far behind the best trial a fit is pruned.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.GPSampler(seed=seed, n_startup_trials=len(first), deterministic_objective=True)
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=MarginPruner(margin))
    for params in first if is_first() else ():
        study.enqueue_trial(params)
    winner: tuple[Fitted, BestEpoch] | None = None
    for _ in range(trials):
        trial = _next_trial(study, space)

        def report(epoch: int, metric: float, trial: optuna.Trial = trial) -> None:
            trial.report(metric, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        try:
            fitted = fit(trial.params, report)
        except optuna.TrialPruned:
            # The sampler learns nothing from a trial in Optuna's own state "pruned", and would propose its neighbours
            # again. So the trial is completed with the best value that it reached, and only marked as pruned.
            trial.set_user_attr(PRUNED, True)
            study.tell(trial, max(study.trials[trial.number].intermediate_values.values()))
            continue
        study.tell(trial, fitted[1].value)
        if winner is None or fitted[1].value > winner[1].value:
            winner = fitted
    assert winner is not None  # the first trial has no other to be behind, so it is never pruned
    return TuningResult(study.best_params, *winner, [_row(trial) for trial in study.trials])


def _next_trial(study: optuna.Study, space: Mapping[str, BaseDistribution]) -> optuna.Trial:
    """What the sampler proposes; several processes try what that of the first one does."""
    if is_first():
        trial = study.ask(dict(space))
        agreed(trial.params)
        return trial
    study.enqueue_trial(agreed({}))
    return study.ask(dict(space))


def _row(trial: FrozenTrial) -> Trial:
    curve = [round(value, 6) for _, value in sorted(trial.intermediate_values.items())]
    return Trial(params=trial.params, valid=max(curve), pruned=PRUNED in trial.user_attrs, curve=curve)
