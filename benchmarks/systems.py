"""The lists of the recommender and of what it is compared with, from the artefacts alone."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from tqdm import tqdm

from benchmarks.artefact_callers import ArtefactCallers, UsersOfArtefacts
from benchmarks.list_metrics import Items
from data_exchange_center import catalogue
from data_exchange_center.assembler import assemble
from data_exchange_center.columns import ITEMID, LABEL, USERID
from data_exchange_center.features import GENRE_FLAGS
from data_exchange_center.scoring import RECALL_SIZE, final_scores
from online.callers.types import UserRecall
from online.recommender import Callers, Recommendation, Recommender
from online.serving_data import ServingData

LISTED = 50
MOST_PAIRS = 40_000_000  # that the ranking over everything scores; where there are more, it is measured on fewer users

Lists = dict[int, list[int]]


@dataclass(frozen=True)
class Catalogue:
    """The catalogue's items, and popularity counted over all offline rows, as the served models are fitted."""

    items: Items
    by_popularity: npt.NDArray[np.int64]  # itemids, most positives first


def read_catalogue() -> Catalogue:
    """From the artefacts."""
    genres = catalogue.load_table(catalogue.ITEM_GENRES)
    rows = catalogue.load_table(catalogue.OFFLINE_IMPRESSIONS, [USERID, ITEMID, LABEL])
    ids, user, item = genres[ITEMID].to_numpy(), rows[USERID].to_numpy(), rows[ITEMID].to_numpy()
    at = np.searchsorted(ids, item)
    users, row = np.unique(user, return_inverse=True)
    raters = sp.csc_matrix((np.ones(len(at), bool), (row, at)), (len(users), len(ids))).getnnz(axis=0)
    positives = np.bincount(at[rows[LABEL].to_numpy() == 1], minlength=len(ids))
    flags = np.stack([genres[name].to_numpy() for name in GENRE_FLAGS], axis=1).astype(np.float64)
    return Catalogue(Items(ids, flags, raters, len(users)), ids[np.lexsort((ids, -positives))])


def recommend(users: Sequence[int], callers: Callers, name: str) -> dict[int, Recommendation]:
    """Each user's RECALL_SIZE items by the server's own recommender; `name` stands at the progress bar."""
    recommender = Recommender(callers, ServingData.load, 3600.0, threads=1)
    try:
        return {user: recommender.recommend(user, RECALL_SIZE) for user in _bar(users, name)}
    finally:
        recommender.close()


def popular(users: Sequence[int], of: Catalogue, known: UsersOfArtefacts) -> Lists:
    """The most popular items that each user has not seen."""
    lists = {}
    for user in users:
        seen = known.users[user].seen if user in known.users else ()
        first = of.by_popularity[: LISTED + len(seen)]
        lists[user] = first[~np.isin(first, seen)][:LISTED].tolist()
    return lists


def recalled_alone(users: Sequence[int], callers: ArtefactCallers) -> tuple[Lists, Lists]:
    """Term recall alone and vector recall alone, each in its own order."""
    known, index = callers.redis, callers.elasticsearch
    by_term, by_vector = Lists(), Lists()
    for user in _bar(users, "recalls alone"):
        if recall := known.users.get(user):
            for lists, alone in (
                (by_term, UserRecall(recall.terms, (), recall.seen)),
                (by_vector, UserRecall((), recall.vector, recall.seen)),
            ):
                lists[user] = index.recall(alone, len(index.ids)).itemids[:LISTED].tolist()
    return by_term, by_vector


def ranked_everything(users: Sequence[int], callers: ArtefactCallers) -> tuple[Lists, Lists]:
    """Without recall: every unseen item by DeepFM's logit alone, and by the final score.

    Of the first MOST_PAIRS / items users: the others have no list.
    """
    known, index, features, model = callers.redis, callers.elasticsearch, callers.feast, callers.triton
    items, _ = features.features("item", index.ids.tolist())
    by_logit, by_score = Lists(), Lists()
    for user in _bar(users[: MOST_PAIRS // len(index.ids)], "ranking over everything"):
        recall = known.users.get(user)
        if recall is None:
            continue
        unseen = index.unseen(recall)
        own, _ = features.features("user", [user])
        logits, served = model.score(*assemble(own[0], items[unseen]))
        scores = final_scores(logits.astype(np.float64), index.recall_scores(recall)[unseen], served.blend_weight)
        for lists, order in ((by_logit, logits), (by_score, scores)):
            lists[user] = index.ids[unseen][np.argsort(-order, kind="stable")[:LISTED]].tolist()
    return by_logit, by_score


def _bar(users: Sequence[int], what: str) -> Iterable[int]:
    bar: Iterable[int] = tqdm(users, desc=what, unit="user", leave=False, disable=None)
    return bar
