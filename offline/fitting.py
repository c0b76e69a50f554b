"""What the training loops of recall and rank share: batch size, device, and when to stop by a figure on `valid`."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn


@dataclass
class BestEpoch:
    """Larger is better; `patience` epochs in a row without a gain of `minimum_gain` end the training."""

    patience: int = 2
    minimum_gain: float = 1e-4
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


def state_on_cpu(model: nn.Module) -> dict[str, Any]:
    """A copy of the model's state, to keep or to save."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


def training_device() -> torch.device:
    """The GPU when there is one, with algorithms that give the same result each time, as the CPU's do anyway."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.use_deterministic_algorithms(True)  # on the CPU it would import for two seconds, and change nothing
    return torch.device("cuda")


def batch_size(rows: int) -> int:
    """Rows a step: about 80 steps an epoch, so that a small data set is not fitted in a handful of steps."""
    return min(max(rows // 80, 512), 8192)
