"""Establishes that a fit whose process was killed goes on from its last epoch and ends as if nothing had been."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from data_exchange_center import catalogue
from offline.checkpoints import checkpoints_of
from offline.fitting import BestEpoch, Schedule, run_epochs

STAGE, READS = "offline.rank.s2_model_train", (catalogue.TRAINING_FRAME,)
CURVES = ([0.1, 0.3, 0.5, 0.4, 0.6, 0.6, 0.6], [0.2, 0.1, 0.1])  # each ends two epochs after its best one


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTEFACTS_DIR", str(tmp_path))
    catalogue.TRAINING_FRAME.file.parent.mkdir(parents=True)
    catalogue.TRAINING_FRAME.file.write_bytes(b"read by nobody")


class Killed(BaseException):
    """Nothing catches it."""


def fitted(number: int, after_epoch: Callable[[], None]) -> tuple[dict[str, torch.Tensor], BestEpoch]:
    """A fit whose steps hang on all random numbers: its state and the next number, and its best epoch."""
    torch.manual_seed(number)
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1))
    optimizer, generator = torch.optim.Adam(model.parameters(), lr=0.1), np.random.default_rng(number)
    curve, reported = CURVES[number], list[float]()

    def train_epoch(optimizer: torch.optim.Optimizer) -> None:
        for _ in range(3):
            optimizer.zero_grad()
            (model(torch.rand(5, 3)) * float(generator.random())).sum().backward()
            optimizer.step()
        after_epoch()

    schedule = Schedule[nn.Sequential](
        len(curve), lambda _: curve[len(reported)], report=lambda _, metric: reported.append(metric)
    )
    best = run_epochs(model, optimizer, train_epoch, 3, schedule, f"fit {number}", generator)
    assert reported == curve[: len(best.curve)]
    return {**model.state_dict(), "next": torch.rand(2)}, best


def two_fits(kill_in: int | None = None) -> tuple[list[dict[str, torch.Tensor]], list[BestEpoch], int]:
    """States, best epochs, and how many epochs were trained; the process is killed at the end of one of them."""
    trained = 0

    def after_epoch() -> None:
        nonlocal trained
        trained += 1
        if trained == kill_in:
            raise Killed

    fits = [fitted(number, after_epoch) for number in range(len(CURVES))]
    return [state for state, _ in fits], [best for _, best in fits], trained


@pytest.mark.parametrize("kill_in", range(1, 11))
def test_a_killed_fit_ends_as_an_undisturbed_one(kill_in: int, tmp_path: Path) -> None:
    expected, bests, epochs = two_fits()
    assert epochs == 7 + 3
    with pytest.raises(Killed), checkpoints_of(STAGE, READS):
        two_fits(kill_in)
    with checkpoints_of(STAGE, READS):
        states, again, trained = two_fits()
    assert trained == epochs - (kill_in - 1)
    for one, other in zip(expected, states, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert [(b.value, b.epochs, b.curve) for b in bests] == [(b.value, b.epochs, b.curve) for b in again]
    assert not list(tmp_path.glob(".checkpoints/*"))


def test_what_the_fits_follow_from_must_be_the_same() -> None:
    with pytest.raises(Killed), checkpoints_of(STAGE, READS):
        two_fits(5)
    catalogue.TRAINING_FRAME.file.write_bytes(b"other rows")
    with checkpoints_of(STAGE, READS):
        assert two_fits()[2] == 10


def test_a_fit_outside_of_a_stage_keeps_nothing(tmp_path: Path) -> None:
    two_fits()
    assert not list(tmp_path.glob(".checkpoints*"))
