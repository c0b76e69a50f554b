"""The online rows, the positives that the lists are evaluated against, and the served scores of every row."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.quality.artefact_backends import ArtefactBackends
from benchmarks.quality.item_catalogue import ItemCatalogue
from data_exchange_center import catalogue
from data_exchange_center.arrays import Float64Array, Int64Array, UInt8Array
from data_exchange_center.assembler import assemble
from data_exchange_center.columns import Column
from data_exchange_center.scoring import final_scores
from offline.metrics import Bootstrap, auc, calibration, interval
from online.roles import FeatureStore, RankingModel

SCORED_AT_A_TIME = 256


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
    """The served logit and final score of every online row, recalled or not, with the users' features as they are now.

    Args:
        rows: n of them.
        feature_store, ranking_model: the servers, or what stands for them.
        artefacts: gives the recall score of what a search would not return.

    Returns:
        [n] logits, [n] final scores.
    """
    users, user_of, counts = np.unique(rows.userid, return_inverse=True, return_counts=True)
    items, item_of = np.unique(rows.itemid, return_inverse=True)
    user_features, _ = feature_store.all_features("user", users.tolist())
    item_features, _ = feature_store.all_features("item", items.tolist())
    logits, weight = [], 0.0
    for start in range(0, len(rows.userid), SCORED_AT_A_TIME):
        block = slice(start, start + SCORED_AT_A_TIME)
        inputs = assemble(user_features[user_of[block]], item_features[item_of[block]])
        scored, model = ranking_model.score(*inputs)
        logits.append(scored)
        weight = model.blend_weight
    logit = np.concatenate(logits).astype(np.float64)

    known, index = artefacts.recall_store.users, artefacts.recall_index
    recall = np.zeros(len(rows.userid))
    ends = np.cumsum(counts)
    for user, start, end in zip(users.tolist(), ends - counts, ends, strict=True):
        if user in known:
            recall[start:end] = index.recall_scores(known[user])[np.searchsorted(index.ids, rows.itemid[start:end])]
    return logit, final_scores(logit, recall, weight).astype(np.float64)


def score_metrics(
    rows: OnlineRows, logit: Float64Array, final: Float64Array, items: ItemCatalogue, seed: int
) -> dict[str, Any]:
    """AUC over all online rows with intervals, and the calibration of the logit."""
    bootstrap = Bootstrap(rows.userid, seed)
    place = dict(zip(items.by_popularity.tolist(), range(len(items.by_popularity), 0, -1), strict=True))
    popularity = np.array([place.get(item, 0) for item in rows.itemid.tolist()], np.float64)
    return {
        "auc": {
            name: {"value": auc(rows.labels, scores), "interval": interval(bootstrap.aucs(rows.labels, scores))}
            for name, scores in (("DeepFM's logit", logit), ("final score", final), ("popularity", popularity))
        },
        "calibration": asdict(calibration(rows.labels, logit)),
    }
