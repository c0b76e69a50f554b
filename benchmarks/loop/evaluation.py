"""How good the lists of a round are: of those who act, and of the panel, who stay as they are."""

from collections import defaultdict
from typing import Any

import numpy as np

from benchmarks.loop.people import LIST_LENGTH, Lists, People, Rated
from benchmarks.quality.comparison import difference, summary
from benchmarks.quality.list_metrics import accuracy
from data_exchange_center.arrays import Float32Array, Float64Array
from offline.metrics import Bootstrap

RECALL = f"recall@{LIST_LENGTH}"
EXPECTED = f"expected {RECALL}"
SERVED, FIRST, ORACLE, POPULAR = SYSTEMS = ("recommender", "never retrained", "oracle", "popularity alone")
ACTING, PANEL = GROUPS = ("those who act", "panel")

Evaluated = dict[str, dict[str, Float64Array]]  # [users] by system and metric


def recall(lists: Lists, alone: Rated, people: People) -> Float64Array:
    """[users] Recall of the lists against what users like by themselves; NaN for those who like nothing."""
    relevant: dict[int, list[int]] = defaultdict(list)
    liked = alone.liked
    for user, item in zip(people.userids[alone.user[liked]], people.truth.itemid[alone.item[liked]], strict=True):
        relevant[int(user)].append(int(item))
    users = sorted(relevant)
    values = np.full(len(people.userids), np.nan)
    values[np.searchsorted(people.userids, users)] = accuracy(lists, relevant, users)[RECALL]
    return values


def coverage(lists: Lists, items: int) -> float:
    """The share of the catalogue that stands in some list."""
    return len({item for own in lists.values() for item in own[:LIST_LENGTH]}) / items


def evaluated(lists: Lists, expected: Float32Array, alone: Rated, people: People) -> dict[str, Float64Array]:
    """[users] both metrics of lists."""
    return {EXPECTED: people.found(lists, expected), RECALL: recall(lists, alone, people)}


def by_group(metrics: Evaluated, before: Evaluated | None, people: People, number: int) -> dict[str, Any]:
    """Each group's means, and what the served lists gain on the round before and over the models never retrained.

    Args:
        metrics: of the round.
        before: of the round before, if there was one.
        people: who is in the panel.
        number: of the round, the seed of the intervals.
    """
    found: dict[str, Any] = {}
    for group, rows in zip(GROUPS, (~people.in_panel, people.in_panel), strict=True):
        bootstrap = Bootstrap(people.userids[rows], number)
        own = {name: {metric: values[rows] for metric, values in of.items()} for name, of in metrics.items()}
        known = {metric: values for metric, values in own[SERVED].items() if np.isfinite(values).any()}
        others = {"gain_over_never_retrained": own[FIRST]}
        if before is not None:
            others["gain"] = {metric: values[rows] for metric, values in before[SERVED].items()}
        found[group] = {"systems": {name: summary(values, bootstrap) for name, values in own.items()}} | {
            name: {metric: difference(values, other[metric], bootstrap) for metric, values in known.items()}
            for name, other in others.items()
        }
    return found
