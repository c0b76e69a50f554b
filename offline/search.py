"""The search for settings on `valid`, by Optuna: what was tried is kept as a table, and the same seed tries the same.

A Gaussian process finds a good penalty in half a dozen fits, where a grid would need as many for each factor of 2.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from offline.fitting import BestEpoch

JUDGED_FROM = 4  # epochs before a fit may be given up
GIVEN_UP = "given_up"

Params = dict[str, Any]
Fitted = TypeVar("Fitted")
Fit = Callable[[Params, Callable[[int, float], None]], tuple[Fitted, BestEpoch]]


@dataclass(frozen=True)
class Found(Generic[Fitted]):
    """The best settings, the model fitted with them, its epochs, and all that was tried."""

    params: Params
    model: Fitted
    best: BestEpoch
    tried: list[Params]


class FarBehind(optuna.pruners.BasePruner):
    """Gives a fit up that is `margin` behind the best one so far at the same epoch.

    Optuna's own pruners compare without a margin, and so give up what learns slowly and ends higher: strong penalties.
    """

    def __init__(self, margin: float) -> None:
        """`margin` in units of the figure."""
        self._margin = margin

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether to give up now."""
        epoch = trial.last_step
        done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if epoch is None or epoch < JUDGED_FROM or not done:
            return False
        curve = max(done, key=lambda other: other.value or 0.0).intermediate_values
        return trial.intermediate_values[epoch] < curve[min(epoch, max(curve))] - self._margin


def search(
    fit: "Fit[Fitted]",
    space: Mapping[str, BaseDistribution],
    first: Sequence[Params],
    trials: int,
    seed: int,
    margin: float = float("inf"),
) -> "Found[Fitted]":
    """Maximises the figure on valid.

    Args:
        fit: takes settings and whom to report each epoch to; returns the model and its best epoch.
        space: of the settings.
        first: settings to try before the search goes its own way.
        trials: how many fits, `first` counted.
        seed: of the search.
        margin: how far behind the best a fit is given up.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.GPSampler(seed=seed, n_startup_trials=len(first), deterministic_objective=True)
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=FarBehind(margin))
    for params in first:
        study.enqueue_trial(params)
    winner: tuple[Fitted, BestEpoch] | None = None
    for _ in range(trials):
        trial = study.ask(dict(space))

        def report(epoch: int, figure: float, trial: optuna.Trial = trial) -> None:
            trial.report(figure, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        try:
            fitted = fit(trial.params, report)
        except optuna.TrialPruned:
            # Not as Optuna's "pruned", of which the sampler would learn nothing: it is to stay away from there.
            trial.set_user_attr(GIVEN_UP, True)
            study.tell(trial, max(study.trials[trial.number].intermediate_values.values()))
            continue
        study.tell(trial, fitted[1].value)
        if winner is None or fitted[1].value > winner[1].value:
            winner = fitted
    assert winner is not None  # the first trial has nothing to be behind of
    return Found(study.best_params, *winner, [_row(trial) for trial in study.trials])


def _row(trial: FrozenTrial) -> Params:
    curve = [round(value, 6) for _, value in sorted(trial.intermediate_values.items())]
    return {**trial.params, "valid": max(curve), GIVEN_UP: GIVEN_UP in trial.user_attrs, "curve": curve}
