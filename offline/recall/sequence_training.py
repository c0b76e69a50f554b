"""Fits the sequence tower: whole columns in memory, a step is a batch of pieces of sequences."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data_exchange_center.arrays import Float32Array, Float64Array, Int64Array
from data_exchange_center.documents import TowerShape
from data_exchange_center.user_state import rows_between
from offline.batch_dropout import rows_of_batch
from offline.distributed import counted, objective, summed
from offline.fitting import BestEpoch, Schedule, run_epochs, training_device
from offline.recall.sampled_softmax import draw_items, is_sampled
from offline.recall.sequence_tower import SequenceTower, catalogue_loss, sampled_catalogue_loss
from offline.recall.sequences import Sequences

HORIZON = 10  # the positives among so many next impressions are what a state is to predict
STRIDE = 10  # one state in so many impressions teaches: its targets are the impressions up to the next one
PIECES = 32  # of sequences a step, at most
STEPS = 20  # an epoch at least
LEARNING_RATE = 0.002
SCORING_BATCH = 512


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
    places: Tensor  # [b] among the pieces of all processes
    pieces: int  # of all processes

    def to(self, device: torch.device) -> "Batch":
        """The same on that device."""
        rows, items = self.seen
        return Batch(
            items=self.items.to(device),
            liked=self.liked.to(device),
            at=self.at.to(device),
            chosen=self.chosen.to(device),
            targets=self.targets.to(device),
            weights=self.weights.to(device),
            seen=(rows.to(device), items.to(device)),
            places=self.places.to(device),
            pieces=self.pieces,
        )


def new_tower(sequences: Sequences, shape: TowerShape, seed: int) -> SequenceTower:
    """A tower to fit, whose softmax begins as that of the positives' popularity."""
    torch.manual_seed(seed)
    positives = _positives(sequences)
    return SequenceTower(sequences.item_count, shape, torch.from_numpy(np.log(positives / positives.sum())).float())


def _positives(sequences: Sequences) -> Float64Array:
    """[items] positives of each, and one more, so that nothing is impossible."""
    return counted(np.bincount(sequences.items, sequences.labels, sequences.item_count)).astype(np.float64) + 1


def drawing_weights(sequences: Sequences) -> Tensor:
    """[items] in proportion to which negatives are drawn: popular ones more often, the unknown item never."""
    weights = torch.from_numpy(_positives(sequences) ** 0.75)
    weights[0] = 0
    return weights


def fit_tower(tower: SequenceTower, sequences: Sequences, schedule: Schedule[SequenceTower], seed: int) -> BestEpoch:
    """Softmax of the positives among a state's next HORIZON impressions over the items not yet seen.

    Args:
        tower: a new one, or one that was fitted to fewer rows and goes on; afterwards it is that of the best epoch, on
            the CPU and ready to score.
        sequences: rows to fit, of which this process holds those of its users; states look at and predict nothing else.
        schedule: at most how many epochs, and what stops earlier.
        seed: of dropout, and of how the sequences are cut.

    Returns:
        The best epoch.
    """
    drawn_by = drawing_weights(sequences)

    def loss_of(batch: Batch) -> Tensor:
        states = tower.states(batch.items, batch.liked, batch.at)[batch.chosen]
        if not is_sampled(sequences.item_count):
            return catalogue_loss(states, batch.targets, batch.weights, tower, batch.seen)
        drawn, log_expected = (part.to(states.device) for part in draw_items(drawn_by))
        return sampled_catalogue_loss(states, batch.targets, batch.weights, tower, batch.seen, drawn, log_expected)

    return fit_by(loss_of, tower, sequences, schedule, seed)


