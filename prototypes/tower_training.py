"""Fits the sequence tower: whole columns in memory, a step is a batch of pieces of sequences."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from offline.fitting import BestEpoch, Schedule, run_epochs, training_device
from torch import Tensor

from tower import SequenceTower, TowerShape, catalogue_loss, sampled_catalogue_loss

HORIZON = 10  # the positives among so many next impressions are what a state is to predict
STRIDE = 10  # one state in so many impressions teaches: its targets are the impressions up to the next one
PIECES = 32  # of sequences a step, at most
STEPS = 60  # an epoch at least
LEARNING_RATE = 0.002
FULL_SOFTMAX_ITEMS = 20_000
NEGATIVES = 4096
SCORING_BATCH = 512

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Sequences:
    """Impressions by (user, time): user and item indices, labels; `start`, `end` [n]: bounds of each row's user."""

    users: Ints
    items: Ints
    labels: Ints
    item_count: int
    start: Ints
    end: Ints

    @classmethod
    def of(cls, users: Ints, items: Ints, labels: npt.NDArray[np.integer], item_count: int) -> "Sequences":
        """From columns in the split's order."""
        first = np.flatnonzero(np.r_[True, users[1:] != users[:-1]][: len(users)])
        lengths = np.diff(np.r_[first, len(users)])
        start = np.repeat(first, lengths)
        return cls(users, items, labels.astype(np.int64), item_count, start, start + np.repeat(lengths, lengths))

    def windows(self, before: Ints, length: int) -> tuple[Tensor, Tensor]:
        """[n, length] items and liked of the last impressions before each row, the newest in the last column.

        Args:
            before: [n] rows. The state before a row never sees the row itself.
            length: of the windows.
        """
        return self._windows(before, self.start[before], length)

    def newest(self, length: int) -> tuple[Ints, Tensor, Tensor]:
        """The users [n], and windows that end with each one's last row."""
        last = np.unique(self.end) - 1
        return self.users[last], *self._windows(last + 1, self.start[last], length)

    def _windows(self, ends: Ints, starts: Ints, length: int) -> tuple[Tensor, Tensor]:
        rows = ends[:, None] + np.arange(-length, 0)
        present = rows >= starts[:, None]
        rows = np.maximum(rows, 0)
        items, liked = (np.where(present, column[rows], 0) for column in (self.items, self.labels))
        return torch.from_numpy(items), torch.from_numpy(liked)


@dataclass(frozen=True)
class Batch:
    """One step: pieces of sequences, the states asked for, and what each is to predict."""

    items: Tensor  # [b, n]
    liked: Tensor  # [b, n]
    at: Tensor  # [b, s] positions of the states
    chosen: Tensor  # [b, s] bool: which of them teach, k in all
    targets: Tensor  # [k, HORIZON]
    weights: Tensor  # [k, HORIZON]
    seen: tuple[Tensor, Tensor]  # rows of k and items


