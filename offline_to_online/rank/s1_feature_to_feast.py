"""Loads the entities' features into Feast, and reads them back over HTTP: above LOAD_CHECK_UP_TO a sample of them.

    python -m offline_to_online.rank.s1_feature_to_feast

Each view's features go to parquet (Feast's offline store); `feast apply` registers the repository in
data_exchange_center/online/feast, and `feast materialize` fills the online store (database 1 of the same Redis). Both
through Feast's Python interface, in one process: as commands they spend 20 seconds importing. With ENGINE=spark it is
Feast's Spark engine that materialises: the executors write the rows into the online store.

Of two rows of an entity Feast keeps the later one. A row that was loaded or pushed while the clock ran ahead would stay
for as long, so where Feast does not hold what was loaded, its rows are deleted and loaded again: the last load wins.
"""

import json
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from data_exchange_center import catalogue
from data_exchange_center.artefact import Artefacts
from data_exchange_center.columns import Column
from data_exchange_center.features import JOIN_KEYS, Entity, FeatureSet
from data_exchange_center.serving_names import CATEGORIES_FILE, FEAST_VIEWS
from data_exchange_center.settings import FEAST_REPOSITORY, Settings
from data_exchange_center.stage import run_stage
from data_exchange_center.tables import to_matrix
from data_exchange_center.vocabularies import Categories
from offline.engines.engine import check_pyspark
from offline_to_online.loader import LOADER_TIMEOUT, LoadError, how_many_checked, rows_to_check
from offline_to_online.rank import expected_features
from online.callers.feast_caller import FeastCaller
from online.callers.redis_caller import RedisCaller
from online.callers.redis_stores import redis_caller
from online.callers.types import ServiceUnavailable

if TYPE_CHECKING:
    from feast import FeatureStore

ENTITIES: tuple[Entity, ...] = ("user", "item")
READS = expected_features.READS
WRITES: Artefacts = ()

MARGIN = timedelta(seconds=1)
REGISTRY_SECONDS = 30  # in which the running server must have read the new registry
REGISTRY_POLL = 0.5  # seconds between two requests


def write_source(file: Path, features: pa.Table, now: datetime) -> None:
    """Writes a view's parquet file: the features of its entities, and the time from which they hold."""
    stamps = pa.array([now] * len(features), pa.timestamp("us", tz="UTC"))
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(f".{os.getpid()}.tmp")
    pq.write_table(features.append_column(Column.EVENT_TIMESTAMP, stamps), beside)
    os.replace(beside, file)


