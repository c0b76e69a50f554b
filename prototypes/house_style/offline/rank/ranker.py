"""The ranking model: DeepFM's like-probability, and a score that orders the candidates of one request.

`rank_score` is the recall score plus a correction learned on the funnel's own candidates. The correction sees what recall
cannot: DeepFM's logit, target attention over the last impressions (Zhou et al., "Deep Interest Network", KDD 2018), the
retrieval FM's score, what followed the last impressions in other users' sequences, popularity, and the candidate's
place in its list.
"""

import numpy as np
import torch
from torch import Tensor, nn

from data_exchange_center.arrays import Float32Array, Int64Array
from data_exchange_center.features import SPARSE_COLUMNS
from data_exchange_center.columns import Column
from offline.rank.item_knowledge import ItemKnowledge
from data_exchange_center.limits import RECENT_IMPRESSIONS

FOLLOWED = (1, 3, 10)  # last impressions whose followers are summed
FLOOR = 1e-5  # a probability that stands for "never seen to follow"
HEADS = 4
HIDDEN = (64, 32)



class CandidateKnowledge(nn.Module):
    """Numbers of (user, candidate) that nothing is fitted for here: tables travel with the model as buffers."""

    WIDTH = 2 + 1 + 2 + 2 * len(FOLLOWED) + 1

    vectors: Tensor
    directions: Tensor
    fm_users: Tensor
    fm_items: Tensor
    log_counts: Tensor
    like_ratio: Tensor
    log_share: Tensor
    neighbours: Tensor
    probabilities: Tensor

    def __init__(self, knowledge: ItemKnowledge) -> None:
        """Takes the tables."""
        super().__init__()
        vectors = torch.from_numpy(knowledge.vectors[:, :-1].copy())
        counts, positives = torch.from_numpy(knowledge.counts), torch.from_numpy(knowledge.positives)
        mean = positives.sum() / counts.sum().clamp(min=1)
        self.register_buffer("vectors", vectors)
        self.register_buffer("directions", vectors / vectors.norm(dim=1, keepdim=True).clamp(min=1e-6))
        self.register_buffer("fm_users", torch.from_numpy(knowledge.fm_users))
        self.register_buffer("fm_items", torch.from_numpy(knowledge.fm_items))
        self.register_buffer("log_counts", torch.log1p(counts))
        self.register_buffer("like_ratio", (positives + 5 * mean) / (counts + 5))
        self.register_buffer("log_share", torch.log(counts / counts.sum().clamp(min=1) + FLOOR))
        self.register_buffer("neighbours", torch.from_numpy(knowledge.neighbours.astype(np.int32)))
        self.register_buffer("probabilities", torch.from_numpy(knowledge.probabilities))

    def forward(self, users: Tensor, candidates: Tensor, recent: Tensor, liked: Tensor) -> Tensor:
        """[n, WIDTH]; arguments as in `Ranker.forward`, users and candidates [n] indices."""
        known = (recent > 0).float()
        near = torch.einsum("nd,nkd->nk", self.directions[candidates], self.directions[recent[:, -5:]]) * known[:, -5:]
        fm = (self.fm_users[users] * self.fm_items[candidates]).sum(1) * (users > 0)
        last = recent[:, -max(FOLLOWED) :]
        hits = (self.neighbours[last] == candidates.int()[:, None, None]) & (last > 0)[:, :, None]
        follows = (self.probabilities[last] * hits).sum(2)  # [n, max(FOLLOWED)]
        after_liked = (follows * liked[:, -max(FOLLOWED) :])[:, -10:].mean(1)
        parts = [near[:, -1], near.mean(1), fm, self.log_counts[candidates], self.like_ratio[candidates]]
        for k in FOLLOWED:
            parts.append(torch.log(follows[:, -k:].mean(1) + FLOOR))
            parts.append(parts[-1] - self.log_share[candidates])
        parts.append(torch.log(after_liked + FLOOR))
        return torch.stack(parts, 1)


