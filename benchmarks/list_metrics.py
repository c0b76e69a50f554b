"""What recommended lists are worth, user by user: LensKit's metrics of ranked lists, and what they offer beyond."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from lenskit.data import ItemList
from lenskit.metrics import NDCG, Hit, ListMetric, LogRankWeight, Recall, RecipRank

KS = (10, 50)
# NDCG with 1 / log2(rank + 1), by which the blend is chosen, too; by default LensKit does not discount the first two.
DISCOUNT = LogRankWeight(offset=1)
METRICS: dict[str, Callable[[int], ListMetric]] = {
    "recall": Recall,
    "ndcg": lambda k: NDCG(k, weight=DISCOUNT),
    "hit_rate": Hit,
    "mrr": RecipRank,
}

Lists = Mapping[int, Sequence[int]]  # items of each user, best first
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Items:
    """What diversity and novelty need to know of the catalogue, by itemid."""

    ids: npt.NDArray[np.int64]  # [items] sorted
    flags: npt.NDArray[np.floating]  # [items, genres]
    raters: npt.NDArray[np.int64]  # [items] who has rated it in the offline rows
    users: int  # with offline rows


def accuracy(lists: Lists, wanted: Lists, users: Sequence[int]) -> dict[str, Floats]:
    """[users] recall, NDCG, hit rate and reciprocal rank at each of KS, by LensKit.

    Args:
        lists: recommended; a user without a list has found nothing.
        wanted: positives of each of `users`, at least one.
        users: whose figures are asked for.
    """
    metrics = {f"{name}@{k}": metric(k) for name, metric in METRICS.items() for k in KS}
    figures = {name: np.zeros(len(users)) for name in metrics}
    for row, user in enumerate(users):
        recommended = ItemList(item_ids=np.array(lists.get(user, ()), np.int64), ordered=True)
        truth = ItemList(item_ids=np.array(wanted[user], np.int64))
        for name, metric in metrics.items():
            figures[name][row] = metric.measure_list(recommended, truth)
    return figures


def beyond_accuracy(lists: Lists, items: Items, users: Sequence[int]) -> dict[str, Floats]:
    """[users] diversity and novelty of the lists' first items, at each of KS.

    Intra-list diversity: 1 - mean cosine of the genres of two items of the list (Ziegler et al., WWW 2005). Novelty:
    mean self-information, log2 of users over raters of the item (Zhou et al., PNAS 2010). NaN for lists without two
    items.
    """
    norms = np.linalg.norm(items.flags, axis=1, keepdims=True)
    directions = items.flags / np.maximum(norms, 1e-12)
    surprise = np.log2((items.users + 1) / (items.raters + 1))
    figures: dict[str, Floats] = {}
    for k in KS:
        diversity, novelty = np.full(len(users), np.nan), np.full(len(users), np.nan)
        for row, user in enumerate(users):
            at = np.searchsorted(items.ids, np.array(lists.get(user, ())[:k], np.int64))
            if len(at) > 1:
                total, own = directions[at].sum(axis=0), (norms[at] > 0).sum()
                diversity[row] = 1 - (total @ total - own) / (len(at) * (len(at) - 1))
                novelty[row] = surprise[at].mean()
        figures[f"diversity@{k}"], figures[f"novelty@{k}"] = diversity, novelty
    return figures


def coverage(lists: Lists, items: int) -> dict[str, float]:
    """Share of the catalogue that stands in at least one list's first k."""
    return {
        f"coverage@{k}": len({item for chosen in lists.values() for item in chosen[:k]}) / max(items, 1) for k in KS
    }
