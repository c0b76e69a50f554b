"""The ranking model: the logit of the like-probability, and a score that orders the candidates of one request.

`logit` is DeepFM's plus a correction that is fitted to rated rows. `rank_score` is the recall score plus a correction
that is fitted to the funnel's own candidates. Both corrections see what lies behind neither: target attention over the
last impressions, the retrieval FM's score, what followed the last impressions in other users' sequences, popularity;
and for the rank score DeepFM's logit and the candidate's place in its list.

A batch is one of lists: what all candidates of a list share, the user's last impressions, is looked up once.
"""

import torch
from torch import Tensor, nn

from data_exchange_center.columns import Column
from data_exchange_center.documents import RankerDocument
from data_exchange_center.features import RECALL_FEATURES
from data_exchange_center.limits import RANKER_IMPRESSIONS
from offline.batch_dropout import BatchDropout
from offline.distributed import mean_and_std
from offline.lookup import rows_of
from offline.rank.deepfm import DeepFM
from offline.rank.item_knowledge import ItemKnowledge, empty_knowledge

FOLLOWED = (1, 3, 10)  # of so many last impressions the followers are counted
FLOOR = 1e-5  # a probability that stands for "never seen to follow"
NEAR = 5  # last impressions whose item vectors are compared with the candidate's
HEADS = 4
LAG_SCALES = (3.0, 10.0, 30.0, 100.0)  # impressions over which a head's weight falls by e, at the beginning
ATTENTION_WIDTH = 32
HIDDEN = (64, 32)
DROPOUT = 0.2
LARGEST_DEVIATION = 5.0  # a feature further from its mean counts as so far
UNSEEN = -1e4  # a logit that no softmax sees, yet finite, so that a row without any impression has no NaN
PRIOR = 5.0  # impressions' worth of the average that an item's share of positives begins with


class CandidateKnowledge(nn.Module):
    """Numbers of (user, candidate) that are not fitted to lists: their tables travel with the model as buffers."""

    WIDTH = 2 + 1 + 2 + 2 * len(FOLLOWED) + 1

    vectors: Tensor
    directions: Tensor
    fm_users: Tensor
    fm_items: Tensor
    statistics: Tensor
    neighbours: Tensor
    probabilities: Tensor
    windows: Tensor

    def __init__(self, knowledge: ItemKnowledge) -> None:
        """Takes the tables."""
        super().__init__()
        vectors = torch.from_numpy(knowledge.embeddings())
        counts, positives = torch.from_numpy(knowledge.counts), torch.from_numpy(knowledge.positives)
        mean = positives.sum() / counts.sum().clamp(min=1)
        self.register_buffer("vectors", vectors)
        self.register_buffer("directions", vectors / vectors.norm(dim=1, keepdim=True).clamp(min=1e-6))
        self.register_buffer("fm_users", torch.from_numpy(knowledge.fm_users))
        self.register_buffer("fm_items", torch.from_numpy(knowledge.fm_items))
        like_ratio = (positives + PRIOR * mean) / (counts + PRIOR)
        log_share = torch.log(counts / counts.sum().clamp(min=1) + FLOOR)
        # [items, 3] logarithm of the count, share of positives, logarithm of the share of all impressions.
        self.register_buffer("statistics", torch.stack([torch.log1p(counts), like_ratio, log_share], 1))
        self.register_buffer("neighbours", torch.from_numpy(knowledge.neighbours))
        self.register_buffer("probabilities", torch.from_numpy(knowledge.probabilities))
        lags = torch.arange(max(FOLLOWED), 0, -1)
        self.register_buffer("windows", torch.stack([(lags <= k) / k for k in FOLLOWED]), persistent=False)

    def forward(self, users: Tensor, candidates: Tensor, recent: Tensor, liked: Tensor) -> Tensor:
        """What is known of the candidates.

        Args:
            users: [b] user_index.
            candidates: [b, m] item_index.
            recent, liked: [b, RANKER_IMPRESSIONS] as in `Ranker.forward`.

        Returns:
            [b, m, WIDTH].
        """
        last = recent[:, -NEAR:]
        near = rows_of(self.directions, candidates) @ rows_of(self.directions, last).transpose(1, 2)
        near = near * (last > 0).unsqueeze(1)  # [b, m, NEAR]
        fm_user = rows_of(self.fm_users, users).unsqueeze(2) * (users > 0)[:, None, None]
        fm = rows_of(self.fm_items, candidates) @ fm_user  # [b, m, 1]

        last, liked = recent[:, -max(FOLLOWED) :], liked[:, -max(FOLLOWED) :]
        neighbours = rows_of(self.neighbours, last).flatten(1)  # [b, last × NEIGHBOURS]
        probabilities = rows_of(self.probabilities, last) * (last > 0).unsqueeze(2)  # [b, last, NEIGHBOURS]
        liked_window = (liked.to(self.windows.dtype) / max(FOLLOWED)).unsqueeze(1)
        windows = torch.cat([self.windows.expand(last.shape[0], -1, -1), liked_window], 1)  # [b, windows + 1, last]
        weights = (windows.unsqueeze(3) * probabilities.unsqueeze(1)).flatten(2)
        hits = (neighbours.unsqueeze(2) == candidates.to(neighbours.dtype).unsqueeze(1)).to(weights.dtype)
        follows = torch.log((weights @ hits).transpose(1, 2) + FLOOR)  # [b, m, windows + 1]
        statistics = rows_of(self.statistics, candidates)
        lifts = follows[:, :, :-1] - statistics[:, :, -1:]  # over an item's share of all impressions
        parts = near[:, :, -1:], near.mean(2, keepdim=True), fm, statistics[:, :, :-1], follows, lifts
        return torch.cat(parts, 2)


