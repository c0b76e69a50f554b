"""The lists of the recommender and of what it is compared with, from the artefacts alone."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.quality.artefact_backends import ArtefactBackends, ArtefactRecallIndex, ArtefactRecallStore
from benchmarks.quality.item_catalogue import ItemCatalogue
from benchmarks.quality.list_metrics import Lists
from benchmarks.quality.yardsticks import lambdamart_lists, oracle_lists
from data_exchange_center import catalogue
from data_exchange_center.assembler import assemble
from data_exchange_center.limits import RECALL_SIZE
from offline.recall.interactions import read_parts
from online.breakers import Breakers
from online.callers.types import ScoredItem
from online.recommendation import Recommendation
from online.recommender import Recommender
from online.roles import ServingBackends
from online.serving_data import ServingData
from online.snapshot import ItemFeatures, Snapshot

MOST_PAIRS = 40_000_000  # that the ranking over everything scores; where there are more, it is measured on fewer users

SERVED = "recommender"
POPULARITY = "popularity"
BY_TERM = "term recall alone"
BY_FM = "FM recall alone"
BY_SEQUENCE = "sequence recall alone"
NOT_RANKED = "both recalls, not ranked"
EVERYTHING_BY_LOGIT = "ranking over everything, by DeepFM alone"
NOT_REFITTED = "recommender, not refitted to all offline rows"
LAMBDAMART = "the same candidates, by LambdaMART"
ORACLE = "oracle"


def recommend(users: Sequence[int], backends: ServingBackends, description: str) -> dict[int, Recommendation]:
    """Each user's RECALL_SIZE items by the server's own recommender; the description stands at the progress bar."""
    data, recommender = ServingData.load(), Recommender(backends, Breakers())
    snapshot = Snapshot(data, ItemFeatures.read(backends.feature_store, data.features, data.items))
    return {user: recommender.recommend(snapshot, user, RECALL_SIZE) for user in _bar(users, description)}


def popular(users: Sequence[int], item_catalogue: ItemCatalogue, known: ArtefactRecallStore) -> Lists:
    """The most popular items that each user has not seen."""
    lists = {}
    for user in users:
        seen = known.users[user].seen if user in known.users else ()
        first = item_catalogue.by_popularity[: RECALL_SIZE + len(seen)]
        lists[user] = first[~np.isin(first, seen)][:RECALL_SIZE].tolist()
    return lists


def recalled_alone(users: Sequence[int], store: ArtefactRecallStore, index: ArtefactRecallIndex, by: str) -> Lists:
    """The RECALL_SIZE items that the terms, or the vector, alone find, in their own order."""
    lists = {}
    for user in _bar(users, f"recall by {by}"):
        if recall := store.users.get(user):
            alone = replace(recall, vector=()) if by == "term" else replace(recall, terms=())
            lists[user] = index.recall(alone, len(index.ids)).itemids.tolist()
    return lists


def recalled_by_fm(users: Sequence[int]) -> Lists:
    """The same by the vectors of the retrieval FM."""
    store = ArtefactRecallStore(catalogue.USER_VECTORS.load())
    return recalled_alone(users, store, ArtefactRecallIndex(catalogue.ITEM_VECTORS.load()), "FM")


@torch.no_grad()
def ranked_everything(users: Sequence[int], backends: ArtefactBackends) -> Lists:
    """Without recall: every unseen item by DeepFM's logit.

    Only the first MOST_PAIRS / items of the users get lists.
    """
    known, index, deepfm = backends.recall_store, backends.recall_index, backends.ranking_model.ranker.deepfm
    declared = deepfm.features
    items, _ = backends.feature_store.features(declared, "item", index.ids.tolist())
    lists = {}
    for user in _bar(users[: MOST_PAIRS // len(index.ids)], "ranking over everything"):
        recall = known.users.get(user)
        if recall is None:
            continue
        unseen = index.unseen(recall)
        features, _ = backends.feature_store.features(declared, "user", [user])
        logits = deepfm(*map(torch.from_numpy, assemble(declared, features[0], items[unseen]))).squeeze(1).numpy()
        lists[user] = index.ids[unseen][np.argsort(-logits, kind="stable")[:RECALL_SIZE]].tolist()
    return lists


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
    parts, store, index = read_parts(catalogue.DATASET.load()), backends.recall_store, backends.recall_index
    not_refitted = recommend(users, backends.not_refitted(parts), "the same, not refitted")
    return {
        SERVED: _itemids(served),
        POPULARITY: popular(users, item_catalogue, store),
        BY_TERM: recalled_alone(users, store, index, "term"),
        BY_FM: recalled_by_fm(users),
        BY_SEQUENCE: recalled_alone(users, store, index, "sequence"),
        NOT_RANKED: {user: recommendation.candidates.itemids.tolist() for user, recommendation in own.items()},
        EVERYTHING_BY_LOGIT: ranked_everything(users, backends),
        NOT_REFITTED: _itemids({user: recommendation.items for user, recommendation in not_refitted.items()}),
        LAMBDAMART: lambdamart_lists(parts, backends, own),
        **oracle_lists(users, store, ORACLE),
    }


def _itemids(lists: Mapping[int, Sequence[ScoredItem]]) -> Lists:
    return {user: [item.itemid for item in items] for user, items in lists.items()}


def _bar(users: Sequence[int], description: str) -> Iterable[int]:
    bar: Iterable[int] = tqdm(users, desc=description, unit="user", leave=False, disable=None)
    return bar
