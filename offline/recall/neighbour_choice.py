"""Which neighbours are best: the blend's settings and the baseline's, chosen on valid, and all of them measured."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np

from data_exchange_center.arrays import Float32Array, Float64Array, Int64Array
from data_exchange_center.similar_items import (
    MEASURED_AT,
    After,
    CoPopularityTrial,
    SimilarItemsRecall,
    SimilarItemsSettings,
    SimilarItemsTrial,
)
from offline.metrics import Bootstrap, interval
from offline.recall.following_likes import Queries
from offline.recall.neighbours import Neighbours, best, blocks, lag_weights

MOST_TRIED = 2048  # items whose queries choose on valid: every one of them is compared with the whole catalogue
WINDOWS = (1, 2, 3, 5, 10, 30)  # of co-popularity
FOLLOWING: tuple[After, ...] = ("impressions", "likes")
DECAYS = (0.5, 1.0, 1.5)
PRIOR_WEIGHTS = (10.0, 30.0, 100.0, 300.0)
SHARPNESS = (3.0, 5.0, 10.0)

Score = Callable[[Int64Array], Float32Array]  # items [b] -> [b, items] scores


@dataclass(frozen=True)
class Choice:
    """What valid prefers, and what was tried."""

    settings: SimilarItemsSettings
    tried: list[SimilarItemsTrial]
    window: int
    windows: list[CoPopularityTrial]


def lists_of(score: Score, items: Int64Array, item_count: int, k: int) -> tuple[Int64Array, Float32Array]:
    """[n, k] the best by this score of the items [n], and their scores."""
    parts = [best(score(block), k) for block in blocks(items, item_count)]
    nothing = np.zeros((0, k))
    found, scores = zip(*parts, strict=True) if parts else ((nothing.astype(np.int64),), (nothing.astype(np.float32),))
    return np.concatenate(found), np.concatenate(scores)


def recall_of(score: Score, queries: Queries, item_count: int) -> tuple[Int64Array, Float64Array]:
    """The users with a query, and the recall of each with lists by this score."""
    lists, _ = lists_of(score, queries.query_items, item_count, MEASURED_AT)
    return queries.recall(lists, item_count)


def mean_recall(score: Score, queries: Queries, item_count: int) -> float:
    """Recall averaged over users; 0 where there is no query."""
    _, recall = recall_of(score, queries, item_count)
    return round(float(recall.mean()), 6) if len(recall) else 0.0


def choose(neighbours: Neighbours, queries: Queries) -> Choice:
    """The settings of the blend and of co-popularity with the best recall of these queries.

    The blend's are chosen in two steps, what is counted first, because the prior hardly changes which count is best.
    """
    count = neighbours.item_count
    windows = [
        CoPopularityTrial(window=w, recall=mean_recall(co_popularity(neighbours, w), queries, count)) for w in WINDOWS
    ]
    counted = [
        trial(neighbours, SimilarItemsSettings(after=after, decay=decay), queries)
        for after, decay in product(FOLLOWING, DECAYS)
    ]
    chosen = max(counted, key=lambda tried: tried.recall).settings
    weighed = [
        trial(neighbours, chosen.model_copy(update={"prior_weight": weight, "sharpness": sharpness}), queries)
        for weight, sharpness in product(PRIOR_WEIGHTS, SHARPNESS)
    ]
    tried = counted + weighed
    window = max(windows, key=lambda tried: tried.recall).window
    return Choice(max(tried, key=lambda tried: tried.recall).settings, tried, window, windows)


def trial(neighbours: Neighbours, settings: SimilarItemsSettings, queries: Queries) -> SimilarItemsTrial:
    """The recall of the blend with these settings."""
    recall = mean_recall(lambda block: neighbours.scores(block, settings), queries, neighbours.item_count)
    return SimilarItemsTrial(settings=settings, recall=recall)


def co_popularity(neighbours: Neighbours, window: int) -> Score:
    """The baseline: how many of the window's next likes after a like of the item are of each other one."""
    weights = lag_weights(0.0, window)
    return lambda block: neighbours.likes.counts(block, weights)


def popularity(neighbours: Neighbours) -> Score:
    """The same list for every item, but for itself."""

    def score(block: Int64Array) -> Float32Array:
        scores = np.tile(neighbours.popularity.astype(np.float32), (len(block), 1))
        scores[np.arange(len(block)), block] = 0
        return scores

    return score


def measure(neighbours: Neighbours, queries: Queries, choice: Choice, seed: int) -> dict[str, SimilarItemsRecall]:
    """Recall of the blend, of its parts and of the baselines, with intervals over the users."""
    settings = choice.settings
    systems: dict[str, Score] = {
        "blend": lambda block: neighbours.scores(block, settings),
        "co_occurrence": lambda block: neighbours.counts(block, settings),
        "vectors": lambda block: neighbours.prior(block, settings),
        "co_popularity": co_popularity(neighbours, choice.window),
        "popularity": popularity(neighbours),
    }
    found = {name: recall_of(score, queries, neighbours.item_count) for name, score in systems.items()}
    users, of_blend = found["blend"]
    if not len(users):
        return {name: SimilarItemsRecall(recall=0.0, interval=(0.0, 0.0)) for name in systems}
    bootstrap = Bootstrap(users, seed)
    return {
        name: SimilarItemsRecall(
            recall=round(float(recall.mean()), 6),
            interval=interval(bootstrap.means(recall)),
            gain_of_blend=None if name == "blend" else round(float((of_blend - recall).mean()), 6),
            gain_interval=None if name == "blend" else interval(bootstrap.means(of_blend - recall)),
        )
        for name, (_, recall) in found.items()
    }
