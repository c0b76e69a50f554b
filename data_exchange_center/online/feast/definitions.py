"""Feast's entities, views and services, derived from the declaration of the features.

`feast apply` reads this file, in the loader's process and in the official container alike; it needs Feast and the
standard library only.
"""

import json
import os
from datetime import timedelta
from pathlib import Path

from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, ValueType
from feast.types import Int64

from data_exchange_center.columns import Column
from data_exchange_center.features import JOIN_KEYS, declare
from data_exchange_center.serving_names import (
    CATEGORIES_FILE,
    FEAST_HISTORY_PUSH,
    FEAST_SERVICES,
    FEAST_VIEWS,
    USER_HISTORY,
)
from data_exchange_center.vocabularies import Categories

DATA = Path(os.environ["FEAST_DATA"])
FEATURES = declare(Categories.of(json.loads((DATA / CATEGORIES_FILE).read_text("utf-8"))))

entities = {name: Entity(name=name, join_keys=[key], value_type=ValueType.INT64) for name, key in JOIN_KEYS.items()}
files = {
    view.name: FileSource(
        name=f"{view.name}_file", path=str(DATA / f"{view.name}.parquet"), timestamp_field=Column.EVENT_TIMESTAMP
    )
    for view in FEAST_VIEWS
}
# Live events push the users' history; everything else changes with a load alone.
sources = {**files, USER_HISTORY.name: PushSource(name=FEAST_HISTORY_PUSH, batch_source=files[USER_HISTORY.name])}
views = {
    view.name: FeatureView(
        name=view.name,
        entities=[entities[view.entity]],
        ttl=timedelta(0),  # values never expire: the loader replaces them
        schema=[Field(name=name, dtype=Int64) for name in (JOIN_KEYS[view.entity], *view.columns(FEATURES))],
        source=sources[view.name],
    )
    for view in FEAST_VIEWS
}
services = {
    entity: FeatureService(name=name, features=[views[view.name] for view in FEAST_VIEWS if view.entity == entity])
    for entity, name in FEAST_SERVICES.items()
}

# `feast apply` collects the objects that are names of the module.
user, item = entities["user"], entities["item"]
user_profile, user_history, item_features = views.values()
ml_user, ml_item = services["user"], services["item"]
