"""The neighbours of an item: what people like after it, counted, and what lies near it in the tower's vectors.

The score of item j beside item i is the probability that a like which follows i is one of j, with a prior:

    (c_ij + w * q_ij) / (c_i + w)

c_ij counts the likes of j within WINDOW places after i in the same user's sequence, a later one less; c_i adds them up;
q_i is a softmax of what the vectors say, and w is how many likes it is worth. So an item that few have met is described
by its vector, and one that many have met by what they did next: the shrinkage that a Dirichlet prior makes.

Everything is counted and searched for some items at a time, against the whole catalogue: memory is bounded by CELLS,
whatever the number of ratings, and time grows with the ratings and with the square of the catalogue.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from data_exchange_center.arrays import BoolArray, Float32Array, Float64Array, Int64Array
from data_exchange_center.similar_items import SimilarItemsSettings
from offline.recall.interactions import Interactions

WINDOW = 10  # places after an item that are looked at
CELLS = 1 << 22  # of a block of items times the catalogue: 32 MiB in double precision
POPULARITY_EXPONENT = 0.3  # of the prior: between two items equally near, the one that more people like


@dataclass(frozen=True)
class Followed:
    """n rows by (user, time), and where each item stands in them.

    Attributes:
        users, items: [n] indices.
        liked: [n] whether the row is positive.
        item_count: size of the vocabulary, unknown counted.
    """

    users: Int64Array
    items: Int64Array
    liked: BoolArray
    item_count: int

    @classmethod
    def of(cls, rows: Interactions) -> "Followed":
        """The rows, in the split's order."""
        return cls(rows.users, rows.items, rows.labels == 1, rows.item_count)

    @cached_property
    def _by_item(self) -> tuple[Int64Array, Int64Array]:
        """[n] rows, grouped by their items; [item_count + 1] where each item's begin."""
        order = np.argsort(self.items, kind="stable")
        return order, np.searchsorted(self.items[order], np.arange(self.item_count + 1))

    def counts(self, block: Int64Array, weights: Float64Array) -> Float32Array:
        """[b, item_count] the likes that follow each of the items [b], by weight; none of itself or the unknown item.

        Args:
            block: distinct items.
            weights: of a like 1, 2, ... rows after the item.
        """
        order, starts = self._by_item
        lengths = starts[block + 1] - starts[block]
        place = np.repeat(np.arange(len(block)), lengths)
        rows = order[np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths - starts[block], lengths)]
        keys, added = [], []
        for lag, weight in enumerate(weights.tolist(), start=1):
            later = np.minimum(rows + lag, len(self.users) - 1)
            follows = (later == rows + lag) & (self.users[later] == self.users[rows]) & self.liked[later]
            keys.append(place[follows] * self.item_count + self.items[later[follows]])
            added.append(np.full(len(keys[-1]), weight))
        cells = len(block) * self.item_count
        counted = np.bincount(np.concatenate(keys), np.concatenate(added), cells).astype(np.float32)
        counts = counted.reshape(len(block), self.item_count)
        counts[np.arange(len(block)), block] = 0
        counts[:, 0] = 0
        return counts


def lag_weights(decay: float, window: int = WINDOW) -> Float64Array:
    """[window] the weight of a like 1, 2, ... places later."""
    return np.arange(1, window + 1, dtype=np.float64) ** -decay


def blocks(items: Int64Array, item_count: int) -> Iterator[Int64Array]:
    """These items, so many at a time as CELLS allow."""
    size = max(CELLS // item_count, 1)
    for first in range(0, len(items), size):
        yield items[first : first + size]


def prior(block: Int64Array, vectors: Float32Array, popularity: Float64Array, sharpness: float) -> Float32Array:
    """[b, items] a distribution for each of the items [b] over all others, the unknown one left out.

    Args:
        block: items.
        vectors: [items, dim + 1] the tower's, the bias last, which is not looked at: cosines are compared.
        popularity: [items] positives of each.
        sharpness: the factor of the cosine.
    """
    directions = torch.nn.functional.normalize(torch.from_numpy(vectors[:, :-1]), dim=1)
    logits = sharpness * directions[block] @ directions.T
    logits += torch.from_numpy(POPULARITY_EXPONENT * np.log(popularity + 1)).float()
    logits[torch.arange(len(block)), torch.from_numpy(block)] = -torch.inf
    logits[:, 0] = -torch.inf
    distribution: Float32Array = torch.softmax(logits, dim=1).numpy()
    return distribution


def blended(counts: Float32Array, of_vectors: Float32Array, weight: float) -> Float32Array:
    """[b, items] the scores; see the top of this module.

    Args:
        counts, of_vectors: [b, items] what follows, and the prior.
        weight: of the prior, above 0.
    """
    scores: Float32Array = (counts + weight * of_vectors) / (counts.sum(axis=1, keepdims=True) + weight)
    return scores


def best(scores: Float32Array, k: int) -> tuple[Int64Array, Float32Array]:
    """[b, k] items by descending score, and the scores; item 0 with score 0 where nothing speaks for an item."""
    width = min(k, scores.shape[1])
    found = torch.topk(torch.from_numpy(scores), width, dim=1)
    values = np.zeros((len(scores), k), np.float32)
    items = np.zeros((len(scores), k), np.int64)
    values[:, :width], items[:, :width] = found.values.numpy(), found.indices.numpy()
    items[values <= 0] = 0
    return items, values


@dataclass(frozen=True)
class Neighbours:
    """Scores items beside an item, by rows and vectors of one fit.

    Attributes:
        likes, impressions: the rows whose order is counted: positives alone, and all.
        vectors: [items, dim + 1] the tower's.
    """

    likes: Followed
    impressions: Followed
    vectors: Float32Array

    @classmethod
    def of(cls, rows: Interactions, vectors: Float32Array) -> "Neighbours":
        """Of the rows that the vectors were fitted to."""
        return cls(Followed.of(rows.positives()), Followed.of(rows), vectors)

    @property
    def item_count(self) -> int:
        """Size of the vocabulary, unknown counted."""
        return self.likes.item_count

    @cached_property
    def popularity(self) -> Float64Array:
        """[items] positives of each; of the unknown item none."""
        positives = np.bincount(self.likes.items, minlength=self.item_count).astype(np.float64)
        positives[0] = 0
        return positives

    def counts(self, block: Int64Array, settings: SimilarItemsSettings) -> Float32Array:
        """[b, items] what follows the items [b], as the settings have it."""
        rows = self.likes if settings.after == "likes" else self.impressions
        return rows.counts(block, lag_weights(settings.decay))

    def prior(self, block: Int64Array, settings: SimilarItemsSettings) -> Float32Array:
        """[b, items] what the vectors say of the items [b]."""
        return prior(block, self.vectors, self.popularity, settings.sharpness)

    def scores(self, block: Int64Array, settings: SimilarItemsSettings) -> Float32Array:
        """[b, items] the blend's scores beside the items [b]."""
        return blended(self.counts(block, settings), self.prior(block, settings), settings.prior_weight)
