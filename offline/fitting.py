"""What the training loops of recall and rank share: epochs, averaged weights, and early stopping on `valid`."""

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from offline.checkpoints import State, generators_state, next_checkpoint, set_generators
from offline.distributed import agreed

Model = TypeVar("Model", bound=nn.Module)
TrainEpoch = Callable[[torch.optim.Optimizer], None]

logger = logging.getLogger(__name__)


@dataclass
class BestEpoch:
    """Early stopping after `patience` epochs in a row without a gain of `minimum_gain`; larger is better."""

    patience: int
    minimum_gain: float
    value: float = float("-inf")
    epochs: int = 0  # the number of the best epoch, from 1
    state: dict[str, Any] = field(default_factory=dict, repr=False)
    curve: list[float] = field(default_factory=list)

    def stop_after(self, value: float, model: nn.Module) -> bool:
        """Takes the metric of the epoch just finished; True when training should end."""
        self.curve.append(round(value, 6))
        if value >= self.value + self.minimum_gain:
            self.value, self.epochs, self.state = value, len(self.curve), state_on_cpu(model)
        return len(self.curve) - self.epochs >= self.patience


@dataclass(frozen=True)
class Schedule(Generic[Model]):
    """How long to train.

    Attributes:
        epochs: at most so many; exactly so many where `evaluate` is None.
        evaluate: the metric on valid, by which BestEpoch stops earlier.
        patience, minimum_gain: see BestEpoch.
        report: is called after each epoch with its number, from 1, and its metric; it may end the fit by raising.
    """

    epochs: int
    evaluate: Callable[[Model], float] | None = None
    patience: int = 2
    minimum_gain: float = 1e-4
    report: Callable[[int, float], None] = lambda epoch, metric: None


def run_epochs(
    model: Model,
    optimizer: torch.optim.Optimizer,
    train_epoch: TrainEpoch,
    steps_per_epoch: int,
    schedule: Schedule[Model],
    name: str,
    generator: np.random.Generator | None = None,
) -> BestEpoch:
    """Trains until the schedule says stop; `model` then holds the averaged weights of the best epoch.

    In a stage it goes on from the last epoch of a run that was killed.

    The averaged weights are evaluated and kept, because single steps wander around the optimum: the average scores
    better, and its metric rises and falls smoothly, so that stopping by it does not depend on luck. The exponential
    moving average reaches back over about one epoch.

    Args:
        model: trained in place.
        optimizer: updates the model's parameters.
        train_epoch: takes all optimizer steps of one epoch.
        steps_per_epoch: how many steps that are.
        schedule: when to stop.
        name: is shown at the progress bar.
        generator: from which `train_epoch` draws, beside PyTorch's.
    """
    fit = _Fit(model, optimizer, BestEpoch(schedule.patience, schedule.minimum_gain), steps_per_epoch, generator)
    averaged_model: Model = fit.averaged.module  # type: ignore[assignment]
    checkpoint = next_checkpoint()
    kept = checkpoint.load(name) if checkpoint else None
    if kept:
        fit.go_on_from(kept)
        for epoch, metric in enumerate(fit.metrics, 1):
            schedule.report(epoch, metric)
    hook = optimizer.register_step_post_hook(lambda *_: fit.averaged.update_parameters(model))
    epochs = range(len(fit.metrics) + 1, schedule.epochs + 1)
    with tqdm(epochs, desc=name, unit="epoch", leave=False, disable=None) as bar:
        for epoch in bar:
            if fit.is_over:
                break
            model.train()
            began = time.perf_counter()
            train_epoch(optimizer)
            # The loop alone, without evaluation and checkpoint: what benchmarks/speed/training.py reads.
            logger.debug("%s: %d steps in %.3f s", name, steps_per_epoch, time.perf_counter() - began)
            # Without a metric to stop by, the last of the epochs asked for is the best.
            metric = agreed(schedule.evaluate(averaged_model) if schedule.evaluate else float(epoch))
            bar.set_postfix(valid=f"{metric:.4f}")
            fit.take(metric)
            if checkpoint:
                checkpoint.save(name, fit.state())
            schedule.report(epoch, metric)
    hook.remove()
    model.load_state_dict(fit.best.state)
    return fit.best


class _Fit:
    """All that changes from epoch to epoch."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        best: BestEpoch,
        steps_per_epoch: int,
        generator: np.random.Generator | None,
    ) -> None:
        self.model, self.optimizer, self.best, self.generator = model, optimizer, best, generator
        self.averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(1 - 1 / max(steps_per_epoch, 1)))
        self.metrics: list[float] = []
        self.is_over = False

    def take(self, metric: float) -> None:
        """The metric of the epoch just finished."""
        self.metrics.append(metric)
        self.is_over = self.best.stop_after(metric, self.averaged.module)

    def state(self) -> State:
        """As tensors and numbers, for a checkpoint."""
        best = self.best
        return {
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": {"value": best.value, "epochs": best.epochs, "state": best.state, "curve": best.curve},
            "metrics": self.metrics,
            "is_over": self.is_over,
            "generators": generators_state(self.generator),
        }

    def go_on_from(self, state: State) -> None:
        """Takes over what `state` returned after an epoch."""
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name, value in state["best"].items():
            setattr(self.best, name, value)
        self.metrics, self.is_over = state["metrics"], state["is_over"]
        set_generators(state["generators"], self.generator)


def state_on_cpu(model: nn.Module) -> dict[str, Any]:
    """A copy of the model's state, to keep or to save."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


def training_device() -> torch.device:
    """The GPU when there is one, with algorithms that give the same result each time, as the CPU's do anyway."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without which cuBLAS refuses to be deterministic
    torch.use_deterministic_algorithms(True)  # on the CPU it would import for two seconds, and change nothing
    return torch.device("cuda")


def batch_size(rows: int) -> int:
    """Rows a step: about 80 steps an epoch, so that a small data set is not fitted in a handful of steps."""
    return min(max(rows // 80, 512), 8192)
