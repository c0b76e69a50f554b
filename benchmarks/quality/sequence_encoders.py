"""Encoders that could stand in the tower's place: a GRU, and SASRec with its own objective.

Each is a SequenceTower: items' table, biases, the normalisation of the states and dropout are the tower's, so that
`fit_tower` fits it and the same functions make its vectors. Only what makes a state of the impressions differs.

Sources: Hidasi et al., "GRU4Rec", ICLR 2016; Kang & McAuley, "SASRec", ICDM 2018.
"""

import torch
from torch import Tensor, nn

from data_exchange_center.documents import TowerShape
from offline.fitting import BestEpoch, Schedule
from offline.lookup import rows_of
from offline.recall.sequence_tower import SequenceTower
from offline.recall.sequence_training import Batch, drawing_weights, fit_by
from offline.recall.sequences import Sequences

BLOCKS = 2
NEGATIVES = 512  # items drawn a step
POSITION_SCALE = 0.02  # standard deviation at the start


class EncodedTower(SequenceTower):
    """A tower whose attention is replaced by a causal encoder of the whole sequence."""

    def __init__(self, items: int, shape: TowerShape, log_popularity: Tensor) -> None:
        """Makes the tables; arguments as those of SequenceTower."""
        super().__init__(items, shape, log_popularity)
        del self.attention, self.feed_forward  # or they would count as parameters

    def encode(self, inputs: Tensor, liked: Tensor) -> Tensor:
        """[b, n, dim] of inputs [b, n, dim] and liked [b, n]; what stands at a place depends on nothing behind it."""
        raise NotImplementedError

    def states(self, items: Tensor, liked: Tensor, at: Tensor) -> Tensor:
        """As SequenceTower.states; before the first impression the encoding is zeros."""
        present = items > 0
        # What is there moves to the front, in order. Empty places then stand where no causal encoder sees them, and
        # an impression has the same position in a short sequence at serving as in a long one in training.
        order = present.logical_not().to(torch.uint8).argsort(dim=1, stable=True)
        items, liked = items.gather(1, order), liked.gather(1, order)
        inputs = rows_of(self.items, items) + rows_of(self.kinds, liked)
        encoded = self.encode(inputs, liked)
        encoded = torch.cat([torch.zeros_like(encoded[:, :1]), encoded], 1)
        count = present.cumsum(1).gather(1, at)
        final: Tensor = self.after(encoded.gather(1, count[:, :, None].expand(-1, -1, encoded.shape[2])))
        return final


class GRUTower(EncodedTower):
    """One layer of gated recurrent units, which reads what was liked and what was not by a projection of its own."""

    def __init__(self, items: int, shape: TowerShape, log_popularity: Tensor) -> None:
        """Makes the tables; arguments as those of SequenceTower."""
        super().__init__(items, shape, log_popularity)
        self.liked_values = nn.Linear(shape.dim, shape.dim)
        self.other_values = nn.Linear(shape.dim, shape.dim)
        self.gru = nn.GRU(shape.dim, shape.dim, batch_first=True)

    def encode(self, inputs: Tensor, liked: Tensor) -> Tensor:
        """The hidden state after each impression."""
        inputs = self.before(self.dropout(inputs))
        inputs = torch.where(liked[:, :, None] > 0, self.liked_values(inputs), self.other_values(inputs))
        encoded: Tensor = self.dropout(self.gru(inputs)[0])
        return encoded


class SASRecTower(EncodedTower):
    """Two blocks of causal self-attention over items and learned positions; at most `window` impressions."""

    def __init__(self, items: int, shape: TowerShape, log_popularity: Tensor) -> None:
        """Makes the tables; arguments as those of SequenceTower."""
        super().__init__(items, shape, log_popularity)
        del self.before  # each block has a normalisation of its own
        self.positions = nn.Parameter(torch.randn(shape.window, shape.dim) * POSITION_SCALE)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                shape.dim, shape.heads, shape.dim, shape.dropout, batch_first=True, norm_first=True
            )
            for _ in range(BLOCKS)
        )

    def encode(self, inputs: Tensor, liked: Tensor) -> Tensor:
        """What the blocks make of each impression and those before it."""
        length = inputs.shape[1]
        encoded: Tensor = self.dropout(inputs * inputs.shape[2] ** 0.5 + self.positions[:length])
        causal = nn.Transformer.generate_square_subsequent_mask(length, device=inputs.device)
        for block in self.blocks:
            encoded = block(encoded, src_mask=causal, is_causal=True)
        return encoded


def next_liked(items: Tensor, liked: Tensor) -> Tensor:
    """[b, n] the place of the first known and liked impression behind each place; n where there is none."""
    length = items.shape[1]
    places = torch.arange(length, device=items.device).where((liked > 0) & (items > 0), length)
    following = places.flip(1).cummin(1).values.flip(1)
    return torch.cat([following[:, 1:], torch.full_like(following[:, :1], length)], 1)


def next_liked_loss(tower: SequenceTower, items: Tensor, liked: Tensor, drawn: Tensor, log_q: Tensor) -> Tensor | None:
    """SASRec's objective: every state is to find the next liked item among items that its sequence does not hold.

    Args:
        tower: whose states are taught.
        items, liked: [b, n] pieces of sequences, as in SequenceTower.states.
        drawn: [d] int64 negatives, shared by all states.
        log_q: [d] log of each one's expected count.

    Returns:
        The mean over all places that a liked impression follows; None where there is none.
    """
    following = next_liked(items, liked)
    taught = (following < items.shape[1]) & (items > 0)
    if not taught.any():
        return None
    at = torch.arange(items.shape[1], device=items.device).expand_as(items)
    states = tower.states(items, liked, at)[taught]
    targets = items.gather(1, following.clamp(max=items.shape[1] - 1))[taught]
    held = torch.zeros(len(items), len(tower.items), dtype=torch.bool, device=items.device).scatter_(1, items, True)
    collision = held[:, drawn][taught.nonzero()[:, 0]]
    vectors = torch.cat([tower.items, tower.bias[:, None]], 1)
    users = torch.cat([states, torch.ones_like(states[:, :1])], 1)
    positive = (users * vectors.index_select(0, targets)).sum(1, keepdim=True)
    negatives = (users @ vectors.index_select(0, drawn).T - log_q).masked_fill(collision, -torch.inf)
    return -(positive.squeeze(1) - torch.logsumexp(torch.cat([positive, negatives], 1), 1)).mean()


def fit_next_liked(
    tower: SequenceTower, sequences: Sequences, schedule: Schedule[SequenceTower], seed: int
) -> BestEpoch:
    """As `fit_tower`, with the same pieces of sequences in its batches, and SASRec's objective.

    SASRec's binary loss against one negative a place is replaced by the softmax over many, which is known to raise it
    to the level of later models: Klenitskiy & Vasilev, "Turning Dross Into Gold Loss", RecSys 2023.
    """
    drawn_by = drawing_weights(sequences)
    log_expected = torch.log(drawn_by / drawn_by.sum() * NEGATIVES).float()

    def loss_of(batch: Batch) -> Tensor | None:
        drawn = torch.multinomial(drawn_by, NEGATIVES, replacement=True)
        device = batch.items.device
        return next_liked_loss(tower, batch.items, batch.liked, drawn.to(device), log_expected[drawn].to(device))

    return fit_by(loss_of, tower, sequences, schedule, seed)
