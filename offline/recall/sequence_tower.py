"""A user tower over the last impressions: the user's vector is a function of what they did, in order.

Every head weighs the window's impressions by their lag (and, with `content`, by how the last impression's query meets
their keys), separately for liked and not liked ones; a residual feed-forward layer makes the user vector of the heads.
Item vectors serve as input and as output. There is no user id: a user with one event has a vector as any other.

Sources: Vaswani et al., NeurIPS 2017 (the block); Kang & McAuley, "SASRec", ICDM 2018 (all positions teach at once,
tied item table); Shaw et al., NAACL 2018 (attention by relative position).
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from data_exchange_center.arrays import Float32Array
from data_exchange_center.documents import TowerDocument, TowerShape
from offline.batch_dropout import BatchDropout
from offline.distributed import summed
from offline.lookup import rows_of
from offline.recall.sampled_softmax import log_chances, places_of, sampled_losses

HIDDEN = -1e4  # a logit that no softmax sees, yet finite, so that a row without any impression has no NaN
LAG_SCALES = (2.0, 8.0, 30.0, 150.0, 4.0, 15.0, 60.0, 1000.0)  # impressions over which a head's weight falls by e
INITIAL_ITEM_NORM = 0.4


class LagAttention(nn.Module):
    """Multi-head attention whose logits start from a learned weight a lag and a learned weight a kind of impression."""

    positions: Tensor

    def __init__(self, shape: TowerShape) -> None:
        """Makes the projections."""
        super().__init__()
        self.heads, self.window, self.content = shape.heads, shape.window, shape.content
        scales = torch.tensor(LAG_SCALES[: shape.heads])
        self.lag_weights = nn.Parameter(-torch.arange(shape.window) / scales[:, None])  # [heads, window]
        self.register_buffer("positions", torch.arange(shape.window), persistent=False)
        self.kind_weights = nn.Parameter(torch.zeros(2, shape.heads))
        # What was liked and what was not carry opposite news: each kind has a projection of its own.
        self.liked_values = nn.Linear(shape.dim, shape.dim)
        self.other_values = nn.Linear(shape.dim, shape.dim)
        if shape.content:
            self.queries, self.keys = nn.Linear(shape.dim, shape.dim), nn.Linear(shape.dim, shape.dim)
        self.output = nn.Linear(shape.dim, shape.dim)
        self.dropout = BatchDropout(shape.dropout)

    def forward(self, inputs: Tensor, liked: Tensor, present: Tensor, at: Tensor) -> Tensor:
        """[b, s, dim] at the positions asked for; arguments as in SequenceTower.states, inputs [b, n, dim]."""
        b, n, dim = inputs.shape
        lag = at[:, :, None] - self.positions[:n]  # [b, s, n]
        at_lags = self.lag_weights.index_select(1, lag.clamp(0, self.window - 1).flatten())
        logits = at_lags.view(self.heads, *lag.shape).transpose(0, 1)
        logits = logits + rows_of(self.kind_weights, liked).transpose(1, 2)[:, :, None, :]
        if self.content:
            asked = inputs.gather(1, at[:, :, None].expand(-1, -1, dim))
            queries = self.queries(asked).view(b, at.shape[1], self.heads, dim // self.heads).transpose(1, 2)
            keys = self.keys(inputs).view(b, n, self.heads, dim // self.heads).transpose(1, 2)
            logits = logits + queries @ keys.transpose(2, 3) / math.sqrt(dim // self.heads)
        visible = (lag >= 0) & (lag < self.window) & present[:, None, :]
        weights = self.dropout(logits.masked_fill(~visible[:, None], HIDDEN).softmax(3) * visible[:, None])
        values = torch.where(liked[:, :, None] > 0, self.liked_values(inputs), self.other_values(inputs))
        values = values.view(b, n, self.heads, dim // self.heads).transpose(1, 2)
        mixed: Tensor = self.output((weights @ values).transpose(1, 2).reshape(b, at.shape[1], dim))
        return mixed


class SequenceTower(nn.Module):
    """score(u, i) = <user vector(last impressions), vector_i> + bias_i.

    Index 0 is the unknown item and the empty place of a window: it embeds to zeros and is never looked at.
    """

    def __init__(self, items: int, shape: TowerShape, log_popularity: Tensor) -> None:
        """Makes the tables.

        Args:
            items: size of the vocabulary, unknown counted.
            shape: of the network.
            log_popularity: [items] where the biases start: the softmax of popularity.
        """
        super().__init__()
        self.shape = shape
        self.items = nn.Parameter(torch.randn(items, shape.dim) * INITIAL_ITEM_NORM / shape.dim**0.5)
        self.bias = nn.Parameter(log_popularity.clone())
        with torch.no_grad():
            self.items[0] = 0
        self.kinds = nn.Parameter(torch.randn(2, shape.dim) * 0.02)
        self.before = nn.LayerNorm(shape.dim)
        self.attention = LagAttention(shape)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(shape.dim), nn.Linear(shape.dim, 2 * shape.dim), nn.GELU(), nn.Linear(2 * shape.dim, shape.dim)
        )
        self.after = nn.LayerNorm(shape.dim)
        self.dropout = BatchDropout(shape.dropout)

    def states(self, items: Tensor, liked: Tensor, at: Tensor) -> Tensor:
        """User vectors after some of a sequence's impressions.

        Args:
            items: [b, n] int64 indices, oldest first; 0 where there is none.
            liked: [b, n] int64, 1 where the impression was positive.
            at: [b, s] int64 positions: the state is that after the impression at this position.

        Returns:
            [b, s, dim].
        """
        present = items > 0
        inputs = rows_of(self.items, items) + rows_of(self.kinds, liked)
        inputs = self.dropout(inputs * present[:, :, None])
        last = inputs.gather(1, at[:, :, None].expand(-1, -1, inputs.shape[2]))
        state = last + self.dropout(self.attention(self.before(inputs), liked, present, at))
        state = state + self.dropout(self.feed_forward(state))
        final: Tensor = self.after(state)
        return final

    def forward(self, items: Tensor, liked: Tensor) -> Tensor:
        """What is served.

        Args:
            items: [b, window] int64, the newest impression in the last column, 0 in the places before the first one.
            liked: [b, window] int64.

        Returns:
            [b, dim + 1] user vectors; the last column is the 1 that meets the items' biases.
        """
        at = torch.full_like(items[:, :1], items.shape[1] - 1)
        state = self.states(items, liked, at).squeeze(1)
        return functional.pad(state, (0, 1), value=1.0)

    @torch.no_grad()
    def item_vectors(self) -> Float32Array:
        """[items, dim + 1]: the inner product with a user vector is the score up to a constant of all items."""
        bias = self.bias - self.bias[1:].mean()
        bias[0] = bias[1:].min()
        vectors: Float32Array = torch.cat([self.items, bias[:, None]], 1).cpu().numpy()
        vectors[0, :-1] = 0
        return vectors


def catalogue_loss(
    states: Tensor, targets: Tensor, weights: Tensor, tower: SequenceTower, seen: tuple[Tensor, Tensor]
) -> Tensor:
    """Negative log likelihood of what the users liked next, under a softmax over the items that they had not yet seen.

    Items seen before are out of the sum because serving filters them: without that, much of the capacity goes into
    learning that nothing is seen twice.

    Args:
        states: [b, dim].
        targets: [b, h] int64 items to come.
        weights: [b, h] float32, 0 where there is none.
        tower: whose item table scores.
        seen: rows and items, [m] int64 each, of the pairs to leave out.

    Returns:
        The mean by weight; of several processes, this one's addend of it.
    """
    scores = torch.addmm(tower.bias, states, tower.items.T)
    scores = scores.index_put_(seen, scores.new_tensor(HIDDEN))
    positive = _target_scores(states, targets, tower)
    return ((torch.logsumexp(scores[:, 1:], 1, keepdim=True) - positive) * weights).sum() / summed(weights.sum())


def sampled_catalogue_loss(
    states: Tensor,
    targets: Tensor,
    weights: Tensor,
    tower: SequenceTower,
    seen: tuple[Tensor, Tensor],
    drawn: Tensor,
    log_expected: Tensor,
) -> Tensor:
    """The same, estimated from shared negatives with logQ correction (see sampled_softmax.py), for large catalogues.

    Args:
        states, targets, weights, tower, seen: as in `catalogue_loss`.
        drawn: [d] int64 distinct items.
        log_expected: [d] log of each one's probability to be among those drawn.
    """
    place = places_of(drawn, len(tower.items))
    scores = torch.addmm(rows_of(tower.bias, drawn) - log_expected, states, rows_of(tower.items, drawn).T)
    hidden = place[seen[1]]
    scores = scores.index_put_((seen[0][hidden >= 0], hidden[hidden >= 0]), scores.new_tensor(HIDDEN))
    rows = torch.arange(len(states), device=states.device)[:, None].expand_as(targets)
    log_chance = log_chances(drawn, log_expected, len(tower.items))[targets]
    losses = sampled_losses(scores, rows, _target_scores(states, targets, tower), log_chance)
    return (losses * weights).sum() / summed(weights.sum())


def _target_scores(states: Tensor, targets: Tensor, tower: SequenceTower) -> Tensor:
    """[b, h] scores of the targets [b, h] after the states [b, dim].

    Not gathered from scores of the catalogue: the gradient would fill one more matrix of their size.
    """
    return (rows_of(tower.items, targets) @ states[:, :, None]).squeeze(2) + rows_of(tower.bias, targets)


def tower_from(document: TowerDocument, state: Mapping[str, Tensor]) -> SequenceTower:
    """The tower that a document and a state dict describe, ready to make vectors."""
    tower = SequenceTower(document.items, document.shape, torch.zeros(document.items))
    tower.load_state_dict(dict(state))
    return tower.eval()
