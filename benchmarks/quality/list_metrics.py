"""How good recommended lists are, user by user: LensKit's metrics of ranked lists, and diversity and novelty."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from lenskit.data import ItemList
from lenskit.metrics import NDCG, Hit, ListMetric, LogRankWeight, Recall, RecipRank

from benchmarks.quality.item_catalogue import ItemCatalogue
from data_exchange_center.arrays import Float64Array
from data_exchange_center.limits import RECALL_SIZE

KS = (10, 50)
# The ranker's epochs are chosen by NDCG with 1 / log2(rank + 1), too. LensKit's default does not discount the first
# two ranks.
DISCOUNT = LogRankWeight(offset=1)
METRICS: dict[str, Callable[[int], ListMetric]] = {
    "recall": Recall,
    "ndcg": lambda k: NDCG(k, weight=DISCOUNT),
    "hit_rate": Hit,
    "mrr": RecipRank,
}

Lists = Mapping[int, Sequence[int]]  # items of each user, best first
PerUser = dict[str, Float64Array]  # [users] by metric


def accuracy(lists: Lists, relevant: Lists, users: Sequence[int]) -> PerUser:
    """[users] recall, NDCG, hit rate and reciprocal rank at each of KS, by LensKit, and recall of all candidates.

    Args:
        lists: the recommended items; a user without a list has found nothing.
        relevant: the positives of each of `users`, at least one.
        users: those whose metrics are computed, in this order.
    """
    metrics = {f"{name}@{k}": metric(k) for name, metric in METRICS.items() for k in KS}
    values = {name: np.zeros(len(users)) for name in metrics}
    for row, user in enumerate(users):
        recommended = ItemList(item_ids=np.array(lists.get(user, ())[: max(KS)], np.int64), ordered=True)
        truth = ItemList(item_ids=np.array(relevant[user], np.int64))
        for name, metric in metrics.items():
            values[name][row] = metric.measure_list(recommended, truth)
    found = [len(set(lists.get(user, ())[:RECALL_SIZE]).intersection(relevant[user])) for user in users]
    values[f"recall@{RECALL_SIZE}"] = np.array(found) / [len(relevant[user]) for user in users]
    return values


def beyond_accuracy(lists: Lists, items: ItemCatalogue, users: Sequence[int]) -> PerUser:
    """[users] diversity and novelty of the lists' first items, at each of KS.

    Intra-list diversity is 1 - the mean cosine of the genres of two items of the list (Ziegler et al., WWW 2005).
    Novelty is the mean self-information, log2 of users over raters of the item (Zhou et al., PNAS 2010). Both are NaN
    for lists without two items.
    """
    norms = np.linalg.norm(items.flags, axis=1, keepdims=True)
    directions = items.flags / np.maximum(norms, 1e-12)
    surprise = np.log2((items.users + 1) / (items.raters + 1))
    values: PerUser = {}
    for k in KS:
        diversity, novelty = np.full(len(users), np.nan), np.full(len(users), np.nan)
        for row, user in enumerate(users):
            at = np.searchsorted(items.ids, np.array(lists.get(user, ())[:k], np.int64))
            if len(at) > 1:
                total, own = directions[at].sum(axis=0), (norms[at] > 0).sum()
                diversity[row] = 1 - (total @ total - own) / (len(at) * (len(at) - 1))
                novelty[row] = surprise[at].mean()
        values[f"diversity@{k}"], values[f"novelty@{k}"] = diversity, novelty
    return values


def coverage(lists: Lists, items: int) -> dict[str, float]:
    """The share of the catalogue's `items` items that stands among the first k of at least one list."""
    return {
        f"coverage@{k}": len({item for chosen in lists.values() for item in chosen[:k]}) / max(items, 1) for k in KS
    }


def metrics_by_user(lists: Lists, relevant: Lists, items: ItemCatalogue, users: Sequence[int]) -> PerUser:
    """[users] each metric of one system; NaN for users without a list, since a system may leave out some users."""
    values = {**accuracy(lists, relevant, users), **beyond_accuracy(lists, items, users)}
    without = np.array([user not in lists for user in users])
    return {metric: np.where(without, np.nan, of_users) for metric, of_users in values.items()}
