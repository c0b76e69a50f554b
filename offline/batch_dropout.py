"""Dropout that several processes draw alike: each draws for the whole batch, and takes the rows that it holds."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn
from torch.nn import functional

# The places of this process's rows in the batch, and how many rows the batch has.
_places: ContextVar[tuple[Tensor, int] | None] = ContextVar("_places", default=None)


@contextmanager
def rows_of_batch(places: Tensor, size: int) -> Iterator[None]:
    """Within the block a model is given some rows of a batch: those at these places of `size`."""
    token = _places.set((places, size) if len(places) < size else None)
    try:
        yield
    finally:
        _places.reset(token)


class BatchDropout(nn.Dropout):
    """As nn.Dropout, and within `rows_of_batch` as that of the whole batch would be for these rows."""

    def forward(self, input: Tensor) -> Tensor:
        """The input [rows, ...] with some values zero and the others enlarged, while training."""
        part = _places.get() if self.training else None
        if part is None:
            return super().forward(input)
        places, size = part
        noise = functional.dropout(torch.ones(size, *input.shape[1:], device=input.device), self.p)
        return input * noise[places]