def fit_tower(
    sequences: Sequences, shape: TowerShape, schedule: Schedule[SequenceTower], seed: int
) -> tuple[SequenceTower, BestEpoch]:
    """Softmax of the positives among a state's next HORIZON impressions over the items not yet seen.

    Args:
        sequences: rows to fit; states look at and predict nothing else.
        shape: of the network.
        schedule: at most how many epochs, and what stops earlier.
        seed: of the weights, of dropout, and of how the sequences are cut.

    Returns:
        The model of the best epoch, ready to score, and that epoch.
    """
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    positives = np.bincount(sequences.items, sequences.labels, sequences.item_count) + 1
    tower = SequenceTower(sequences.item_count, shape, torch.from_numpy(np.log(positives / positives.sum())).float())
    device = training_device()
    tower.to(device)
    size = max(min(PIECES, len(pieces(sequences, shape.window, np.random.default_rng(seed))) // STEPS), 1)
    drawn_by = torch.from_numpy(positives**0.75)
    drawn_by[0] = 0

    def steps(optimizer: torch.optim.Optimizer) -> None:
        for batch in batches(sequences, shape.window, size, generator):
            states = tower.states(batch.items.to(device), batch.liked.to(device), batch.at.to(device))
            rest = batch.targets.to(device), batch.weights.to(device), tower, tuple(s.to(device) for s in batch.seen)
            teaching = states[batch.chosen.to(device)]
            if sequences.item_count <= FULL_SOFTMAX_ITEMS:
                loss = catalogue_loss(teaching, *rest)
            else:
                drawn, log_expected = draw_items(drawn_by)
                loss = sampled_catalogue_loss(teaching, *rest, drawn.to(device), log_expected.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    count = -(-len(pieces(sequences, shape.window, np.random.default_rng(seed))) // size)
    optimizer = torch.optim.Adam(tower.parameters(), lr=LEARNING_RATE, fused=True)
    best = run_epochs(tower, optimizer, steps, count, schedule, f"tower, {shape.dim} dimensions")
    return tower.cpu().eval(), best


def draw_items(drawn_by: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct items of NEGATIVES draws in proportion to `drawn_by`, and the log of the chance to be among them."""
    drawn = torch.unique(torch.multinomial(drawn_by, NEGATIVES, replacement=True))
    absent = torch.log1p(-drawn_by[drawn] / drawn_by.sum()) * NEGATIVES
    return drawn, torch.log(-torch.expm1(absent)).float()


def pieces(sequences: Sequences, length: int, generator: np.random.Generator) -> Ints:
    """[pieces, 2] first row and end of consecutive pieces of all sequences, cut at other places in each epoch.

    A state near the beginning of a piece sees a short history, so that the tower learns to serve new users, too.
    """
    first = np.unique(sequences.start)
    end = np.unique(sequences.end)
    lengths = end - first
    head = np.where(lengths <= length, length, generator.integers(1, length + 1, len(first)))
    count = 1 + np.maximum(-(-(lengths - head) // length), 0)
    user = np.repeat(np.arange(len(first)), count)
    number = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    begin = first[user] + np.where(number > 0, head[user] + (number - 1) * length, 0)
    return np.stack([begin, np.minimum(end[user], first[user] + head[user] + number * length)], axis=1)


def batches(sequences: Sequences, length: int, size: int, generator: np.random.Generator) -> Iterator[Batch]:
    """One epoch; pieces of about equal length share a batch, so that little of it is empty."""
    cut = pieces(sequences, length, generator)
    order = np.argsort(cut[:, 1] - cut[:, 0] + generator.integers(0, 20, len(cut)) + generator.random(len(cut)))
    groups = np.array_split(cut[order], -(-len(cut) // size))
    generator.shuffle(groups)
    for group in groups:
        batch = _batch(sequences, group, generator)
        if batch is not None:
            yield batch


def _batch(sequences: Sequences, group: Ints, generator: np.random.Generator) -> Batch | None:
    begin, end = group[:, :1], group[:, 1:]
    width = int((end - begin).max())
    last = len(sequences.items) - 1
    rows = begin + np.arange(width)
    present = rows < end
    rows = np.minimum(rows, last)
    items, liked = (np.where(present, column[rows], 0) for column in (sequences.items, sequences.labels))

    at = generator.integers(0, STRIDE, (len(group), 1)) + np.arange(0, width, STRIDE)
    following = np.minimum(begin + at + 1, last)  # the first row that the state has not seen
    known = (begin + at < end) & (begin + at + 1 < sequences.end[np.minimum(begin, last)])
    at = np.minimum(at, width - 1)
    targets = following[:, :, None] + np.arange(HORIZON)
    inside = known[:, :, None] & (targets < sequences.end[following][:, :, None])
    targets = np.minimum(targets, last)
    weights = inside * sequences.labels[targets]
    chosen = weights.any(axis=2)
    if not chosen.any():
        return None
    following = following[chosen]
    seen = following - sequences.start[following]
    row = np.repeat(np.arange(len(following)), seen)
    place = (
        np.arange(seen.sum()) - np.repeat(np.cumsum(seen) - seen, seen) + np.repeat(sequences.start[following], seen)
    )
    return Batch(
        *(torch.from_numpy(column) for column in (items, liked, at, chosen, sequences.items[targets[chosen]])),
        torch.from_numpy(weights[chosen].astype(np.float32)),
        (torch.from_numpy(row), torch.from_numpy(sequences.items[place])),
    )


@torch.no_grad()
def user_vectors(tower: SequenceTower, items: Tensor, liked: Tensor) -> Floats:
    """[n, dim + 1] of windows [n, window]."""
    tower.eval()
    device = tower.bias.device
    parts = [
        tower(i.to(device), k.to(device)).cpu()
        for i, k in zip(items.split(SCORING_BATCH), liked.split(SCORING_BATCH), strict=True)
    ]
    vectors: Floats = torch.cat(parts).numpy()
    return vectors
