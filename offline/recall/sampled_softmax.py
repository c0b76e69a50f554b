"""A softmax over a large catalogue, estimated from items drawn for each step.

Source: the logQ correction of Bengio and Senécal (2008), as used in Yi et al., RecSys 2019: an item that is drawn with
probability q stands for 1 / q items of the catalogue. All users of a step share the drawn items, so that an epoch costs
users × drawn items, however many positives each user has.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

FULL_SOFTMAX_ITEMS = 20_000  # up to here the whole catalogue fits into every step
NEGATIVES = 6144  # drawn a step above that


def is_sampled(items: int) -> bool:
    """Whether a catalogue of so many items is too large for every step."""
    return items > FULL_SOFTMAX_ITEMS


def draw_items(drawn_by: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct items of NEGATIVES draws, and the log of the chance to be among them.

    Args:
        drawn_by: [items] in proportion to which items are drawn; 0 for one that never is.
    """
    drawn = torch.unique(torch.multinomial(drawn_by, NEGATIVES, replacement=True))
    absent = torch.log1p(-drawn_by[drawn] / drawn_by.sum()) * NEGATIVES
    return drawn, torch.log(-torch.expm1(absent)).float()


def places_of(drawn: Tensor, items: int) -> Tensor:
    """[items] each item's place among those drawn [d]; -1 for one that is not."""
    place = torch.full((items,), -1, device=drawn.device)
    place[drawn] = torch.arange(len(drawn), device=drawn.device)
    return place


def log_chances(drawn: Tensor, log_expected: Tensor, items: int) -> Tensor:
    """[items] the log of each one's chance to be drawn, as `draw_items` tells it; inf for one that was not drawn."""
    chances = log_expected.new_full((items,), torch.inf)
    chances[drawn] = log_expected
    return chances


class LogSumExp(torch.autograd.Function):
    """torch.logsumexp(scores, 1) by softmax, whose result serves both ways: half the passes over the scores."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor) -> Tensor:
        """[b] of [b, d]."""
        shares = torch.softmax(scores, 1)
        ctx.save_for_backward(shares)
        # The largest share is 1 / sum of exp(score - largest score).
        return scores.amax(1) - shares.amax(1).log()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """[b, d] of [b]."""
        (shares,) = ctx.saved_tensors
        return shares * gradient[:, None]


def sampled_losses(scores: Tensor, rows: Tensor, positive: Tensor, log_chance: Tensor) -> Tensor:
    """Negative log likelihood of each positive under the softmax over the catalogue.

    Args:
        scores: [b, d] of the drawn items, each less the log of its chance to be drawn.
        rows: in which row of `scores` each positive's user stands.
        positive: the positives' scores.
        log_chance: of each positive, by `log_chances`; all three of one shape. One that was drawn is in the sum, unless
            its loss has no weight.
    """
    total = LogSumExp.apply(scores)[rows]
    # A positive that was drawn stands in the sum already, and counts once, by its own score.
    share = (positive - log_chance - total).clamp(max=-1e-6).exp()
    return torch.logaddexp(total + torch.log1p(-share), positive) - positive
