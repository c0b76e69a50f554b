"""The online rows, the positives that the lists are evaluated against, and the served scores of every row."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.quality.artefact_backends import ArtefactBackends
from benchmarks.quality.item_catalogue import ItemCatalogue
from data_exchange_center import catalogue
from data_exchange_center.arrays import Float64Array, Int64Array, UInt8Array
from data_exchange_center.assembler import ranking_inputs
from data_exchange_center.columns import Column
from data_exchange_center.limits import RANKER_IMPRESSIONS
from offline.metrics import Bootstrap, auc, calibration, interval
from online.callers.types import Impression
from online.roles import FeatureStore, RankingModel
from online.serving_data import ServingData
from online.user_events import sequence_after


@dataclass(frozen=True)
class OnlineRows:
    """All n online rows, sorted by userid."""

    userid: Int64Array
    itemid: Int64Array
    labels: UInt8Array

    @classmethod
    def load(cls) -> "OnlineRows":
        """From the artefacts."""
        names = [Column.USERID, Column.ITEMID, Column.LABEL]
        table = catalogue.ONLINE_IMPRESSIONS.load(names)
        return cls(*(table[name].to_numpy() for name in names))

    def relevant(self) -> dict[int, list[int]]:
        """The positives of each user that has one."""
        liked = self.labels == 1
        users, counts = np.unique(self.userid[liked], return_counts=True)
        items = np.split(self.itemid[liked], np.cumsum(counts)[:-1])
        return {user: of_user.tolist() for user, of_user in zip(users.tolist(), items, strict=True)}


def row_scores(
    rows: OnlineRows, feature_store: FeatureStore, ranking_model: RankingModel, artefacts: ArtefactBackends
) -> tuple[Float64Array, Float64Array]:
    """The served logit and rank score of every online row, recalled or not, with the users' features as they are now.

    Args:
        rows: n of them, a list of candidates for each user.
        feature_store, ranking_model: the servers, or what stands for them.
        artefacts: gives the recall score of what a search would not return, and the last impressions.

    Returns:
        [n] logits, [n] rank scores.
    """
    users, starts, counts = np.unique(rows.userid, return_index=True, return_counts=True)
    items, item_of = np.unique(rows.itemid, return_inverse=True)
    known, index, data = artefacts.recall_store.users, artefacts.recall_index, ServingData.load()
    user_features, _ = feature_store.all_features(data.features, "user", users.tolist())
    item_features, _ = feature_store.all_features(data.features, "item", items.tolist())
    logits, scores = np.empty(len(rows.userid)), np.empty(len(rows.userid))
    for row, (user, start, count) in enumerate(zip(users.tolist(), starts, counts, strict=True)):
        block, recalled = slice(start, start + count), np.zeros((1, count))
        recent: tuple[Impression, ...] = ()
        if user in known:
            places = np.searchsorted(index.ids, rows.itemid[block])
            recalled, recent = index.recall_scores(known[user])[places][None], known[user].recent
        inputs = ranking_inputs(
            data.features,
            user_features[row : row + 1],
            item_features[item_of[block]][None],
            (recalled, np.zeros(recalled.shape, bool), np.ones(recalled.shape, bool)),
            sequence_after(recent, data, RANKER_IMPRESSIONS),
        )
        found, _ = ranking_model.score(inputs)
        logits[block], scores[block] = found.logits[0], found.rank_scores[0]
    return logits, scores


def score_metrics(
    rows: OnlineRows, logit: Float64Array, rank_score: Float64Array, items: ItemCatalogue, seed: int
) -> dict[str, Any]:
    """AUC over all online rows with intervals, and the calibration of the logit."""
    bootstrap = Bootstrap(rows.userid, seed)
    place = dict(zip(items.by_popularity.tolist(), range(len(items.by_popularity), 0, -1), strict=True))
    popularity = np.array([place.get(item, 0) for item in rows.itemid.tolist()], np.float64)
    return {
        "auc": {
            name: {"value": auc(rows.labels, scores), "interval": interval(bootstrap.aucs(rows.labels, scores))}
            for name, scores in (("like head's logit", logit), ("rank score", rank_score), ("popularity", popularity))
        },
        "calibration": asdict(calibration(rows.labels, logit)),
    }
