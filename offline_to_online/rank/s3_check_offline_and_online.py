"""The consistency check: for every user and item, what is served is what was trained.

    python -m offline_to_online.rank.s3_check_offline_and_online

In this order; at the first kind that differs it prints a table of the differences and ends with status 1:

1. the features' order and hash of the two served models = the declaration;
2. every weight in the served models' files = the trained one: of the ranking model, what the served version was
   exported from; and the ranking model of the artefacts is among the versions that are loaded;
3. every feature of every user and item in Feast = the offline artefacts, exactly; for a user with live events, = the
   window counted from scratch over the artefacts' rows and the events;
4. every user's last impressions in Redis = those of the artefacts and the events, exactly;
5. every user's vector in Redis, and the served tower's of what Redis holds, = PyTorch's of the artefacts, to 1e-5;
   every item's vector in Elasticsearch = the artefacts';
6. for every user, with items drawn from the latest impressions, and for every item: both outputs of the served ranking
   model on what the stores hold = PyTorch's on what the artefacts hold, to 1e-5.

Of more than LOAD_CHECK_UP_TO users or items it is a sample of so many, and each line says so. With --beside-requests it
asks the services for little at a time and takes a low priority, so that users' requests wait for none of it.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from tabulate import tabulate

from data_exchange_center import catalogue
from data_exchange_center.artefact import Artefacts
from data_exchange_center.columns import Column
from data_exchange_center.features import JOIN_KEYS, Entity
from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage
from data_exchange_center.tables import rows_by_key, to_matrix
from data_exchange_center.triton_models import RANKER
from data_exchange_center.user_state import liked_genres
from offline.recall.sequence_tower import SequenceTower
from offline.recall.sequence_training import user_vectors
from offline_to_online.exported_model import TrainedModel, trained_ranker, trained_tower, weight_difference
from offline_to_online.loader import LOADER_TIMEOUT, how_many_checked, rows_to_check
from offline_to_online.rank import expected_features
from offline_to_online.rank.checked_users import read_users
from offline_to_online.rank.consistency import (
    AT_ONCE,
    BESIDE_REQUESTS,
    Difference,
    Pace,
    State,
    column_differences,
    feature_differences,
    lists_to_score,
    paced_features,
    score_differences,
    vector_differences,
)
from offline_to_online.ranking_versions import RankingVersion, kept_ranker, served_version, stored_versions
from offline_to_online.recall.item_index import stored_vectors
from online.callers.es_caller import elasticsearch_client
from online.callers.feast_caller import FeastCaller
from online.callers.promoted_versions import PromotedVersions
from online.callers.redis_caller import RedisCaller
from online.callers.redis_stores import redis_caller
from online.callers.triton_caller import TritonCaller
from online.serving_data import ServingData

READS = (
    *expected_features.READS,
    catalogue.USERS,
    catalogue.USER_TERM,
    catalogue.ITEMS,
    catalogue.POPULAR_ITEMS,
    catalogue.SEQUENCE_ITEM_VECTORS,
    catalogue.TOWER_META,
    catalogue.TOWER_MODEL,
    catalogue.RANKER_META,
    catalogue.RANKER_MODEL,
)
WRITES: Artefacts = ()

NICENESS = 10  # of a check beside requests
SHOWN = 10  # differences of a kind in the printed table

Kinds = Iterator[tuple[str, list[Difference]]]


@dataclass(frozen=True)
class Stores:
    """The services' callers, with a loader's patience."""

    redis: RedisCaller
    feast: FeastCaller
    triton: TritonCaller

    @classmethod
    def connect(cls, settings: Settings) -> "Stores":
        """Callers of the services in the settings."""
        callers = (caller(settings, LOADER_TIMEOUT) for caller in (redis_caller, FeastCaller, TritonCaller))
        return cls(*callers)  # type: ignore[arg-type]


@dataclass(frozen=True)
class ServedRanker:
    """The version of the ranking model that is served.

    Attributes:
        version: its number; empty where the repository knows none.
        told: what was noted when it was loaded.
        model: what it was exported from.
    """

    version: str
    told: RankingVersion | None
    model: TrainedModel

    @classmethod
    def present(cls, settings: Settings) -> "ServedRanker":
        """The one that requests are scored by now."""
        number = served_version(PromotedVersions(settings, LOADER_TIMEOUT).promoted(), settings)
        if number is None:
            return cls("", None, trained_ranker())
        return cls(str(number), stored_versions(settings).get(number), kept_ranker(settings, number))


def model_kinds(tower: TrainedModel, ranker: ServedRanker, stores: Stores, settings: Settings) -> Kinds:
    """What the served models declare, and their weights."""
    dataset, meta = catalogue.DATASET.load(), catalogue.RANKER_META.load()
    features = dataset.features
    declared = dataset.feature_hash
    differences = column_differences(meta.columns, features.columns, meta.feature_hash, declared, "trained model")
    served = stores.triton.served(tower.declared), stores.triton.served(RANKER, ranker.version)
    for model, found in zip((tower, ranker.model), served, strict=True):
        where = f"served {model.declared.name}"
        differences = differences or column_differences(
            found.columns, features.columns, found.feature_hash, declared, where
        )
    yield "the order of the features", differences
    weights = [
        weight_difference(tower, served[0].state_digest, "", settings),
        weight_difference(ranker.model, ranker.told.state_digest if ranker.told else "", ranker.version, settings),
        unloaded_ranker(settings),
    ]
    yield "the weights of both models", [{"difference": weight} for weight in weights if weight]


def unloaded_ranker(settings: Settings) -> str | None:
    """Says so where the artefacts' ranking model is no version: then nobody chose the one that is served."""
    trained, loaded = trained_ranker().digest, [told.state_digest for told in stored_versions(settings).values()]
    if trained in loaded:
        return None
    return f"{RANKER.name}: the weights {trained} were trained, and no loaded version has them: `make load`"