class TargetAttention(nn.Module):
    """What the last impressions say about one candidate: a softmax of how candidate and impression meet, and of lag."""

    def __init__(self, vectors: Tensor, width: int) -> None:
        """`vectors` [items, dim]: the tower's item vectors, the input of the projections, kept fixed."""
        super().__init__()
        dim = vectors.shape[1]
        self.width = width
        self.queries = nn.Linear(dim, width, bias=False)
        self.keys = nn.Linear(dim, width, bias=False)
        self.values = nn.Linear(dim, 2 * width, bias=False)
        self.lag_weights = nn.Parameter(-torch.arange(RECENT_IMPRESSIONS).flip(0) / torch.tensor([3.0, 10.0, 30.0, 100.0])[:, None])
        self.kind_weights = nn.Parameter(torch.zeros(2, HEADS))

    def forward(self, vectors: Tensor, candidates: Tensor, recent: Tensor, liked: Tensor) -> Tensor:
        """What the impressions say about the candidates.

        The whole table is projected before anything is looked up: in training that is the smaller product, and the
        exported model's runtime folds it into a constant, so that a request only looks up.

        Args:
            vectors: [items, dim].
            candidates: [..., m] indices.
            recent, liked: [..., RECENT_IMPRESSIONS] indices, and 1 where liked.

        Returns:
            [..., m, width].
        """
        heads = self.width // HEADS
        queries = self._heads(self.queries(vectors), candidates, heads)
        keys = self._heads(self.keys(vectors), recent, heads)
        by_kind = self.values(vectors).unflatten(1, (2, self.width)).flatten(0, 1)  # row 2 i + kind
        values = self._heads(by_kind, 2 * recent + liked, heads)
        bias = self.lag_weights + self.kind_weights[liked].transpose(-2, -1)
        logits = queries @ keys.transpose(-2, -1) / heads**0.5 + bias[..., None, :]
        present = (recent > 0)[..., None, None, :]
        weights = logits.masked_fill(~present, -1e4).softmax(-1) * present
        return ((weights @ values) * queries).transpose(-3, -2).flatten(-2)

    @staticmethod
    def _heads(table: Tensor, index: Tensor, heads: int) -> Tensor:
        """[..., HEADS, n, heads] rows [..., n] of a table."""
        rows = table.index_select(0, index.flatten()).unflatten(0, index.shape)
        return rows.unflatten(-1, (HEADS, heads)).transpose(-3, -2)


class RankNet(nn.Module):
    """rank_score = weight × gap of the recall score + MLP(features, attention): listwise, so without a constant."""

    mean: Tensor
    std: Tensor

    def __init__(self, features: int, vectors: Tensor, width: int = 32, dropout: float = 0.2) -> None:
        """`features`: numbers of a candidate; `vectors` [items, dim]: see TargetAttention."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))
        self.attention = TargetAttention(vectors, width) if width else None
        self.recall_weight = nn.Parameter(torch.ones(()))
        layers: list[nn.Module] = []
        size = features + width
        for out in HIDDEN:
            layers += [nn.Linear(size, out), nn.ReLU(), nn.Dropout(dropout)]
            size = out
        self.mlp = nn.Sequential(*layers, nn.Linear(size, 1, bias=False))

    def standardise_by(self, features: Tensor) -> None:
        """Takes the statistics from training lists [..., features]."""
        flat = features.flatten(0, -2)
        self.mean.copy_(flat.mean(0))
        self.std.copy_(flat.std(0).clamp(min=1e-3))

    def forward(self, features: Tensor, vectors: Tensor, candidates: Tensor, recent: Tensor, liked: Tensor) -> Tensor:
        """[..., m] scores of m candidates that share their impressions; features [..., m, f], the rest as in
        TargetAttention."""
        inputs = ((features - self.mean) / self.std).clamp(-5, 5)
        if self.attention is not None:
            inputs = torch.cat([inputs, self.attention(vectors, candidates, recent, liked)], -1)
        score: Tensor = self.recall_weight * features[..., 0] + self.mlp(inputs).squeeze(-1)
        return score


class Ranker(nn.Module):
    """What is served as one ONNX: DeepFM, the tables, and the rank net."""

    def __init__(self, deepfm: nn.Module, knowledge: CandidateKnowledge, net: RankNet, user: int, item: int) -> None:
        """`user`, `item`: columns of the two indices among the sparse features."""
        super().__init__()
        self.deepfm, self.knowledge, self.net, self.user, self.item = deepfm, knowledge, net, user, item

    def features(
        self, sparse: Tensor, dense: Tensor, recall: Tensor, recent: Tensor, liked: Tensor
    ) -> tuple[Tensor, Tensor]:
        """[n, 1] logit; [n, features] the rank net's numbers. Nothing here is fitted to lists."""
        logit = self.deepfm(sparse, dense)
        known = self.knowledge(sparse[:, self.user], sparse[:, self.item], recent, liked)
        return logit, torch.cat([recall, logit, known], 1)

    def forward(
        self, sparse_features: Tensor, dense_features: Tensor, recall: Tensor, recent: Tensor, liked: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Scores candidates.

        Args:
            sparse_features: [n, 23] int64; dense_features: [n, 36] float32: DeepFM's.
            recall: [n, 5] float32, see data_exchange_center/recall_features.py.
            recent, liked: [n, RECENT_IMPRESSIONS] int64, the newest in the last column, 0 where there is none.

        Returns:
            logit [n, 1] of the like-probability; rank_score [n, 1].
        """
        logit, features = self.features(sparse_features, dense_features, recall, recent, liked)
        candidates = sparse_features[:, self.item, None]
        score = self.net(features[:, None, :], self.knowledge.vectors, candidates, recent, liked)
        return logit, score