def fit_by(
    loss_of: Callable[[Batch], Tensor | None],
    tower: SequenceTower,
    sequences: Sequences,
    schedule: Schedule[SequenceTower],
    seed: int,
) -> BestEpoch:
    """The loop of `fit_tower` for any loss of a batch; one that is None takes no step, where there is one process."""
    torch.manual_seed(seed)
    generator, window, device = np.random.default_rng(seed), tower.shape.window, training_device()
    tower.to(device)
    count = len(pieces(sequences, window, np.random.default_rng(seed)))
    size = max(min(PIECES, count // STEPS), 1)

    whole_loss = objective(tower, loss_of)

    def train_epoch(optimizer: torch.optim.Optimizer) -> None:
        for batch in batches(sequences, window, size, generator):
            with rows_of_batch(batch.places.to(device), batch.pieces):
                loss = whole_loss(batch.to(device))
            if loss is not None:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    optimizer = torch.optim.Adam(tower.parameters(), lr=LEARNING_RATE, fused=True)
    best = run_epochs(tower, optimizer, train_epoch, -(-count // size), schedule, "user tower", generator)
    tower.cpu().eval()
    return best


def pieces(sequences: Sequences, length: int, generator: np.random.Generator) -> Int64Array:
    """[pieces, 2] first row and end of consecutive pieces of all processes' sequences, cut elsewhere in each epoch.

    A state near the beginning of a piece sees a short history, so that the tower learns to serve new users, too.
    """
    first, end = sequences.all_users
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
    groups = np.array_split(cut[order], max(-(-len(cut) // size), 1))
    generator.shuffle(groups)
    for group in groups:
        batch = _batch(sequences, group, generator)
        if batch is not None:
            yield batch


def _batch(sequences: Sequences, group: Int64Array, generator: np.random.Generator) -> Batch | None:
    """Of the pieces [b, 2] `group` those held here as a step; None where no state in them has anything to predict."""
    if not len(group):
        return None
    width = int((group[:, 1] - group[:, 0]).max())
    first_states = generator.integers(0, STRIDE, (len(group), 1))
    places = sequences.share.places(torch.from_numpy(group[:, 0])).numpy()
    begin, end = group[places, :1] - sequences.share.first, group[places, 1:] - sequences.share.first
    last = len(sequences.items) - 1
    rows = begin + np.arange(width)
    present = rows < end
    rows = np.minimum(rows, last)
    items, liked = (np.where(present, column[rows], 0) for column in (sequences.items, sequences.labels))

    at = first_states[places] + np.arange(0, width, STRIDE)
    following = np.minimum(begin + at + 1, last)  # the first row that the state has not seen
    known = (begin + at < end) & (begin + at + 1 < sequences.end[np.minimum(begin, last)])
    at = np.minimum(at, width - 1)
    targets = following[:, :, None] + np.arange(HORIZON)
    inside = known[:, :, None] & (targets < sequences.end[following][:, :, None])
    targets = np.minimum(targets, last)
    weights = inside * sequences.labels[targets] * sequences.is_first[targets]
    chosen = weights.any(axis=2)
    if not summed(torch.tensor(int(chosen.sum()))):
        return None
    following = following[chosen]
    row, place = rows_between(sequences.start[following], following)
    return Batch(
        items=torch.from_numpy(items),
        liked=torch.from_numpy(liked),
        at=torch.from_numpy(at),
        chosen=torch.from_numpy(chosen),
        targets=torch.from_numpy(sequences.items[targets[chosen]]),
        weights=torch.from_numpy(weights[chosen].astype(np.float32)),
        seen=(torch.from_numpy(row), torch.from_numpy(sequences.items[place])),
        places=torch.from_numpy(places),
        pieces=len(group),
    )


@torch.no_grad()
def user_vectors(tower: SequenceTower, items: Tensor, liked: Tensor) -> Float32Array:
    """[n, dim + 1] of windows [n, window]."""
    tower.eval()
    device = tower.bias.device
    parts = [
        tower(i.to(device), k.to(device)).cpu()
        for i, k in zip(items.split(SCORING_BATCH), liked.split(SCORING_BATCH), strict=True)
    ]
    vectors: Float32Array = torch.cat(parts).numpy()
    return vectors
