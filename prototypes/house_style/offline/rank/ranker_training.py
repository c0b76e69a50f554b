"""Fits the rank net to lists: softmax over a request's candidates, features computed once."""

from dataclasses import dataclass

import numpy as np
import torch
from data_exchange_center.arrays import BoolArray, Float32Array, Int64Array
from offline.fitting import BestEpoch, Schedule, run_epochs
from torch import Tensor

from offline.rank.ranker import RankNet

LEARNING_RATE = 0.002
WEIGHT_DECAY = 0.01
LISTS = 64  # a step, at most
STEPS = 40  # an epoch at least
SAMPLED = 64  # candidates of each list that a step looks at: its positives, and others drawn


@dataclass(frozen=True)
class TrainingLists:
    """Candidates of l requests of m candidates each, and what the user liked of them next.

    Attributes:
        features: [l, m, features] float32 of Ranker.features.
        candidates: [l, m] int64. recent, liked: [l, RECENT_IMPRESSIONS] int64.
        labels: [l, m] bool. relevant: [l] how many positives there were, found by recall or not.
    """

    features: Tensor
    candidates: Tensor
    recent: Tensor
    liked: Tensor
    labels: Tensor
    relevant: Int64Array

    def select(self, rows: BoolArray) -> "TrainingLists":
        """Those lists."""
        at = torch.from_numpy(np.flatnonzero(rows))
        columns = (self.features, self.candidates, self.recent, self.liked, self.labels)
        return TrainingLists(*(column[at] for column in columns), self.relevant[rows])


def fit_ranker(
    lists: TrainingLists,
    vectors: Tensor,
    schedule: Schedule[RankNet],
    seed: int,
    width: int = 32,
    pointwise: bool = False,
    dropout: float = 0.2,
    weight_decay: float = 0.01,
) -> tuple[RankNet, BestEpoch]:
    """Softmax of the positives over the candidates of their list.

    Args:
        lists: to fit; those without a positive among the candidates teach nothing.
        vectors: [items, dim] the tower's.
        schedule: when to stop.
        seed: of the weights, of the draws and of the lists' order.
    """
    torch.manual_seed(seed)
    lists = lists.select(lists.labels.any(1).numpy())
    net = RankNet(lists.features.shape[2], vectors)
    net.standardise_by(lists.features)
    count = len(lists.labels)
    size = max(min(LISTS, count // STEPS), 1)

    def train_epoch(optimizer: torch.optim.Optimizer) -> None:
        for batch in torch.randperm(count).split(size):
            labels = lists.labels[batch]
            # A draw for each candidate, the positives before all others.
            draw = torch.rand(labels.shape) + labels
            at = draw.topk(min(SAMPLED, labels.shape[1]), dim=1).indices
            labels = labels.gather(1, at).float()
            features = lists.features[batch[:, None], at]
            candidates, recent = lists.candidates[batch[:, None], at], lists.recent[batch]
            scores = net(features, vectors, candidates, recent, lists.liked[batch])
            loss = -(scores.log_softmax(1) * labels).sum() / labels.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    optimizer = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
    best = run_epochs(net, optimizer, train_epoch, -(-count // size), schedule, "ranker")
    return net.eval(), best


@torch.no_grad()
def score_lists(net: RankNet, lists: TrainingLists, vectors: Tensor) -> Float32Array:
    """[l, m] rank scores."""
    net.eval()
    parts = [
        net(lists.features[b], vectors, lists.candidates[b], lists.recent[b], lists.liked[b])
        for b in torch.arange(len(lists.labels)).split(256)
    ]
    scores: Float32Array = torch.cat(parts).numpy()
    return scores