def write_categories(file: Path, categories: Categories) -> None:
    """Writes the categories of the data set, which the declaration of the features follows, for `feast apply`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(f".{os.getpid()}.tmp")
    beside.write_text(json.dumps(asdict(categories), ensure_ascii=False), "utf-8")
    os.replace(beside, file)


def apply(settings: Settings) -> "FeatureStore":
    """`feast apply`, and the repository's store.

    A view that only an earlier version of this project declared is removed from the registry and the online store.
    Otherwise Feast would go on filling it, and a push to a source that it shares with a present view would fail.
    """
    # Here, because it takes seconds and needs the variables that main sets.
    from feast import FeatureStore
    from feast.repo_config import load_repo_config

    from data_exchange_center.online.feast import definitions

    configuration = load_repo_config(FEAST_REPOSITORY, settings.feast_configuration)
    if settings.engine == "spark":
        # Not in the file, which the feature server reads too: it has no Spark.
        configuration.batch_engine_config = {"type": "spark.engine"}
    store = FeatureStore(repo_path=str(FEAST_REPOSITORY), config=configuration)
    objects: list[Any] = [
        *definitions.sources.values(),
        *definitions.entities.values(),
        *definitions.views.values(),
        *definitions.services.values(),
    ]
    obsolete = [view for view in store.list_feature_views() if view.name not in definitions.views]
    store.apply(objects, objects_to_delete=obsolete, partial=False)
    return store


def engine_session(settings: Settings) -> AbstractContextManager[object]:
    """With ENGINE=spark the session that Feast's Spark engine will find and use, which ends with the block.

    Raises:
        EngineError: Spark is not installed, or its master does not respond.
    """
    if settings.engine != "spark":
        return nullcontext()
    check_pyspark()
    from offline.engines.spark_session import start_session

    session: AbstractContextManager[object] = start_session(settings)
    return session


def materialise(store: "FeatureStore", moment: datetime) -> None:
    """`feast materialize` of the rows that hold from this moment.

    Not materialize-incremental: that begins where the last one ended, and the clock may have been set back since.
    """
    store.materialize(moment - MARGIN, moment + MARGIN)


def delete_rows(store: "FeatureStore") -> None:
    """Deletes the rows of all views from the online store."""
    from feast.infra.online_stores.redis import RedisOnlineStore

    for view in store.list_feature_views():
        RedisOnlineStore().delete_table(store.config, view)


def make_room(store: "FeatureStore", redis: RedisCaller, feature_hash: str) -> None:
    """Deletes the rows of another data set: whoever has an id of it here would be taken for who had it there."""
    if redis.feast_features() != feature_hash:
        delete_rows(store)
        redis.set_feast_features(feature_hash)


def check(caller: FeastCaller, declared: FeatureSet, entity: Entity, features: pa.Table) -> None:
    """Reads every entity back over HTTP.

    Raises:
        LoadError: naming the first entity and feature that differ.
    """
    names, ids = declared.entity_columns(entity), features[JOIN_KEYS[entity]].to_pylist()
    expected = to_matrix(features, names)
    found, known = caller.all_features(declared, entity, ids)
    wrong = np.argwhere((found != expected) | ~known[:, None])
    if len(wrong):
        row, column = wrong[0]
        raise LoadError(
            f"Feast holds {found[row, column] if known[row] else 'nothing'} as {names[column]} of {entity} {ids[row]}, "
            f"but {expected[row, column]} was loaded: load again."
        )


@retry(
    retry=retry_if_exception_type(ServiceUnavailable),
    wait=wait_fixed(REGISTRY_POLL),
    stop=stop_after_delay(REGISTRY_SECONDS),
    reraise=True,
)
def wait_for_registry(caller: FeastCaller, declared: FeatureSet) -> None:
    """Returns when the server knows all views.

    Raises:
        ServiceUnavailable: it does not within REGISTRY_SECONDS.
    """
    for entity in ENTITIES:
        caller.features(declared, entity, [0])


def fill(store: "FeatureStore", redis: RedisCaller, data: Path) -> dict[Entity, int]:
    """Writes the features as of now, with the events up to now, and materialises them; returns how many entities."""
    now, events, features = datetime.now(UTC), redis.events(), catalogue.DATASET.load().features
    tables = {entity: expected_features.expected_features(entity, events) for entity in ENTITIES}
    for view in FEAST_VIEWS:
        columns = [JOIN_KEYS[view.entity], *view.columns(features)]
        write_source(data / f"{view.name}.parquet", tables[view.entity].select(columns), now)
    materialise(store, now)
    return {entity: len(table) for entity, table in tables.items()}


def check_all(caller: FeastCaller, redis: RedisCaller, settings: Settings) -> None:
    """`check` of both entities, or of a sample, with the events that have come in meanwhile.

    Twice where it must be, since an event may come in between the reading of the events and that of Feast.
    """
    declared = catalogue.DATASET.load().features
    for is_last in (False, True):
        events = redis.events()
        try:
            for entity in ENTITIES:
                expected = expected_features.expected_features(entity, events)
                check(caller, declared, entity, expected.take(pa.array(rows_to_check(len(expected), settings))))
            return
        except LoadError:
            if is_last:
                raise


def main() -> None:
    """Parquet, apply, materialise, read back."""
    settings = Settings()
    os.environ.update(settings.feast_environment())
    data = Path(settings.feast_environment()["FEAST_DATA"])
    redis, caller = redis_caller(settings, LOADER_TIMEOUT), FeastCaller(settings, LOADER_TIMEOUT)
    dataset = catalogue.DATASET.load()
    write_categories(data / CATEGORIES_FILE, dataset.categories)
    store = apply(settings)
    make_room(store, redis, dataset.feature_hash)
    with engine_session(settings):
        loaded = fill(store, redis, data)
        wait_for_registry(caller, dataset.features)
        try:
            check_all(caller, redis, settings)
        except LoadError as error:
            print(f"{error}\nFeast's rows are deleted and loaded again: the clock may have been set back since.")
            delete_rows(store)
            loaded = fill(store, redis, data)
            check_all(caller, redis, settings)
    counts = ", ".join(f"{count:,} {entity}s" for entity, count in loaded.items())
    print(
        f"data set {dataset.dataset}: {counts} in Feast, {_read_back(loaded, settings)} read back over HTTP and equal"
    )


def _read_back(loaded: dict[Entity, int], settings: Settings) -> str:
    if max(loaded.values()) <= settings.load_check_up_to:
        return "every one"
    return " and ".join(
        f"every {entity}" if count <= settings.load_check_up_to else how_many_checked(count, f"{entity}s", settings)
        for entity, count in loaded.items()
    )


if __name__ == "__main__":
    run_stage(main)
