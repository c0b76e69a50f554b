"""Training on several processes: torchrun starts and restarts them, torch.distributed adds up what they find.

Each process holds a share of the rows. All draw the same batches, and of each batch a process computes the addend of
the loss that its own rows make; the gradients are added up. So several processes take the steps that one would take, up
to the order in which numbers are added, and nothing has to be tuned again.

In a process that torchrun has not started there is one share, and every function here returns what it is given.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from data_exchange_center.table_artefact import Table

Value = TypeVar("Value")
Loss = Callable[..., Tensor | None]

PATIENCE = timedelta(hours=6)  # the others wait while the first process fits a baseline or writes


@contextmanager
def process_group() -> Iterator[None]:
    """Joins the processes that torchrun has started, and leaves them at the end; without torchrun it does nothing."""
    if not dist.is_torchelastic_launched():
        yield
        return
    gpus, local_rank = torch.cuda.device_count(), int(os.environ["LOCAL_RANK"])
    if gpus:
        torch.cuda.set_device(local_rank % gpus)
    # NCCL wants a GPU for each process; where they share one, gloo copies through the memory of the machine.
    has_own_gpu = 0 < int(os.environ["LOCAL_WORLD_SIZE"]) <= gpus
    dist.init_process_group("cpu:gloo,cuda:nccl" if has_own_gpu else "gloo", timeout=PATIENCE)
    try:
        yield
        dist.barrier()  # one that ended sooner would be taken for one that failed
    finally:
        dist.destroy_process_group()


def count() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_first() -> bool:
    """Whether this process is the one that writes and prints."""
    return rank() == 0


def agreed(value: Value) -> Value:
    """The first process's value, for decisions that all must take alike; a number, a string or a dict of them."""
    if count() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


def gathered(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The arrays of all processes, in their order, as one; they may differ in the number of rows alone."""
    if count() == 1:
        return values
    # As bytes, which every backend sends, whatever the type.
    own = torch.from_numpy(np.ascontiguousarray(values).reshape(-1).view(np.uint8).copy())
    sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(count())]
    dist.all_gather(sizes, torch.tensor([len(own)]))
    most = max(int(size) for size in sizes)
    parts = [torch.empty(most, dtype=torch.uint8) for _ in sizes]
    dist.all_gather(parts, nn.functional.pad(own, (0, most - len(own))))
    joined = np.concatenate([part.numpy()[: int(size)] for part, size in zip(parts, sizes, strict=True)])
    return joined.view(values.dtype).reshape(-1, *values.shape[1:])


def summed(value: Tensor) -> Tensor:
    """The sum of the tensors of all processes, of equal shape; no gradient flows through it."""
    if count() == 1:
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total


def counted(counts: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The sum of the arrays of all processes, of equal shape."""
    return counts if count() == 1 else summed(torch.from_numpy(counts)).numpy()


def mean_and_std(values: Tensor) -> tuple[Tensor, Tensor]:
    """[columns] mean and standard deviation of the rows [rows, columns] of all processes."""
    if count() == 1:
        return values.mean(0), values.std(0, unbiased=False)
    rows = summed(torch.tensor(float(len(values)), dtype=torch.float64))
    mean = summed(values.double().sum(0)) / rows
    variance = summed((values.double() - mean).square().sum(0)) / rows
    return mean.float(), variance.sqrt().float()


def mean_and_std_of(blocks: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """The same of blocks [rows, columns] of small whole numbers, passed over once."""
    sums = [
        torch.stack([b.new_ones(b.shape[1]).double() * len(b), b.double().sum(0), b.double().square().sum(0)])
        for b in blocks
    ]
    rows, total, squares = summed(torch.stack(sums).sum(0))
    mean = total / rows
    return mean.float(), (squares / rows - mean.square()).clamp(min=0).sqrt().float()


def rows_of_this_process(table: Table, key: str | None = None) -> tuple[int, int] | None:
    """The first row of a table's share that this process reads, and the one after the last; None for all of them.

    Args:
        table: whose rows are shared out in equal parts.
        key: a column whose adjacent rows of one value stay together, as those of a user.
    """
    if count() == 1:
        return None
    total = table.digest()[1]
    first, last = (_start_of_key(table, key, total * place // count(), total) for place in (rank(), rank() + 1))
    return first, last


STEP = 4096  # rows of the key that are read at a time


def _start_of_key(table: Table, key: str | None, row: int, total: int) -> int:
    """The first row from `row` on that has another key than the one before."""
    while key is not None and 0 < row < total:
        keys = table.load([key], (row - 1, min(row + STEP, total)))[key].to_numpy()
        changes = np.flatnonzero(np.diff(keys))
        if len(changes):
            return row + int(changes[0])
        row = min(row + STEP, total)
    return row


@dataclass(frozen=True)
class Share:
    """The rows of a fit that this process holds: `held` of `total`, from the row `first` on."""

    first: int
    held: int
    total: int

    @classmethod
    def of(cls, held: int) -> "Share":
        """From how many rows each process holds; all processes must ask."""
        if count() == 1:
            return cls(0, held, held)
        sizes = gathered(np.array([held]))
        return cls(int(sizes[: rank()].sum()), held, int(sizes.sum()))

    def places(self, batch: Tensor) -> Tensor:
        """Which places of a batch of rows [n] are held here: [held of n]."""
        return ((batch >= self.first) & (batch < self.first + self.held)).nonzero().squeeze(1)

    def rows(self, batch: Tensor) -> Tensor:
        """The numbers among the rows held here of those rows [n] of all that are held here."""
        return batch if self.held == self.total else batch[self.places(batch)] - self.first


class _Addend(nn.Module):
    """The loss as a module, as DDP would have it; where a process has no rows in a batch, it adds zero."""

    def __init__(self, model: nn.Module, loss_of: Loss) -> None:
        super().__init__()
        self.model, self.loss_of = model, loss_of

    def forward(self, *batch: Any) -> Tensor:
        loss = self.loss_of(*batch)
        if loss is None:
            loss = torch.stack([parameter.sum() for parameter in self.model.parameters()]).sum() * 0
        return loss * count()  # since DDP takes the mean of the gradients, where their sum is meant


def objective(model: nn.Module, loss_of: Loss, uses_all: bool = True) -> Callable[..., Tensor]:
    """A function whose gradient is that of the sum of what `loss_of` returns in all processes.

    Args:
        model: whose parameters are fitted.
        loss_of: this process's addend of a batch's loss; None where the process has no rows of the batch.
        uses_all: whether the loss is a function of all parameters.
    """
    if count() == 1:
        return loss_of  # type: ignore[return-value]  # the only process has rows in every batch
    addend = _Addend(model, loss_of)
    return DistributedDataParallel(addend, forward_sync_buffers=False, find_unused_parameters=not uses_all)
