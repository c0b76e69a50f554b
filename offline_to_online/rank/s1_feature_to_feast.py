"""Loads the entities' features into Feast, and reads every entity back over HTTP.

    python -m offline_to_online.rank.s1_feature_to_feast

Entities to parquet (Feast's offline store), `feast apply` of the repository in data_exchange_center/online/feast,
`feast materialize-incremental` into its online store (database 1 of the same Redis). Both through Feast's Python
interface, in one process: the two commands spend 20 seconds importing.
"""

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_exchange_center import catalogue
from data_exchange_center.columns import EVENT_TIMESTAMP
from data_exchange_center.features import JOIN_KEYS, Entity, entity_columns
from data_exchange_center.settings import FEAST_REPOSITORY, Settings
from data_exchange_center.stage import run_stage
from offline_to_online.loading import LOADER_TIMEOUT, LoadError
from offline_to_online.rank import expected_features
from online.callers.feast_caller import FeastCaller
from online.callers.redis_caller import RedisCaller
from online.callers.types import ServiceUnavailable

ENTITIES: tuple[Entity, ...] = ("user", "item")
READS = (catalogue.DATASET, *expected_features.READS)
WRITES: tuple[catalogue.Artefact, ...] = ()

REGISTRY_SECONDS = 30  # in which the running server must have taken up the new registry


def write_source(file: Path, features: pa.Table, now: datetime) -> None:
    """The entities as Feast reads them: their features and the time from which they hold."""
    stamps = pa.array([now] * len(features), pa.timestamp("us", tz="UTC"))
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(f".{os.getpid()}.tmp")
    pq.write_table(features.append_column(EVENT_TIMESTAMP, stamps), beside)
    os.replace(beside, file)


def apply_and_materialise(end: datetime) -> None:
    """`feast apply`, then `feast materialize-incremental`."""
    from feast import FeatureStore  # here: it takes seconds, and needs the variables that main sets

    from data_exchange_center.online.feast import definitions

    store = FeatureStore(repo_path=str(FEAST_REPOSITORY))
    objects: list[Any] = [
        *definitions.sources.values(),
        *definitions.entities.values(),
        *definitions.views.values(),
        *definitions.services.values(),
    ]
    store.apply(objects, partial=False)
    store.materialize_incremental(end_date=end)


def check(caller: FeastCaller, entity: Entity, features: pa.Table) -> None:
    """Reads every entity back over HTTP.

    Raises:
        LoadError: naming the first entity and feature that differ.
    """
    ids = features[JOIN_KEYS[entity]].to_pylist()
    expected = np.stack([features[name].to_numpy() for name in entity_columns(entity)], axis=1)
    found, known = caller.all_features(entity, ids)
    wrong = np.argwhere((found != expected) | ~known[:, None])
    if len(wrong):
        row, column = wrong[0]
        raise LoadError(
            f"Feast holds {found[row, column] if known[row] else 'nothing'} as {entity_columns(entity)[column]} of "
            f"{entity} {ids[row]}, loaded was {expected[row, column]}: load again."
        )


def wait_for_registry(caller: FeastCaller) -> None:
    """Returns when the server knows the feature services.

    Raises:
        ServiceUnavailable: it does not within REGISTRY_SECONDS.
    """
    deadline = time.monotonic() + REGISTRY_SECONDS
    while True:
        try:
            for entity in ENTITIES:
                caller.features(entity, [0])
            return
        except ServiceUnavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def main() -> None:
    """Parquet, apply, materialise, read back."""
    settings = Settings()
    os.environ.update(settings.feast_environment())
    data = Path(settings.feast_environment()["FEAST_DATA"])
    redis, now = RedisCaller(settings, LOADER_TIMEOUT), datetime.now(UTC)
    events = redis.events()
    tables = {entity: expected_features.expected_features(entity, events) for entity in ENTITIES}
    for entity, table in tables.items():
        write_source(data / f"{entity}.parquet", table, now)
    apply_and_materialise(now + timedelta(seconds=1))
    caller = FeastCaller(settings, LOADER_TIMEOUT)
    wait_for_registry(caller)
    events = redis.events()  # some may have come in meanwhile, and been pushed
    for entity in ENTITIES:
        check(caller, entity, expected_features.expected_features(entity, events))
    name = catalogue.load_json(catalogue.DATASET)["dataset"]
    counts = ", ".join(f"{len(table):,} {entity}s" for entity, table in tables.items())
    print(f"data set {name}: {counts} in Feast, every one read back over HTTP and equal")


if __name__ == "__main__":
    run_stage(main)