def differences_by_kind(settings: Settings, pace: Pace = AT_ONCE) -> Kinds:
    """The differences of one kind after the other, so that the first kind that differs is the one reported."""
    stores, tower, data = Stores.connect(settings), trained_tower(), ServingData.load()
    ranker = ServedRanker.present(settings)
    yield from model_kinds(tower, ranker, stores, settings)

    events, features = stores.redis.events(), data.features
    how_many, ids, offline, online = [], [], [], []
    is_sample = False
    entities: tuple[Entity, ...] = ("user", "item")
    for entity in entities:
        table = expected_features.expected_features(entity, events)
        is_sample = is_sample or len(table) > settings.load_check_up_to
        how_many.append(_how_many(len(table), f"{entity}s", settings))
        table = table.take(pa.array(rows_to_check(len(table), settings)))
        ids.append(table[JOIN_KEYS[entity]].to_numpy())
        names = features.entity_columns(entity)
        offline.append(to_matrix(table, names))
        values, known = paced_features(stores.feast, features, entity, ids[-1].tolist(), pace)
        online.append(values)
        yield (
            f"the features of {how_many[-1]}",
            feature_differences(entity, names, ids[-1], offline[-1], values, known),
        )

    items = catalogue.ITEMS.load([Column.ITEMID, Column.ITEM_INDEX])
    index = rows_by_key(items, Column.ITEMID, ids[1])[Column.ITEM_INDEX].to_numpy()
    item_vectors = catalogue.SEQUENCE_ITEM_VECTORS.load()[index]
    users = read_users(stores.redis, ids[0], events, data, item_vectors.shape[1])
    yield f"the last impressions of {how_many[0]}", users.differences

    sequences = users.found
    assert isinstance(tower.module, SequenceTower)
    vectors = user_vectors(tower.module, *map(torch.from_numpy, users.expected))
    # Users without impressions have no vector.
    with_rows = sequences[0].any(axis=1, keepdims=True)
    in_redis = np.where(with_rows, users.vectors, 0)
    vectors = np.where(with_rows, vectors, 0)
    yield f"the vectors of {how_many[0]}", vector_differences("user", ids[0], vectors, in_redis, "redis")
    of_tower = np.where(with_rows, stores.triton.user_vectors(*sequences)[0], 0)
    yield "the tower's vectors of them", vector_differences("user", ids[0], vectors, of_tower, "triton")
    stored = stored_vectors(elasticsearch_client(settings, LOADER_TIMEOUT), ids[1], item_vectors.shape[1])
    differing = vector_differences("item", ids[1], item_vectors, stored, "elasticsearch")
    yield f"the vectors of {how_many[1]}", differing

    # The vectors have just been found equal. Those of the stores are on both sides: near ties in the recall scores must
    # not change places between them.
    history = offline[0][:, features.history_places]
    sides = (
        State(features, offline[0], offline[1], in_redis, stored, liked_genres(history), sequences),
        State(features, online[0], online[1], in_redis, stored, users.terms, sequences),
    )
    are_checked = np.isin(users.listed[1], ids[1])
    lists = lists_to_score(*(part[are_checked] for part in users.listed), *ids)
    yield (
        f"both scores of {lists[1].size:,} pairs of {'these' if is_sample else 'all'} users and items",
        score_differences(ranker.model, ranker.version, stores.triton, sides, (ids[0], ids[1]), lists, pace),
    )


def _how_many(count: int, what: str, settings: Settings) -> str:
    is_sample = count > settings.load_check_up_to
    return how_many_checked(count, what, settings) if is_sample else f"{count:,} {what}"


def main() -> None:
    """Prints each kind that is equal; at the first that is not, prints its table and ends with status 1."""
    parser = argparse.ArgumentParser(
        prog="python -m offline_to_online.rank.s3_check_offline_and_online",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--beside-requests", action="store_true", help="slowly, while the web server is busy")
    pace = BESIDE_REQUESTS if parser.parse_args().beside_requests else AT_ONCE
    if pace is BESIDE_REQUESTS:
        os.nice(NICENESS)
        torch.set_num_threads(1)
    name = catalogue.DATASET.load().dataset
    for what, differences in differences_by_kind(Settings(), pace):
        if differences:
            print(tabulate(differences[:SHOWN], headers="keys"))
            print(
                f"error: data set {name}: {what} differ between offline and online in {len(differences):,} places.",
                file=sys.stderr,
            )
            sys.exit(1)
        print(f"data set {name}: {what} are equal offline and online")


if __name__ == "__main__":
    run_stage(main)
