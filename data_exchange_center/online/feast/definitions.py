"""Feast's entities, views and services, derived from the declaration of the features.

`feast apply` reads this file, in the loader's process and in the official container alike; it needs Feast and the
standard library only.
"""

import os
from datetime import timedelta
from pathlib import Path

from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, ValueType
from feast.types import Int64

from data_exchange_center.columns import EVENT_TIMESTAMP
from data_exchange_center.features import JOIN_KEYS, entity_columns
from data_exchange_center.serving_names import FEAST_SERVICES, FEAST_USER_PUSH, FEAST_VIEWS

DATA = Path(os.environ["FEAST_DATA"])

entities = {name: Entity(name=name, join_keys=[key], value_type=ValueType.INT64) for name, key in JOIN_KEYS.items()}
files = {
    name: FileSource(name=f"{name}_file", path=str(DATA / f"{name}.parquet"), timestamp_field=EVENT_TIMESTAMP)
    for name in entities
}
# Live events push users' features; items change with a load alone.
sources = {"user": PushSource(name=FEAST_USER_PUSH, batch_source=files["user"]), "item": files["item"]}
views = {
    name: FeatureView(
        name=FEAST_VIEWS[name],
        entities=[entity],
        ttl=timedelta(0),  # never too old: the loader replaces the values
        schema=[Field(name=JOIN_KEYS[name], dtype=Int64)]
        + [Field(name=column, dtype=Int64) for column in entity_columns(name)],
        source=sources[name],
    )
    for name, entity in entities.items()
}
services = {name: FeatureService(name=FEAST_SERVICES[name], features=[view]) for name, view in views.items()}

# `feast apply` collects the objects that are names of the module.
user, item = entities["user"], entities["item"]
user_features, item_features = views["user"], views["item"]
ml_user, ml_item = services["user"], services["item"]
