"""Establishes that tuning finds the best, prunes what is far behind, and repeats itself for the same seed."""

import numpy as np
import pytest
import torch
from optuna.distributions import FloatDistribution
from torch import nn

from offline.fitting import BestEpoch, Schedule, run_epochs
from offline.tuning import FIRST_EPOCH_TO_PRUNE, Params, TuningResult, tune

SPACE = {"l2": FloatDistribution(0.008, 0.12, log=True)}


def tuned(optimum: float, trials: int = 6, margin: float = float("inf")) -> TuningResult[float]:
    """Each fit climbs over 8 epochs to a height that falls off with the distance from `optimum`."""

    def fit(params: Params, report) -> tuple[float, BestEpoch]:  # type: ignore[no-untyped-def]
        height = 0.8 - 0.02 * float(np.log(params["l2"] / optimum)) ** 2
        best = BestEpoch(2, 1e-4)
        for epoch in range(1, 9):
            report(epoch, height * epoch / 8)
            best.stop_after(height * epoch / 8, nn.Identity())
        return params["l2"], best

    return tune(fit, SPACE, [{"l2": 0.02}, {"l2": 0.04}], trials, 1, margin)


@pytest.mark.parametrize("optimum", [0.01, 0.03, 0.09])
def test_the_best_is_found_and_kept_with_its_model(optimum: float) -> None:
    result = tuned(optimum)
    assert abs(np.log(result.params["l2"] / optimum)) < 0.3 and result.model == result.params["l2"]
    best = max(result.trials, key=lambda trial: trial.valid)
    assert result.best.value == pytest.approx(best.valid) and result.params == best.params
    assert [trial.params for trial in result.trials[:2]] == [{"l2": 0.02}, {"l2": 0.04}] and len(result.trials) == 6
    assert all(trial.valid == max(trial.curve) and not trial.pruned for trial in result.trials)


def test_the_same_seed_tries_the_same() -> None:
    assert tuned(0.05).trials == tuned(0.05).trials


def test_what_is_far_behind_is_pruned_and_never_chosen() -> None:
    result = tuned(0.02, margin=0.001)
    pruned = [trial for trial in result.trials if trial.pruned]
    assert pruned and all(len(trial.curve) == FIRST_EPOCH_TO_PRUNE for trial in pruned)
    assert result.params["l2"] == 0.02 and not result.trials[0].pruned


def test_the_averaged_weights_are_evaluated_and_kept() -> None:
    """One weight that jumps between 0 and 2 at each step: its average is near 1, no single step is."""
    model = nn.Linear(1, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)

    def steps(optimizer: torch.optim.Optimizer) -> None:
        for step in range(50):
            optimizer.zero_grad()
            model.weight.grad = model.weight.detach() - 2.0 * (step % 2)
            optimizer.step()

    evaluated: list[float] = []

    def evaluate(averaged: nn.Linear) -> float:
        evaluated.append(averaged.weight.item())
        return float(len(evaluated))

    best = run_epochs(model, optimizer, steps, 50, Schedule(4, evaluate), "test")
    assert best.epochs == 4 and model.weight.item() == evaluated[-1] and 0.8 < evaluated[-1] < 1.2
