"""Puts items in order: candidates by their scores, or the most popular ones."""

from collections.abc import Sequence

import numpy as np

from data_exchange_center.arrays import FloatArray
from online.callers.types import EVERYTHING, Candidates, ItemFilter, ScoredItem
from online.recommendation import Ranking
from online.serving_data import ServingData

POPULAR = "popular"
# Which recall found a candidate, at by_term + 2 * by_vector. What neither found is the most popular within a filter.
RECALLED_BY = ((POPULAR,), ("term",), ("vector",), ("term", "vector"))


def top_items(candidates: Candidates, ranking: Ranking | None, size: int) -> tuple[ScoredItem, ...]:
    """The candidates by their rank score, ties by item id; without a ranking, by their recall score."""
    ids, recall = candidates.itemids, candidates.scores
    scores: FloatArray = ranking.rank_scores if ranking else recall
    top = np.lexsort((ids, -scores))[:size]
    logits = ranking.logits[top].tolist() if ranking else [None] * len(top)
    found_by = [RECALLED_BY[which] for which in (candidates.by_term + 2 * candidates.by_vector)[top].tolist()]
    columns = (ids[top].tolist(), scores[top].tolist(), recall[top].tolist(), logits, found_by)
    return tuple(ScoredItem(*line) for line in zip(*columns, strict=True))


def popular_items(
    data: ServingData, size: int, seen: Sequence[int], within: ItemFilter = EVERYTHING
) -> tuple[ScoredItem, ...]:
    """The most popular items of the training window that the user has not seen and that pass the filter."""
    if within.narrows:
        rows = data.popular_rows
        passing = data.table.admitted(within, seen)[rows] & (rows >= 0)
        chosen = [data.popular[place] for place in np.flatnonzero(passing)[:size].tolist()]
    else:
        left_out = set(seen)
        first = data.popular[: size + len(left_out)]
        chosen = [(itemid, share) for itemid, share in first if itemid not in left_out]
    return tuple(ScoredItem(itemid, share, share, None, (POPULAR,)) for itemid, share in chosen[:size])
