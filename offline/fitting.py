"""What the training loops of recall and rank share: epochs, averaged weights, when to stop by a figure on `valid`."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

Model = TypeVar("Model", bound=nn.Module)
Steps = Callable[[torch.optim.Optimizer], None]


@dataclass
class BestEpoch:
    """Larger is better; `patience` epochs in a row without a gain of `minimum_gain` end the training."""

    patience: int
    minimum_gain: float
    value: float = float("-inf")
    epochs: int = 0  # how many led to the best
    state: dict[str, Any] = field(default_factory=dict, repr=False)
    curve: list[float] = field(default_factory=list)

    def stop_after(self, value: float, model: nn.Module) -> bool:
        """Takes the figure of the epoch just finished; True when training should end."""
        self.curve.append(round(value, 6))
        if value >= self.value + self.minimum_gain:
            self.value, self.epochs, self.state = value, len(self.curve), state_on_cpu(model)
        return len(self.curve) - self.epochs >= self.patience


@dataclass(frozen=True)
class Schedule(Generic[Model]):
    """When to stop: by `evaluate` on valid, as BestEpoch says, or after the epochs that it chose.

    `report` hears of each epoch (its number from 1, its figure) and may end the fit with an exception.
    """

    epochs: int
    evaluate: Callable[[Model], float] | None = None
    patience: int = 2
    minimum_gain: float = 1e-4
    report: Callable[[int, float], None] = lambda epoch, figure: None


def run_epochs(
    model: Model, optimizer: torch.optim.Optimizer, steps: Steps, count: int, schedule: Schedule[Model], name: str
) -> BestEpoch:
    """Trains until the schedule says stop; `model` then holds the averaged weights of the best epoch.

    The averaged weights are judged and kept, because single steps wander around the optimum: the average scores better,
    and its figure rises and falls smoothly, so that stopping by it does not depend on luck. The exponential moving
    average reaches back over about one epoch.

    Args:
        model: trained in place.
        optimizer: of its parameters.
        steps: one epoch.
        count: of the steps in it.
        schedule: how long.
        name: for the progress bar.
    """
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(1 - 1 / max(count, 1)))
    hook = optimizer.register_step_post_hook(lambda *_: averaged.update_parameters(model))
    judged: Model = averaged.module  # type: ignore[assignment]
    best = BestEpoch(schedule.patience, schedule.minimum_gain)
    with tqdm(range(1, schedule.epochs + 1), desc=name, unit="epoch", leave=False, disable=None) as bar:
        for epoch in bar:
            model.train()
            steps(optimizer)
            # Without a figure to go by, the last of the epochs asked for is the best.
            figure = schedule.evaluate(judged) if schedule.evaluate else float(epoch)
            bar.set_postfix(valid=f"{figure:.4f}")
            schedule.report(epoch, figure)
            if best.stop_after(figure, judged):
                break
    hook.remove()
    model.load_state_dict(best.state)
    return best


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
