"""The lists of the recommender and of what it is compared with, from the artefacts alone."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from tqdm import tqdm

from benchmarks.quality.artefact_backends import ArtefactBackends, ArtefactRecallStore
from benchmarks.quality.item_catalogue import ItemCatalogue
from benchmarks.quality.list_metrics import Lists
from data_exchange_center.assembler import assemble
from data_exchange_center.limits import RECALL_SIZE
from data_exchange_center.scoring import final_scores
from online.breakers import Breakers
from online.callers.types import ScoredItem, UserRecall
from online.recommendation import Recommendation
from online.recommender import Recommender
from online.roles import ServingBackends
from online.serving_data import ServingData
from online.snapshot import ItemFeatures, Snapshot

LISTED = 50
MOST_PAIRS = 40_000_000  # that the ranking over everything scores; where there are more, it is measured on fewer users

SERVED = "recommender"
POPULARITY = "popularity"
BY_TERM = "term recall alone"
BY_VECTOR = "vector recall alone"
NOT_RANKED = "both recalls, not ranked"
EVERYTHING_BY_LOGIT = "ranking over everything, by DeepFM alone"
EVERYTHING_BY_SCORE = "ranking over everything, by the final score"
NOT_REFITTED = "recommender, not refitted to all offline rows"


def recommend(users: Sequence[int], backends: ServingBackends, description: str) -> dict[int, Recommendation]:
    """Each user's RECALL_SIZE items by the server's own recommender; the description stands at the progress bar."""
    data, recommender = ServingData.load(), Recommender(backends, Breakers())
    snapshot = Snapshot(data, ItemFeatures.read(backends.feature_store, data.items))
    return {user: recommender.recommend(snapshot, user, RECALL_SIZE) for user in _bar(users, description)}


def popular(users: Sequence[int], item_catalogue: ItemCatalogue, known: ArtefactRecallStore) -> Lists:
    """The most popular items that each user has not seen."""
    lists = {}
    for user in users:
        seen = known.users[user].seen if user in known.users else ()
        first = item_catalogue.by_popularity[: LISTED + len(seen)]
        lists[user] = first[~np.isin(first, seen)][:LISTED].tolist()
    return lists


def recalled_alone(users: Sequence[int], backends: ArtefactBackends) -> tuple[Lists, Lists]:
    """Term recall alone and vector recall alone, each in its own order."""
    known, index = backends.recall_store, backends.recall_index
    by_term, by_vector = dict[int, list[int]](), dict[int, list[int]]()
    for user in _bar(users, "recalls alone"):
        if recall := known.users.get(user):
            for lists, alone in (
                (by_term, UserRecall(recall.terms, (), recall.seen)),
                (by_vector, UserRecall((), recall.vector, recall.seen)),
            ):
                lists[user] = index.recall(alone, len(index.ids)).itemids[:LISTED].tolist()
    return by_term, by_vector


def ranked_everything(users: Sequence[int], backends: ArtefactBackends) -> tuple[Lists, Lists]:
    """Without recall: every unseen item by DeepFM's logit alone, and by the final score.

    Only the first MOST_PAIRS / items of the users get lists.
    """
    known, index = backends.recall_store, backends.recall_index
    items, _ = backends.feature_store.features("item", index.ids.tolist())
    by_logit, by_score = dict[int, list[int]](), dict[int, list[int]]()
    for user in _bar(users[: MOST_PAIRS // len(index.ids)], "ranking over everything"):
        recall = known.users.get(user)
        if recall is None:
            continue
        unseen = index.unseen(recall)
        features, _ = backends.feature_store.features("user", [user])
        logits, served = backends.ranking_model.score(*assemble(features[0], items[unseen]))
        scores = final_scores(logits.astype(np.float64), index.recall_scores(recall)[unseen], served.blend_weight)
        for lists, order in ((by_logit, logits), (by_score, scores)):
            lists[user] = index.ids[unseen][np.argsort(-order, kind="stable")[:LISTED]].tolist()
    return by_logit, by_score


def compared_lists(
    users: Sequence[int],
    item_catalogue: ItemCatalogue,
    backends: ArtefactBackends,
    served: Mapping[int, Sequence[ScoredItem]],
    own: Mapping[int, Recommendation],
) -> dict[str, Lists]:
    """The recommender's lists and those of all that it is compared with, by name.

    Args:
        users: those who get lists.
        item_catalogue: the items and their popularity.
        backends: the artefacts.
        served: the lists that are evaluated, of the server or of the artefacts.
        own: the recommendations on the artefacts, whose candidates are "both recalls, not ranked".
    """
    by_term, by_vector = recalled_alone(users, backends)
    by_logit, by_score = ranked_everything(users, backends)
    not_refitted = recommend(users, ArtefactBackends.load(refitted=False), "the same, not refitted")
    return {
        SERVED: _itemids(served),
        POPULARITY: popular(users, item_catalogue, backends.recall_store),
        BY_TERM: by_term,
        BY_VECTOR: by_vector,
        NOT_RANKED: {user: recommendation.candidates.itemids.tolist() for user, recommendation in own.items()},
        EVERYTHING_BY_LOGIT: by_logit,
        EVERYTHING_BY_SCORE: by_score,
        NOT_REFITTED: _itemids({user: recommendation.items for user, recommendation in not_refitted.items()}),
    }


def _itemids(lists: Mapping[int, Sequence[ScoredItem]]) -> Lists:
    return {user: [item.itemid for item in items] for user, items in lists.items()}


def _bar(users: Sequence[int], description: str) -> Iterable[int]:
    bar: Iterable[int] = tqdm(users, desc=description, unit="user", leave=False, disable=None)
    return bar