class TargetAttention(nn.Module):
    """What the last impressions say about one candidate: a softmax of how candidate and impression meet, and of lag.

    Source: Zhou et al., "Deep Interest Network", KDD 2018; several heads, and a weight a lag.
    """

    def __init__(self, dim: int) -> None:
        """`dim` of the tower's item vectors, the input of the projections."""
        super().__init__()
        self.queries = nn.Linear(dim, ATTENTION_WIDTH, bias=False)
        self.keys = nn.Linear(dim, ATTENTION_WIDTH, bias=False)
        self.liked_values = nn.Linear(dim, ATTENTION_WIDTH, bias=False)
        self.other_values = nn.Linear(dim, ATTENTION_WIDTH, bias=False)
        lags = torch.arange(RANKER_IMPRESSIONS).flip(0)
        self.lag_weights = nn.Parameter(-lags / torch.tensor(LAG_SCALES)[:, None])
        self.kind_weights = nn.Parameter(torch.zeros(2, HEADS))

    def forward(self, candidates: Tensor, recent: Tensor, liked: Tensor, present: Tensor) -> Tensor:
        """[b, m, ATTENTION_WIDTH] what the impressions say about the candidates.

        Args:
            candidates: [b, m, dim] vectors.
            recent: [b, RANKER_IMPRESSIONS, dim] vectors.
            liked, present: [b, RANKER_IMPRESSIONS] 1 where liked; whether there is an impression.
        """
        queries, keys = self._heads(self.queries(candidates)), self._heads(self.keys(recent))
        values = torch.where(liked.unsqueeze(2) > 0, self.liked_values(recent), self.other_values(recent))
        values = values * present.unsqueeze(2)  # a row without any impression says nothing
        # The mask goes into what is as small as the impressions, not into what is as large as all pairs.
        bias = (self.lag_weights + rows_of(self.kind_weights, liked).transpose(1, 2)).unsqueeze(2)
        bias = bias.masked_fill(~present[:, None, None, :], UNSEEN)
        logits = queries @ keys.transpose(2, 3) / (ATTENTION_WIDTH // HEADS) ** 0.5 + bias
        return ((logits.softmax(3) @ self._heads(values)) * queries).transpose(1, 2).flatten(2)

    @staticmethod
    def _heads(projected: Tensor) -> Tensor:
        """[b, HEADS, n, width of a head] from [b, n, ATTENTION_WIDTH]."""
        return projected.unflatten(2, (HEADS, ATTENTION_WIDTH // HEADS)).transpose(1, 2)


class CandidateNet(nn.Module):
    """score = weight × first feature + MLP(features, attention); the fit begins at the order of the first feature.

    Of lists of candidates the first feature is the gap of the recall score, and the score is the rank score. Of rated
    items it is DeepFM's logit, and the score is the logit of the like-probability.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, features: int, dim: int) -> None:
        """Makes the layers.

        Args:
            features: numbers of a candidate, RANK_FEATURES or LIKE_FEATURES.
            dim: of the tower's item vectors.
        """
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))
        self.attention = TargetAttention(dim)
        self.first_weight = nn.Parameter(torch.ones(()))
        layers: list[nn.Module] = []
        width = features + ATTENTION_WIDTH
        for out in HIDDEN:
            layers += [nn.Linear(width, out), nn.ReLU(), BatchDropout(DROPOUT)]
            width = out
        last = nn.Linear(width, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.mlp = nn.Sequential(*layers, last)

    def standardise_by(self, features: Tensor) -> None:
        """Takes the statistics from candidates [n, features]."""
        mean, std = mean_and_std(features)
        self.mean.copy_(mean)
        self.std.copy_(std.clamp(min=1e-3))

    def forward(self, features: Tensor, vectors: Tensor, candidates: Tensor, recent: Tensor, liked: Tensor) -> Tensor:
        """[b, m] scores of lists.

        Args:
            features: [b, m, features].
            vectors: [items, dim] the tower's.
            candidates: [b, m] item_index.
            recent, liked: [b, RANKER_IMPRESSIONS] as in `Ranker.forward`.
        """
        inputs = ((features - self.mean) / self.std).clamp(-LARGEST_DEVIATION, LARGEST_DEVIATION)
        told = self.attention(rows_of(vectors, candidates), rows_of(vectors, recent), liked, recent > 0)
        score: Tensor = self.first_weight * features[:, :, 0]
        return score + self.mlp(torch.cat([inputs, told], 2)).squeeze(2)


LIKE_FEATURES = 1 + CandidateKnowledge.WIDTH  # DeepFM's logit, and what is known of the candidate
RANK_FEATURES = len(RECALL_FEATURES) + LIKE_FEATURES


class Ranker(nn.Module):
    """What is served as one ONNX: DeepFM, the tables, the like head and the rank net."""

    def __init__(self, deepfm: DeepFM, knowledge: CandidateKnowledge, like: CandidateNet, rank: CandidateNet) -> None:
        """Keeps the parts."""
        super().__init__()
        self.deepfm, self.knowledge, self.like, self.rank = deepfm, knowledge, like, rank
        columns = deepfm.features.sparse_columns
        self.user_place, self.item_place = columns.index(Column.USER_INDEX), columns.index(Column.ITEM_INDEX)

    @classmethod
    def unfitted(cls, deepfm: DeepFM, knowledge: CandidateKnowledge) -> "Ranker":
        """With two nets that are as they begin: the logit is DeepFM's, the rank score the gap of recall."""
        dim = knowledge.vectors.shape[1]
        return cls(deepfm, knowledge, CandidateNet(LIKE_FEATURES, dim), CandidateNet(RANK_FEATURES, dim)).eval()

    def features(self, sparse: Tensor, dense: Tensor, recall: Tensor, recent: Tensor, liked: Tensor) -> Tensor:
        """[b, m, RANK_FEATURES] the rank net's input: nothing here is fitted to lists.

        The last LIKE_FEATURES of them are the like head's input. The logit among them is DeepFM's alone: the like head
        is fitted to the very rows that label the lists.
        """
        logit = self.deepfm(sparse.flatten(0, 1), dense.flatten(0, 1)).view(*sparse.shape[:2], 1)
        known = self.knowledge(sparse[:, 0, self.user_place], sparse[:, :, self.item_place], recent, liked)
        return torch.cat([recall, logit, known], 2)

    def forward(
        self, sparse_features: Tensor, dense_features: Tensor, recall_features: Tensor, recent: Tensor, liked: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Scores the candidates of b requests, m of each.

        Args:
            sparse_features: [b, m, 23] int64, dense_features: [b, m, 36] float32: DeepFM's; a list is of one user.
            recall_features: [b, m, 5] float32, see data_exchange_center/recall_features.py.
            recent, liked: [b, RANKER_IMPRESSIONS] int64: item_index of the user's last impressions and 1 where liked,
                the newest in the last column, 0 where there is none.

        Returns:
            [b, m] logit of the like-probability; [b, m] rank_score, by which a list is ordered.
        """
        features = self.features(sparse_features, dense_features, recall_features, recent, liked)
        others = self.knowledge.vectors, sparse_features[:, :, self.item_place], recent, liked
        return self.like(features[:, :, -LIKE_FEATURES:], *others), self.rank(features, *others)


def ranker_from(document: RankerDocument, state: dict[str, Tensor]) -> Ranker:
    """The model that a document and a state dict describe, ready to score."""
    sizes = document.settings.sizes
    knowledge = empty_knowledge(
        sizes[Column.USER_INDEX], sizes[Column.ITEM_INDEX], document.vector_dim, document.fm_dim
    )
    ranker = Ranker.unfitted(DeepFM.of(document.settings), CandidateKnowledge(knowledge))
    ranker.load_state_dict(state)
    return ranker.eval()
