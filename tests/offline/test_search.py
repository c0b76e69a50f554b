"""Establishes that the search finds the best, gives up what is far behind, and repeats itself for the same seed."""

import numpy as np
import pytest
import torch
from optuna.distributions import FloatDistribution
from torch import nn

from offline.fitting import BestEpoch, Schedule, run_epochs
from offline.search import JUDGED_FROM, Found, Params, search

SPACE = {"l2": FloatDistribution(0.008, 0.12, log=True)}


def found_with(optimum: float, trials: int = 6, margin: float = float("inf")) -> Found[float]:
    """Each fit climbs over 8 epochs to a height that falls off with the distance from `optimum`."""

    def fit(params: Params, report) -> tuple[float, BestEpoch]:  # type: ignore[no-untyped-def]
        height = 0.8 - 0.02 * float(np.log(params["l2"] / optimum)) ** 2
        best = BestEpoch(2, 1e-4)
        for epoch in range(1, 9):
            report(epoch, height * epoch / 8)
            best.stop_after(height * epoch / 8, nn.Identity())
        return params["l2"], best

    return search(fit, SPACE, [{"l2": 0.02}, {"l2": 0.04}], trials, 1, margin)


@pytest.mark.parametrize("optimum", [0.01, 0.03, 0.09])
def test_the_best_is_found_and_kept_with_its_model(optimum: float) -> None:
    found = found_with(optimum)
    assert abs(np.log(found.params["l2"] / optimum)) < 0.3 and found.model == found.params["l2"]
    assert found.best.value == pytest.approx(max(row["valid"] for row in found.tried))
    assert [row["l2"] for row in found.tried[:2]] == [0.02, 0.04] and len(found.tried) == 6


def test_the_same_seed_tries_the_same() -> None:
    assert found_with(0.05).tried == found_with(0.05).tried


def test_what_is_far_behind_is_given_up_and_never_chosen() -> None:
    found = found_with(0.02, margin=0.001)
    given_up = [row for row in found.tried if row["given_up"]]
    assert given_up and all(len(row["curve"]) == JUDGED_FROM for row in given_up)
    assert found.params["l2"] == 0.02 and not found.tried[0]["given_up"]


def test_the_averaged_weights_are_judged_and_kept() -> None:
    """One weight that jumps between 0 and 2 at each step: its average is near 1, no single step is."""
    model = nn.Linear(1, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)

    def steps(optimizer: torch.optim.Optimizer) -> None:
        for step in range(50):
            optimizer.zero_grad()
            model.weight.grad = model.weight.detach() - 2.0 * (step % 2)
            optimizer.step()

    judged: list[float] = []

    def evaluate(of: nn.Linear) -> float:
        judged.append(of.weight.item())
        return float(len(judged))

    best = run_epochs(model, optimizer, steps, 50, Schedule(4, evaluate), "test")
    assert best.epochs == 4 and model.weight.item() == judged[-1] and 0.8 < judged[-1] < 1.2
