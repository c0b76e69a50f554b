"""What the ranker is held against: LambdaMART on the same candidates and features, and the generator's own truth."""

from collections.abc import Mapping, Sequence

import lightgbm
import numpy as np
import torch

from benchmarks.quality.artefact_backends import ArtefactBackends, ArtefactRecallStore
from benchmarks.quality.list_metrics import Lists
from data_exchange_center import catalogue
from data_exchange_center.arrays import Float32Array
from data_exchange_center.assembler import unknown_user
from data_exchange_center.columns import Column, Split
from data_exchange_center.limits import RECALL_SIZE
from data_exchange_center.settings import Settings
from offline.preprocess.synthetic.oracle import ORACLE_FILE, load_truth, oracle_scores
from offline.rank.candidate_lists import Impressions, make_lists
from offline.rank.ranker_training import TrainingLists
from offline.rank.s3_candidate_ranker import MEASURED
from offline.recall.interactions import Parts
from offline.recall.sequences import Sequences
from online.recommendation import Recommendation
from online.recommender import inputs_of

# Chosen on the lists of valid by cross-validation over users.
LAMBDAMART = {
    "objective": "lambdarank",
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 200,
    "feature_fraction": 0.6,
    "lambdarank_truncation_level": 50,
    "num_threads": 2,
    "seed": 1,
    "verbose": -1,
}
TREES = 150


def fit_lambdamart(lists: TrainingLists) -> lightgbm.Booster:
    """LightGBM's LambdaMART on the lists that the ranker's served net was fitted to last.

    Source: Burges, "From RankNet to LambdaRank to LambdaMART", 2010.
    """
    lists = lists.with_positives()
    present = (lists.candidates > 0).numpy()
    data = lightgbm.Dataset(
        lists.features.numpy()[present], lists.labels.numpy()[present].astype(int), group=present.sum(axis=1)
    )
    return lightgbm.train(LAMBDAMART, data, TREES)


@torch.no_grad()
def _features(backends: ArtefactBackends, own: Recommendation) -> Float32Array:
    """[m, features] what the served ranker knows of a recommendation's candidates."""
    user = unknown_user(own.snapshot.data.features) if own.user_features is None else own.user_features
    inputs = inputs_of(own.user.recent if own.user else (), user, own.candidates, own.snapshot)
    features: Float32Array = backends.ranking_model.ranker.features(*map(torch.from_numpy, inputs))[0].numpy()
    return features


def lambdamart_lists(parts: Parts, backends: ArtefactBackends, own: Mapping[int, Recommendation]) -> Lists:
    """The candidates of the recommender, ordered by LambdaMART on all features but the attention's."""
    frame = catalogue.TRAINING_FRAME.load()
    features, others = catalogue.DATASET.load().features, (catalogue.ITEM_FEATURES.load(), catalogue.ACTED_LISTS.load())
    impressions = Impressions.load(features, Sequences.of(parts.offline), frame, *others)
    block = frame[Column.SPLIT].to_numpy() == Split.TEST
    lists = make_lists(impressions, MEASURED.funnel(parts.training), block)
    if not lists.labels.any():
        return {}
    booster = fit_lambdamart(lists)
    ordered = {}
    for user, recommendation in own.items():
        if len(recommendation.candidates):
            scores = np.asarray(booster.predict(_features(backends, recommendation)))
            order = np.argsort(-scores, kind="stable")
            ordered[user] = recommendation.candidates.itemids[order].tolist()
    return ordered


def oracle_lists(users: Sequence[int], store: ArtefactRecallStore, name: str) -> dict[str, Lists]:
    """By `name`, what the true tastes and transitions of the generator expect of each user; empty for real data."""
    settings = Settings()
    file = settings.raw_data / ORACLE_FILE
    if not file.exists():
        return {}
    truth, lists = load_truth(file), {}
    known = np.intersect1d(np.array(users), truth.userid)
    for userids, scores in oracle_scores(truth, known):
        for user, own in zip(userids.tolist(), scores, strict=True):
            seen = store.users[user].seen if user in store.users else ()
            own[np.searchsorted(truth.itemid, seen)] = -1
            order = np.argsort(-own, kind="stable")[:RECALL_SIZE]
            lists[user] = truth.itemid[order[own[order] >= 0]].tolist()
    return {name: lists}
