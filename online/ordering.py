"""Puts items in order: candidates by their scores, or the most popular ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_exchange_center.arrays import Float64Array, FloatArray, Int64Array
from online.callers.types import EVERYTHING, Candidates, ItemFilter, ScoredItem
from online.diversity import directions, diversified
from online.recommendation import Ranking
from online.rules import NO_RULES, Rules
from online.serving_data import ServingData

POPULAR = "popular"
# Which recall found a candidate, at by_term + 2 * by_vector. What neither found is the most popular within a filter.
RECALLED_BY = ((POPULAR,), ("term",), ("vector",), ("term", "vector"))


@dataclass(frozen=True, eq=False)
class Preference:
    """What decides the order beside the scores.

    Attributes:
        data: has the items' genres and vectors.
        rules: whose boosts and buries move scores.
        diversity: 0 to 1; see diversity.py.
    """

    data: ServingData
    rules: Rules = NO_RULES
    diversity: float = 0.0

    def order(self, ids: Int64Array, scores: FloatArray, size: int) -> tuple[Int64Array, FloatArray]:
        """[at most size] places of the items, best first, ties by item id; and [n] the scores as the rules moved them.

        Args:
            ids, scores: [n].
            size: of the list.
        """
        if self.rules.shifts:
            scores = scores + self._offsets(ids)
        order = np.lexsort((ids, -scores))
        if self.diversity and len(order):
            vectors = directions(self.data.vectors_of(ids[order]))
            return order[diversified(scores[order], vectors, self.diversity, size)], scores
        return order[:size], scores

    def _offsets(self, ids: Int64Array) -> Float64Array:
        """[n] what the rules add to the items' scores."""
        table, offsets = self.data.table, np.zeros(len(ids))
        rows = table.rows(ids)
        for rule in self.rules.shifts:
            if rule.genre is None:
                offsets[ids == rule.itemid] += rule.offset
            elif rule.genre in table.genres:
                offsets[table.flags[rows, table.genres.index(rule.genre)] & (rows >= 0)] += rule.offset
        return offsets


def top_items(
    candidates: Candidates, ranking: Ranking | None, size: int, preference: Preference
) -> tuple[ScoredItem, ...]:
    """The candidates by their rank score, without a ranking by their recall score, and by what is preferred."""
    ids, recall = candidates.itemids, candidates.scores
    top, scores = preference.order(ids, ranking.rank_scores if ranking else recall, size)
    logits = ranking.logits[top].tolist() if ranking else [None] * len(top)
    found_by = [RECALLED_BY[which] for which in (candidates.by_term + 2 * candidates.by_vector)[top].tolist()]
    columns = (ids[top].tolist(), scores[top].tolist(), recall[top].tolist(), logits, found_by)
    return tuple(ScoredItem(*line) for line in zip(*columns, strict=True))


def popular_items(
    data: ServingData, size: int, seen: Sequence[int], within: ItemFilter = EVERYTHING, rules: Rules = NO_RULES
) -> tuple[ScoredItem, ...]:
    """The most popular items of the training window that the user has not seen and that pass the filter.

    Their score is the share of the most popular item's positives. They are no more diverse than they are.
    """
    if within.narrows:
        rows = data.popular_rows
        passing = data.table.admitted(within, seen)[rows] & (rows >= 0)
        chosen = [data.popular[place] for place in np.flatnonzero(passing)[:size].tolist()]
    else:
        left_out = set(seen)
        first = data.popular[: size + len(left_out)]
        chosen = [(itemid, share) for itemid, share in first if itemid not in left_out][:size]
    if rules.shifts and chosen:
        ids, shares = (np.array(column) for column in zip(*chosen, strict=True))
        top, scores = Preference(data, rules).order(ids, shares, size)
        moved = zip(ids[top].tolist(), scores[top].tolist(), shares[top].tolist(), strict=True)
        return tuple(ScoredItem(itemid, score, share, None, (POPULAR,)) for itemid, score, share in moved)
    return tuple(ScoredItem(itemid, share, share, None, (POPULAR,)) for itemid, share in chosen)
